"""A datalist to nnU-Net's raw format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.__main__ import main

AFFINE = np.diag([-1.0, -1, 3, 1])
LABELS = {"0": "background", "1": "organ", "2": "tumor"}


def write(folder: Path, labels: dict[str, str] = LABELS, suffix: str = ".nii.gz") -> Path:
    """Four training cases of three patients in two folds, one held-out case with a label and one without."""
    sections: dict[str, list[dict[str, object]]] = {"training": [], "testing": []}
    for i in range(6):
        name = f"case {i}"
        for kind in ("image", "label"):
            voxels = np.full((6, 5, 4), i, np.int16) if kind == "image" else np.zeros((6, 5, 4), np.uint8)
            voxels[2:4, 2, 1] = 100 if kind == "image" else i % 2 + 1
            (folder / f"{kind}s").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, AFFINE), folder / f"{kind}s/{i}{suffix}")
        entry: dict[str, object] = {"case": name, "patient": f"p{max(i, 1)}", "image": f"images/{i}{suffix}"}
        if i < 5:
            entry["label"] = f"labels/{i}{suffix}"
        if i < 4:
            entry["fold"] = max(i, 1) % 2
        sections["training" if i < 4 else "testing"].append(entry)
    file = folder / "datalist.json"
    file.write_text(json.dumps({"name": "n", "modality": "MR", "labels": labels, **sections}))
    return file


def export(datalist: Path, target: Path) -> int:
    return main(["export_nnunet", str(datalist), str(target), "--workers", "1"])


def test_the_folder_is_what_nnunet_reads(tmp_path: Path) -> None:
    target = tmp_path / "raw/Dataset501_Cervix"
    assert export(write(tmp_path / "data"), target) == 0
    names = [f"case%20{i}" for i in range(6)]
    found = {f"{file.parent.name}/{file.name}" for file in target.glob("*/*.nii.gz")}
    assert found == (
        {f"imagesTr/{name}_0000.nii.gz" for name in names[:4]}
        | {f"labelsTr/{name}.nii.gz" for name in names[:4]}
        | {f"imagesTs/{name}_0000.nii.gz" for name in names[4:]}
        | {f"labelsTs/{names[4]}.nii.gz"}
    )
    # no voxel is stored twice
    for name in names[:4]:
        linked = target / "imagesTr" / f"{name}_0000.nii.gz"
        assert linked.samefile(tmp_path / f"data/images/{name[-1]}.nii.gz")
    about = json.loads((target / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "MRI"}
    assert about["labels"] == {"background": 0, "organ": 1, "tumor": 2}
    assert (about["numTraining"], about["file_ending"]) == (4, ".nii.gz")
    assert json.loads((target / "splits_final.json").read_text()) == [
        {"train": [names[0], names[1], names[3]], "val": [names[2]]},
        {"train": [names[2]], "val": [names[0], names[1], names[3]]},
    ]


def test_what_is_not_compressed_is(tmp_path: Path) -> None:
    target = tmp_path / "Dataset501_Cervix"
    assert export(write(tmp_path / "data", suffix=".nii"), target) == 0
    placed = target / "imagesTr/case%203_0000.nii.gz"
    assert gzip.decompress(placed.read_bytes()) == (tmp_path / "data/images/3.nii").read_bytes()


def test_a_bad_case_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datalist = write(tmp_path / "data")
    voxels = np.full((6, 5, 4), 7, np.uint8)
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "data/labels/2.nii.gz")
    target = tmp_path / "Dataset501_Cervix"
    assert export(datalist, target) == 1
    text = capsys.readouterr().out
    assert "not exported: case 2: label" in text
    assert "5 of 6 cases" in text
    assert json.loads((target / "dataset.json").read_text())["numTraining"] == 3
    assert all("case%202" not in fold["val"] for fold in json.loads((target / "splits_final.json").read_text()))


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("cervix", LABELS, "nnU-Net wants a folder named DatasetNNN_NAME"),
        ("Dataset501_C", {"0": "background", "2": "tumor"}, "its label values are [0, 2]; nnU-Net wants 0, 1, 2"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, labels, said: str) -> None:
    assert export(write(tmp_path / "data", labels), tmp_path / name) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / name).exists()
