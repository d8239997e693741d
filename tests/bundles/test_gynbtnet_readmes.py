"""Every command of the GynBTNet READMEs, as it is written there, in a copy of the bundles; only sizes are made small."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire
import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, run, verify_metadata, verify_net_in_out

from custom_networks import read_settings
from custom_networks.networks.gynbtnet import VARIANTS
from scripts.__main__ import VERBS, main

REPO = Path(__file__).resolve().parents[2]
STAGES = ("gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")
PREVIOUS = dict(zip(STAGES[1:], STAGES, strict=False))
SCHEMA = Path(__file__).with_name("metadata_schema.json")
# first width and blocks per stage, as small as instance norm likes them, each variant another
WIDTHS = {"small": (2, 1), "base": (3, 1), "large": (4, 2), "huge": (6, 1)}
SIZES: dict[str, Any] = {
    "spacing": [8.0, 8.0, 8.0],
    "patch_size": [32, 32, 16],
    "decoder_width": 16,
    "epochs": 1,
    "iterations": 1,
    "batch_size": 1,
    "num_workers": 0,
}
# networks of full width; tests/bundles/test_baselines.py runs them smaller
BASELINES = ("unet.json", "dynunet.json", "segresnet.json", "swin_unetr.json")
SLOW = {"spconv.json": "its import takes up to 20 s", **dict.fromkeys(BASELINES, "of full width")}
MONAI = {f.__name__: f for f in (run, verify_metadata, verify_net_in_out, ckpt_export)}


@dataclass(frozen=True)
class Command:
    """One command line of a README and the folder, seen from the repository, that it is typed in."""

    readme: str
    folder: str
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)

    @property
    def files(self) -> list[str]:
        if "--config_file" not in self.words:
            return []
        given = self.words[self.words.index("--config_file") + 1]
        return json.loads(given.replace("'", '"')) if given.startswith("[") else [given]

    @property
    def stage(self) -> str:
        return Path(self.folder).name

    def __str__(self) -> str:
        names = "+".join(Path(file).stem for file in self.files) or self.words[3]
        return f"{self.readme}-{'torchrun-' if self.words[0] == 'torchrun' else ''}{names}"


def text_of(stage: str) -> str:
    return (REPO / "bundles" / stage / "docs" / "README.md").read_text(encoding="utf-8")


def commands(stage: str) -> list[Command]:
    """The commands of a README's blocks, and those of monai.bundle within its text."""
    text, found = text_of(stage), []
    for block in re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        lines = [line.strip() for row in block.replace("\\\n", " ").splitlines() for line in row.split("&&")]
        # a block that begins with the repository's own command is typed in the repository
        here = REPO if lines[0].startswith("python -m scripts") else REPO / "bundles" / stage
        for line in filter(None, lines):
            if line.startswith("cd "):
                here = (here / line.removeprefix("cd ")).resolve(strict=True)
            else:
                found.append(Command(stage, here.relative_to(REPO).as_posix(), line))
    inline = re.findall(
        r"`((?:/usr/bin/time -v )?python -m monai\.bundle [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=16 | 8)
    )
    for line in inline:
        found.append(Command(stage, f"bundles/{stage}", line.removeprefix("/usr/bin/time -v ")))
    return found


ALL = list(dict.fromkeys(command for stage in STAGES for command in commands(stage)))


def marked(command: Command) -> Any:
    slow = [SLOW[name] for name in map(os.path.basename, command.files) if name in SLOW]
    return pytest.param(command, id=str(command), marks=[pytest.mark.slow] if slow else [])


