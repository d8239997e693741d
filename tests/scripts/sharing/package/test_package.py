"""A release of a small bundle: alone in an empty folder it is the bundle it was made from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from custom_networks import CaseError, read_settings
from scripts.core.files import write_nifti
from scripts.sharing.package.package import package
from scripts.sharing.package.sums import wrong_sums
from scripts.sharing.segment.segment import segment


@pytest.fixture
def scan(blob: np.ndarray, tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "scan.nii.gz", blob, np.diag([-2.0, -2.0, 4.0, 1.0]))


def test_alone_it_gives_the_voxels_of_its_bundle(
    source: Path, unpacked: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dataset_dir": str(scan), "output_dir": str(tmp_path / "bundle")}
    monkeypatch.chdir(source)
    run(config_file="configs/inference.json", num_workers=0, **options)
    options["output_dir"] = str(tmp_path / "release")
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "monai.bundle",
            "run",
            "--config_file",
            "configs/inference.json",
            "--num_workers",
            "0",
            *words,
        ],
        cwd=unpacked,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        check=True,
        capture_output=True,
    )
    ours, alone = (np.asarray(nib.load(tmp_path / n / "scan_pred.nii.gz").dataobj) for n in ("bundle", "release"))
    assert {1, 2} <= set(np.unique(ours).tolist())
    np.testing.assert_array_equal(alone, ours)


def test_segment_takes_the_zip(release: Path, source: Path, scan: Path, tmp_path: Path) -> None:
    for name, bundle in {"zip": release, "folder": source}.items():
        assert segment(str(scan), str(tmp_path / name), str(bundle), formats=["nifti"]) == 0
    found = [np.asarray(nib.load(tmp_path / name / "scan/label.nii.gz").dataobj) for name in ("zip", "folder")]
    assert found[0].any()
    np.testing.assert_array_equal(*found)
    # the release brings what was fitted for its weights, bound to its own file of them
    assert "too few" in (tmp_path / "zip/signs.csv").read_text()
    assert not (tmp_path / "folder/signs.csv").exists()


def network(folder: Path) -> torch.nn.Module:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs/inference.json"))
    parser.update({"bundle_root": str(folder)})
    found: torch.nn.Module = parser.get_parsed_content("network_def").eval()
    found.load_state_dict(torch.load(folder / "models/model.pt", weights_only=True))
    return found


def test_model_ts_is_the_network(source: Path, unpacked: Path, blob: np.ndarray) -> None:
    extra = {"inference.json": "", "metadata.json": ""}
    exported = torch.jit.load(unpacked / "models/model.ts", _extra_files=extra)
    image = torch.from_numpy(blob.astype(np.float32))[None, None, :32, :32]
    image = torch.nn.functional.pad((image - image.mean()) / image.std(), (2, 2))
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        ours, theirs = network(source)(image), exported(image)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert len(ours.argmax(1).unique()) > 1
    # the configuration that travels in it has the weights' own spacing, without any file
    assert json.loads(extra["inference.json"])["spacing"] == read_settings(unpacked / "models/model.pt")["spacing"]
    assert json.loads(extra["metadata.json"])["version"] == "0.2.0"
    content = (unpacked / "models/model.ts").read_bytes()
    for place in (unpacked.parent.name, sys.prefix, str(Path(torch.__file__).parent)):
        assert place.encode() not in content


def test_configurations_hold_plain_values(unpacked: Path, source: Path) -> None:
    settings = read_settings(source / "models/model.pt")
    assert settings["spacing"] == [2.0, 2.0, 4.0]
    own = {key: value for key, value in settings.items() if key != "bundle"}
    for name in ("train", "inference"):
        config = json.loads((unpacked / f"configs/{name}.json").read_text())
        assert {key: config[key] for key in own} == own
    assert (unpacked / "configs/small.json").read_bytes() == (source / "configs/small.json").read_bytes()
    told = json.loads((unpacked / "models/model.json").read_text())
    assert told["settings"] == settings
    assert (told["release"], told["precision"]) == ("0.2.0", "32 bit")


def test_metadata_and_readme_tell_the_report(unpacked: Path) -> None:
    meta = json.loads((unpacked / "configs/metadata.json").read_text())
    assert meta["version"] == "0.2.0"
    assert next(iter(meta["changelog"].items())) == ("0.2.0", "first weights")
    measured = {"dsc_organ": 0.8123, "hd95_mm_organ": 7.25, "dsc_tumor": 0.55, "hd95_mm_tumor": 12.04}
    assert meta["eval_metrics"] == measured
    assert meta["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32, 16]
    assert meta["least_field_of_view_mm"] == [32, 32, 32]
    assert "synthetic" not in meta
    assert {"pytorch-ignite", "nibabel", "scipy", "tqdm", "fire"} <= set(meta["required_packages_version"])
    readme = (unpacked / "docs/README.md").read_text()
    assert "| tumor | 4 | 1 | 0.550 ± 0.200 | not measured | 12.0 ± 3.0 (n = 3) | not measured |" in readme
    assert "No weights are shipped" not in readme
    assert "None is claimed" not in readme
    assert "| spacing | `[2.0, 2.0, 4.0]` |" in readme
    assert "were not stated" in (unpacked / "docs/data_license.txt").read_text()


def test_nothing_but_what_belongs_to_it(unpacked: Path, release: Path) -> None:
    assert wrong_sums(unpacked) == []
    assert (unpacked / "custom_networks/networks/pocketnet.py").is_file()
    assert not list(unpacked.rglob("__pycache__"))
    assert sorted(path.name for path in release.parent.iterdir()) == ["tumor_pocketnet", release.name]
    assert package(check=str(release)) == 0


def test_half_says_so_and_finds_the_same(source: Path, scan: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    file = str(source / "models/model.pt")
    package(str(source), file, str(made), version="0.2.0", changes="small file", half=True, exports=())
    folder = made / "tumor_pocketnet"
    kinds = {value.dtype for value in torch.load(folder / "models/model.pt", weights_only=True).values()}
    assert kinds >= {torch.float16, torch.uint8}
    assert torch.float32 not in kinds
    assert json.loads((folder / "models/model.json").read_text())["precision"] == "16 bit"
    readme = (folder / "docs/README.md").read_text()
    # none was wanted, and none is missed
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["model.json", "model.pt"]
    assert "model.ts" not in readme.split("## Overview")[0]
    assert package(check=str(folder)) == 0
    assert "stored in 16 bits" in readme
    assert "None is claimed: no report was given" in readme
    for name, bundle in {"half": folder, "whole": source}.items():
        segment(str(scan), str(tmp_path / name), str(bundle), formats=["nifti"])
    half, whole = (np.asarray(nib.load(tmp_path / n / "scan/label.nii.gz").dataobj) for n in ("half", "whole"))
    assert (half == whole).mean() > 0.999


def test_synthetic_weights_say_so_everywhere(source: Path, scan: Path, tmp_path: Path, capsys: Any) -> None:
    file, made = str(source / "models/model.pt"), tmp_path / "made"
    package(str(source), file, str(made), version="0.2.0", changes="phantoms", synthetic=True, exports=("ts", "onnx"))
    folder = made / "tumor_pocketnet"
    meta = json.loads((folder / "configs/metadata.json").read_text())
    assert meta["synthetic"] is True
    assert meta["description"].startswith("The weights were trained on synthetic images alone.")
    assert "**The weights were trained on synthetic images alone." in (folder / "docs/README.md").read_text()
    assert "are synthetic: `python -m scripts phantom` made them" in (folder / "docs/data_license.txt").read_text()
    assert json.loads((folder / "models/model.json").read_text())["settings"]["synthetic"] is True
    assert (folder / "models/model.onnx").is_file()
    # the weights say so themselves, under the bundle in the repository too
    for bundle, weights in ((folder, None), (source, str(folder / "models/model.pt")), (source, None)):
        segment(str(scan), str(tmp_path / "out"), str(bundle), weights, formats=["nifti"])
        said = json.loads((tmp_path / "out/run.json").read_text())["synthetic_weights"]
        told = "trained on synthetic images alone" in capsys.readouterr().out
        assert said is told is not (bundle is source and weights is None)
    changed = (folder / "models/model.onnx").read_bytes()
    (folder / "models/model.onnx").write_bytes(changed[: len(changed) // 2])
    with pytest.raises(CaseError, match=r"models/model\.onnx is other than it was"):
        package(check=str(folder))
