"""Options of `monai.bundle run`: ids that no file knows and values of the wrong kind are refused by every bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from custom_networks import CaseError, check_options
from custom_networks.options import _KINDS, check_command_line

BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / "organ_pocketnet"
RUN = ["run", "--config_file", "['configs/train.json','configs/small.json']"]
NAMES = sorted(folder.name for folder in BUNDLES.iterdir() if folder.is_dir())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--epohcs", "3"], "epochs"),
        (["--data_set_dir=d"], "dataset_dir"),
        (["--trian#dataloader#batch", "2"], "train"),
    ],
)
def test_a_misspelt_option_is_one_sentence(monkeypatch: pytest.MonkeyPatch, words: list[str], meant: str) -> None:
    monkeypatch.chdir(BUNDLE)
    with pytest.raises(CaseError, match=f"no such id in configs/train.json, .*did you mean --{meant}"):
        check_command_line([*RUN, *words])


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--epochs", "3", "--dataset_dir=d", "--train#dataloader#num_workers", "0", "--meta_file", "m.json"],
        [*RUN, "--logging_file", "l", "--tracking", "mlflow", "--run_name", "r"],
        ["run", "--config_file", "configs/absent.json", "--epohcs", "3"],
        ["run", "--epohcs", "3"],
        ["-q", "tests", "--epohcs", "3"],
    ],
)
def test_what_is_no_misspelling_passes(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(BUNDLE)
    check_command_line(words)


@pytest.mark.parametrize("name", ["lr", "gpu", "data", "model", "weights", "roi_size", "wholly_of_ones_own"])
def test_an_option_that_no_file_knows_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.chdir(BUNDLE)
    with pytest.raises(CaseError, match=f"option --{name}: no such id in configs/train.json"):
        check_command_line([*RUN, f"--{name}", "1"])
    # an args_file holds options like any other
    (tmp_path / "args.json").write_text(json.dumps({"config_file": "configs/train.json", name: 1}))
    with pytest.raises(CaseError, match=f"option --{name}: no such id in configs/train.json"):
        check_command_line(["run", "--args_file", str(tmp_path / "args.json")])


@pytest.mark.parametrize("words", [["--output_dir", "/x/run#1"], ["--dataset_dir=d#1"]])
def test_a_value_that_monai_would_change_is_refused(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(BUNDLE)
    with pytest.raises(CaseError, match=r"MONAI would read \S*#1 as \S*::1; choose a name without #"):
        check_command_line([*RUN, *words])
    # ids inside ids are written with it
    check_command_line([*RUN, "--run", "$@train#trainer.run()", "--train#dataloader", "@validate#dataloader"])


WRONG: dict[str, tuple[list[Any], str]] = {
    "spacing": (
        [[1, 1], [1, 1, 1, 1], [1, 1, 0], [1, 1, -2.0], [1, "a", 1], 3, "1,1,1", [1, 1, float("nan")]],
        "three num",
    ),
    "patch_size": ([[32, 32], [32, 32, 0], [32, 32, 16.5], 32, "big", [True, 2, 2]], "three whole numbers above 0"),
    "fold": ([-2, 0.5, "one", True, None], "a fold; pass its number from 0 on, or -1"),
    "epochs": ([0, -1, 1.5, "ten", True], "a whole number of at least 1"),
    "batch_size": ([0, "2"], "a whole number of at least 1"),
    "val_interval": ([0, 2.5], "a whole number of at least 1"),
    "num_workers": ([-1, "two"], "a whole number of at least 0"),
    "val_cases": ([0, "all"], "a whole number of at least 1"),
    "learning_rate": ([0, -1e-3, float("inf"), float("nan"), "fast"], "a number above 0"),
    "val_overlap": ([1, -0.1, "half"], "a number from 0 to below 1"),
    "foreground_ratio": ([1.5, "a third"], "a number from 0 to 1"),
    "tracker": (["wandb", True, None], "one of tensorboard, mlflow, none"),
    "device": (["gpu", 0, None], "a device; pass cpu"),
    "output_dir": ([202411, None, ["a"], True, ""], "a path; write a name of digits alone with ./ before it"),
    "resume": (["false", 1, None], "neither True nor False; write it with a capital letter"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_the_wrong_kind_is_one_sentence(name: str) -> None:
    values, wanted = WRONG[name]
    for value in values:
        with pytest.raises(CaseError, match=f"^option --{name}: {re.escape(repr(value))} is (not )?{wanted}"):
            check_options(**{name: value})


def test_what_may_be_is_taken() -> None:
    check_options(
        spacing=[0.5, 1, 3], patch_size=(32, 32, 16), fold=-1, tracker="none", device="cuda:1", val_cases=None
    )
    check_options(
        learning_rate=1e-4, val_overlap=0.0, output_dir="./2024_11", resume=False, num_workers=0, weight_decay=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_every_bundle_checks_first(name: str) -> None:
    used = set()
    for file in sorted((BUNDLES / name / "configs").glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if "initialize" in content:
            assert content["initialize"][:2] == ["$custom_networks.report_case_errors()", "@checked_options"], file
        lines = [*content.get("checked_options", []), content.get("checked_options#0", "")]
        used |= {word for line in lines for word in re.findall(r"(\w+)=@\1\b", line)}
        if file.name in {"train.json", "inference.json"}:
            # those of the pretraining bundle follow from its batch size
            derived = {key for key in ("accumulation", "iterations") if isinstance(content.get(key), str)}
            assert {key for key in content if key in _KINDS} - derived <= used, file


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("files", "option", "value"),
    [
        (["train"], "spacing", [1, 1]),
        (["train"], "tracker", "wandb"),
        (["train"], "ckpt_dir", 2024),
        (["train", "evaluate"], "ckpt_path", 2024),
        (["train", "multi_gpu_train"], "epochs", 0),
        (["inference"], "patch_size", [32, 32, -32]),
        (["inference"], "amp", "false"),
    ],
)
def test_the_bundles_ask(monkeypatch: pytest.MonkeyPatch, name: str, files: list[str], option: str, value: Any) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / name / "configs" / f"{file}.json") for file in files])
    parser.update({"device": "cpu", option: value})
    parser.get_parsed_content("imports")
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("initialize::1")
    cause: BaseException | None = raised.value
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__
    assert str(cause).startswith(f"option --{option}: {value!r} is n")