def write_cases(folder: Path) -> None:
    rng, cases = np.random.default_rng(0), []
    for i in range(4):
        image, label = rng.normal(-500, 50, (30, 30, 25)), np.zeros((30, 30, 25), np.uint8)
        for value in range(1, 6):
            x, y, z = rng.integers(2, 14, 3)
            place = (slice(x, x + 12), slice(y, y + 12), slice(z, z + 9))
            image[place], label[place] = 150 * value, value
        for kind, voxels in (("images", image.astype(np.int16)), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([5.0, 5.0, 5.0, 1.0])), folder / kind / f"c{i}.nii.gz")
        files = {"image": f"images/c{i}.nii.gz", "label": f"labels/c{i}.nii.gz"}
        cases.append({"case": f"c{i}", "patient": f"c{i}", **files, "fold": min(i, 1)})
    content = {"name": "t", "labels": {str(i): f"class {i}" for i in range(6)}, "modality": "CT"}
    held_out = {key: value for key, value in cases[3].items() if key != "fold"}
    (folder / "datalist.json").write_text(json.dumps({**content, "training": cases[:3], "testing": [held_out]}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cases(folder)
    return folder


@pytest.fixture
def house(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the bundles, with what the READMEs call DATA and IMAGES in every folder that commands are typed in."""
    for name, size in WIDTHS.items():
        monkeypatch.setitem(VARIANTS, name, size)
    # commands may write there
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "images").mkdir()
    shutil.copy(data / "images" / "c3.nii.gz", tmp_path / "images")
    for folder in (tmp_path, *(tmp_path / "bundles" / stage for stage in STAGES)):
        if folder != tmp_path:
            shutil.copytree(REPO / "bundles" / folder.name / "configs", folder / "configs")
        (folder / "DATA").symlink_to(tmp_path / "data")
        (folder / "IMAGES").symlink_to(tmp_path / "images")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    # ignite would remember that this process was one of a group
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    idist.utils._set_model(idist.utils._SerialModel())


def weights(house: Path, stage: str, target: Path, variant: str) -> None:
    """Untrained weights of a stage's own network."""
    parser = ConfigParser()
    parser.read_config(str(house / "bundles" / stage / "configs" / "inference.json"))
    # the folder that commands are typed in may hold weights of another stage
    parser.update({"settings": {}, "variant": variant, **{k: v for k, v in SIZES.items() if k in parser.get()}})
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), target)


def as_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of torchrun's only process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for key, value in place.items():
        monkeypatch.setenv(key, value)


def type_in(words: list[str], more: dict[str, Any]) -> None:
    """Call what `python -m monai.bundle` or `python -m scripts` calls, with the words as fire reads them."""
    module = words[words.index("-m") + 1]
    rest = words[words.index("-m") + 2 :] + [w for key, value in more.items() for w in (f"--{key}", str(value))]
    if module == "monai.bundle":
        fire.Fire(MONAI, command=rest)
    else:
        assert main(rest) == 0


@pytest.mark.parametrize("command", [marked(c) for c in ALL])
def test_command(command: Command, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house / command.folder)
    words, stage = command.words, command.stage
    if "schema.json" in words:
        shutil.copy(SCHEMA, "schema.json")
    if words[2] == "scripts":
        prepare(command, house)
        return
    folder = house / "bundles" / stage
    if any("prepared" in file for file in command.files):
        monkeypatch.chdir(house)
        prepare(next(c for c in commands(command.readme) if c.words[2] == "scripts"), house)
        monkeypatch.chdir(folder)
    if "plan.json" in command.files:
        Path("plan.json").write_text(json.dumps({"spacing": [9.0, 9.0, 9.0], "patch_size": [16, 32, 16]}))
    config = ConfigParser()
    if command.files:
        config.read_config(command.files)
    trains = "run" in words and command.files[0].endswith("train.json") and "configs/evaluate.json" not in command.files
    place_weights(command, house, config.get().get("variant", "large"), trains)
    options = {word.removeprefix("--") for word in words[words.index("-m") + 2 :] if word.startswith("--")}
    verb = MONAI[words[words.index("-m") + 2]]
    unknown = options - set(inspect.signature(verb).parameters) - set(config.get()) - {"n"}
    assert not unknown, "monai.bundle ignores such options without a word"
    sizes = small(command, folder, options & set(config.get()), set(config.get()))
    if words[0] == "torchrun":
        as_torchrun(monkeypatch)
    if "ckpt_export" in words:
        as_in_a_release(folder)
    type_in(words, sizes)
    check(command, folder, trains)


def place_weights(command: Command, house: Path, variant: str, trains: bool) -> None:
    """Where commands look for weights: of the stage itself, of its folds and of the stage before."""
    stage, folder = command.stage, house / "bundles" / command.stage
    places = [] if trains else [folder / "models" / "model.pt"]
    if "configs/ensemble.json" in command.files:
        places = [folder / "FOLDS" / f"fold{fold}" / "final.pt" for fold in range(5)]
    for place in places:
        weights(house, stage, place, variant)
    if stage in PREVIOUS:
        for place in (folder / "PATH", house / "bundles" / PREVIOUS[stage] / "models" / "model.pt"):
            weights(house, PREVIOUS[stage], place, variant)


def as_in_a_release(folder: Path) -> None:
    """The settings of the weights as plain values, which is where TorchScript may be exported."""
    file = folder / "configs" / "inference.json"
    config, found = json.loads(file.read_text()), read_settings(folder / "models" / "model.pt")
    file.write_text(json.dumps(config | {k: v for k, v in found.items() if k in config} | {"settings": {}}))


def small(command: Command, folder: Path, given: set[str], ids: set[str]) -> dict[str, Any]:
    """The sizes to add to a command: those that its configuration has, and that neither it nor a plan sets."""
    own = [file for file in command.files[1:] if not file.startswith("configs/")]
    kept = given.union(*(json.loads(Path(file).read_text()) for file in own))
    sizes = {key: value for key, value in SIZES.items() if key in ids - kept}
    if any(Path(file).name in BASELINES for file in command.files):
        sizes["patch_size"] = [64, 64, 32]  # their strides leave more than one voxel of it
    if "configs/demonstration.json" in command.files:
        # bfloat16 on a CPU is refused for deepest levels as small as these
        sizes["amp"] = False
    if "run" not in command.words:
        return {key: value for key, value in sizes.items() if key == "decoder_width"}
    if "configs/mlflow.json" in command.files:
        # mlflow keeps the database of a process open under its relative path
        sizes["output_dir"] = str(folder / "output")
    if command.words[0] == "torchrun" and command.stage == "gynbtnet_pretrain":
        # fewer cases than the batch must train, too
        sizes.pop("batch_size")
    return sizes


def prepare(command: Command, house: Path) -> None:
    """`python -m scripts preprocess`, at the small spacing."""
    (house / "sizes.json").write_text(json.dumps({key: SIZES[key] for key in ("spacing", "patch_size")}))
    type_in(command.words, {"workers": 0, "overrides": house / "sizes.json"})
    assert len(list((house / "data" / "prepared").glob("*/*/meta.json"))) == 3


def check(command: Command, folder: Path, trains: bool) -> None:
    """What a command is said to leave behind."""
    files, words, stage = command.files, command.words, command.stage
    if trains:
        state = torch.load(folder / "output" / "resume.pt", weights_only=True)
        assert state["epoch"] == 1
        assert state["iteration"] >= 1
        if any("prepared" in file for file in files):
            # nothing was prepared again
            assert len(list((folder / "DATA" / "prepared").glob("*/*/meta.json"))) == 3
        flat = torch.load(folder / "models" / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in flat.values())
        assert ("early_stop" in state) == ("configs/early_stop.json" in files)
        tracked = {"configs/small.json": None, "configs/demonstration.json": None, "configs/mlflow.json": "mlflow.db"}
        expected = next((tracked[file] for file in files if file in tracked), "tensorboard")
        assert expected is None or (folder / "output" / expected).exists()
    elif "configs/evaluate.json" in files:
        pretraining = stage == "gynbtnet_pretrain"
        saved = folder / "eval" / ("reconstructions" if pretraining else "predictions")
        case = "c3" if "testing" in words else "c0"
        assert {p.name for p in saved.iterdir()} == {f"{case}_pred.nii.gz"} | (
            {f"{case}_image.nii.gz"} if pretraining else set()
        )
        assert (folder / "eval" / "metrics.csv").is_file()
    elif words[words.index("-m") + 2] == "run":
        saved = folder / (words[words.index("--output_dir") + 1] if "--output_dir" in words else "eval")
        assert sorted(p.name for p in saved.iterdir()) == ["c3_pred.nii.gz"]
    elif "ckpt_export" in words:
        exported = torch.jit.load(folder / "models" / "model.ts")
        assert exported(torch.zeros(1, 1, 32, 32, 16)).shape[2:] == (32, 32, 16)


def test_every_override_file_has_a_command() -> None:
    for stage in STAGES:
        used = {Path(file).name for command in ALL if command.stage == stage for file in command.files}
        shipped = {path.name for path in (REPO / "bundles" / stage / "configs").glob("*.json")}
        assert shipped <= used | {"metadata.json"}


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_text_mentions_exists(stage: str) -> None:
    """Verbs, options and files that are named outside of the commands that `test_command` runs."""
    text = re.sub(r"^```.*?^```", "", text_of(stage), flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"`python -m scripts ([^`]+)`", text):
        verb, *rest = shlex.split(line)
        function = getattr(importlib.import_module(VERBS[verb][0]), verb)
        options = [word.removeprefix("--") for word in rest if word.startswith("--")]
        assert set(options) <= set(inspect.signature(function).parameters), line
    ids = {
        key for path in (REPO / "bundles" / stage / "configs").glob("*.json") for key in json.loads(path.read_text())
    }
    named = re.findall(r"`--([a-z_]+)[ `]", text)
    assert named
    assert set(named) <= ids | {"n", "exports"}
    for name in re.findall(r"`((?:configs/)?[a-z_]+\.json)`", text):
        other = {"datalist.json", "plan.json", "prepared.json", "checked.json", "training_cases.json", "model.json"}
        assert name in other or (REPO / "bundles" / stage / "configs" / Path(name).name).is_file(), name
