from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.core.datalist import Case
from scripts.data.check.case import CheckedCase, examine, row

LABELS = {0: "background", 1: "organ", 2: "tumor"}


def case(folder: Path, label: np.ndarray, affine: np.ndarray | None = None) -> Case:
    image = np.random.default_rng(0).normal(300, 30, label.shape).astype(np.float32)
    affine = np.diag([2.0, 1.0, 4.0, 1.0]) if affine is None else affine
    for name, array in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    files = {"image": "image.nii.gz", "label": "label.nii.gz"}
    return Case("a", files, "p", fold=1, folder=folder)


def test_measures_along_the_patients_axes(tmp_path: Path) -> None:
    """Stored as (P, L, S): shape and spacing are told along L, P, S whatever the file's order."""
    affine = np.array([[0, -1.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]])
    label = np.zeros((10, 12, 6), np.uint8)
    label[3:6, 4:8, 2:4] = 1
    label[4:5, 5:7, 2:4] = 2
    found = examine(case(tmp_path, label, affine), "training", LABELS)
    assert (found.shape, found.spacing, found.orientation) == ((12, 10, 6), (1.0, 2.0, 4.0), "PLS")
    assert found.field_of_view == (12.0, 20.0, 24.0)
    assert found.volumes == {"organ": 20 * 8 / 1000, "tumor": 4 * 8 / 1000}
    assert (found.place, found.severity) == ("fold 1", "")
    line = row(found)
    assert line["shape"] == "12 x 10 x 6"
    assert line["verdict"] == "ok"


def test_tumour_apart_from_the_organ_and_at_a_border(tmp_path: Path) -> None:
    label = np.zeros((12, 12, 6), np.uint8)
    label[2:5, 2:5, 2:4], label[10:12, 9:11, 0:2] = 1, 2
    # stored as LAS: the high end of x is the patient's left
    found = examine(case(tmp_path, label, np.diag([-2.0, 1.0, 4.0, 1.0])), "testing", LABELS)
    assert [finding.rule for finding in found.findings] == ["cut off", "tumour outside organ"]
    assert "tumor: at the left, inferior border" in found.findings[0].sentence
    assert "0.064 ml of tumour" in found.findings[1].sentence
    assert (found.place, found.severity) == ("held out", "warning")


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    found = examine(Case("a", {"image": "none.nii.gz"}, "p", folder=tmp_path), "training", LABELS)
    assert found.severity == "error"
    assert found.picture is None
    assert row(found)["shape"] == ""
    assert row(found)["verdict"] == "error"


def test_the_worst_finding_counts() -> None:
    found = CheckedCase("a", "p", "")
    assert found.severity == ""
    found.add("warning", "one", "w")
    found.add("error", "two", "e")
    assert found.severity == "error"
    assert row(found)["findings"] == "one: w | two: e"
