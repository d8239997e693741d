"""A misspelt option of `monai.bundle run` is refused; whatever else is on a command line passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom_networks import CaseError
from custom_networks.errors import check_command_line, report_case_errors

BUNDLE = Path(__file__).parents[2] / "bundles/organ_pocketnet"
RUN = ["run", "--config_file", "['configs/train.json','configs/small.json']"]


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


def test_a_bundle_says_so_before_anything_else() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", *RUN, "--epohcs", "3"],
        cwd=BUNDLE,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MONAI_DEBUG": ""},
    )
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: option --epohcs: no such id in ")


def test_mlflow_is_told_to_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    report_case_errors()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
