"""What cannot become a release, and what is none: one sentence each, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_networks.errors import CaseError
from scripts.core.files import sha256
from scripts.sharing.package.package import package
from scripts.sharing.package.sums import write_sums
from scripts.sharing.package.verify import ABSOLUTE


def made(source: Path, tmp_path: Path, **more: Any) -> None:
    options = {"weights": str(source / "models/model.pt"), "version": "0.2.0", "changes": "x", **more}
    package(str(source), output=str(tmp_path / "made"), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "nowhere.pt"}, "weights nowhere.pt: the file does not exist; train first"),
        ({"version": "0.1.0"}, "version 0.1.0: it is not above the bundle's, 0.1.0; pass a higher --version"),
        ({"version": "new"}, "version new: it is not three numbers"),
        ({"changes": None}, "option --changes: it is missing"),
        ({"report": "nowhere"}, "give the output of `evaluate`"),
        ({"exports": ["ts", "trt"]}, "option --exports: trt is not known; choose from ts, onnx"),
        ({"check": "x.zip"}, "option --check: it makes no release; give it alone"),
    ],
)
def test_options(change: dict[str, Any], message: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError) as caught:
        made(source, tmp_path, **change)
    assert message in str(caught.value)
    assert not list(tmp_path.glob("made/*"))


@pytest.mark.parametrize("option", ["half", "synthetic"])
def test_a_check_makes_nothing(option: str) -> None:
    with pytest.raises(CaseError, match="option --check: it makes no release; give it alone"):
        package(check="x.zip", **{option: True})


def test_weights_of_another_bundle_or_without_settings(source: Path, tmp_path: Path) -> None:
    weights = torch.load(source / "models/model.pt", weights_only=True)
    del weights["settings"]
    torch.save(weights, tmp_path / "old.pt")
    with pytest.raises(CaseError, match="they carry no settings"):
        made(source, tmp_path, weights=str(tmp_path / "old.pt"))
    organ = shutil.copytree(source, tmp_path / "organ_pocketnet")
    with pytest.raises(CaseError, match="they are those of tumor_pocketnet; give weights that organ_pocketnet"):
        made(organ, tmp_path)


def test_an_earlier_release_stays(source: Path, tmp_path: Path) -> None:
    (tmp_path / "made/tumor_pocketnet").mkdir(parents=True)
    with pytest.raises(CaseError, match="it exists; give another --output"):
        made(source, tmp_path)


def test_a_path_of_this_computer(source: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(source, tmp_path / source.name)
    file = bundle / "configs/train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset_dir": "/home/someone/cases"}))
    with pytest.raises(CaseError, match=r"configs/train.json holds the path /home/someone; write it relative"):
        made(bundle, tmp_path)
    assert not list(tmp_path.glob("made/*"))


@pytest.mark.parametrize("text", ["see /home/ann/x", '"/tmp/a"', r"C:\\Users\\ann", "/Users/ann"])
def test_paths(text: str) -> None:
    assert ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ["https://x.org/data/a", "models/data/x", "and/or", "./tmp/x", "$@root + '/data'"])
def test_no_paths(text: str) -> None:
    assert not ABSOLUTE.search(text)


def test_a_network_that_metadata_does_not_describe(source: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(source, tmp_path / source.name)
    file = bundle / "configs/metadata.json"
    content = json.loads(file.read_text())
    content["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    file.write_text(json.dumps(content))
    with pytest.raises(CaseError, match=r"it does not run from its own folder .*output channel number"):
        made(bundle, tmp_path)
    assert not list(tmp_path.glob("made/*"))


def edit_text(folder: Path) -> None:
    (folder / "docs/README.md").write_text("other")


def remove_file(folder: Path) -> None:
    (folder / "models/model.ts").unlink()


def add_file(folder: Path) -> None:
    (folder / "configs/mine.json").write_text("{}")


def change_spacing(folder: Path) -> None:
    file = folder / "configs/inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spacing": [1.0, 1.0, 1.0]}))
    write_sums(folder)


def forget_changelog(folder: Path) -> None:
    file = folder / "configs/metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"changelog": {"0.1.0": "x"}}))
    write_sums(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_text, "docs/README.md is other than it was"),
        (remove_file, "models/model.ts is missing (1 differences from SHA256SUMS)"),
        (add_file, "configs/mine.json is not in SHA256SUMS"),
        (change_spacing, "says spacing [1.0, 1.0, 1.0], its weights [2.0, 2.0, 4.0]"),
        (forget_changelog, "the changelog lacks its version 0.2.0"),
    ],
)
def test_a_release_that_was_changed(change: Callable[[Path], None], message: str, unpacked: Path) -> None:
    change(unpacked)
    with pytest.raises(CaseError) as caught:
        package(check=str(unpacked))
    assert message in str(caught.value)


def test_no_release_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("nothing")
    with pytest.raises(CaseError, match="it is no zip"):
        package(check=str(tmp_path / "x.zip"))
    shutil.make_archive(str(tmp_path / "flat"), "zip", tmp_path, "x.zip")
    with pytest.raises(CaseError, match="it does not hold one folder"):
        package(check=str(tmp_path / "flat.zip"))


def test_the_quality_of_other_weights(source: Path, tmp_path: Path) -> None:
    from scripts.experiments.quality.file import Quality

    weights = ("0" * 64,)
    file = Quality(weights, 1, "", "training", "MR", {"tumor": [2]}, {}, {}).write(tmp_path / "q.json")
    with pytest.raises(CaseError, match="it was fitted for other weights"):
        made(source, tmp_path, quality=str(file))
    own = (sha256(source / "models/model.pt"),)
    file = Quality(own, 5, "", "testing", "MR", {"tumor": [2]}, {}, {}).write(tmp_path / "q.json")
    with pytest.raises(CaseError, match="for the mean of 5 networks, and a release holds one"):
        made(source, tmp_path, quality=str(file))
    assert not list(tmp_path.glob("made/*"))
