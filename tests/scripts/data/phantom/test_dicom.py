"""The phantom's DICOM through the project's own import: the image exact, the contours those of the label map."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from scripts.__main__ import main
from scripts.core.datalist import Datalist
from scripts.data.phantom.dicom import right_handed

LABELS = {
    "mr": "{organ: '^organ$', tumor: '^tumor$'}",
    "ct": "{HR-CTV: 'HR-CTV', bladder: bladder, rectum: rectum, uterus: uterus, sigmoid: sigmoid}",
}


def canonical(path: str | None) -> Any:
    return nib.as_closest_canonical(nib.load(str(path)))


@pytest.mark.parametrize(("modality", "plane"), [("mr", "axial"), ("mr", "sagittal"), ("ct", "axial")])
def test_import_gives_back_image_and_labels(tmp_path: Path, modality: str, plane: str) -> None:
    words = ["phantom", "--modality", modality, "--plane", plane, "--cases", "2", "--seed", "5", "--matrix", "72"]
    words += ["--slices", "20", "--tumor_mm", "30,60", "--workers", "1", "--dicom", "--output", str(tmp_path / "drawn")]
    assert main(words) == 0
    words = ["import_dicom", str(tmp_path / "drawn/dicom"), str(tmp_path / "data"), "--modality", modality.upper()]
    assert main([*words, "--labels", LABELS[modality], "--workers", "1"]) == 0
    drawn, imported = (Datalist.read(tmp_path / name / "datalist.json") for name in ("drawn", "data"))
    assert len(imported.cases) == 2
    assert dict(imported.labels) == dict(drawn.labels)
    for case in imported.cases:
        # pseudonyms say nothing about which is which: the image does
        image = canonical(case.image)
        (original,) = (one for one in drawn.cases if np.array_equal(image.dataobj, canonical(one.image).dataobj))
        np.testing.assert_allclose(image.affine, canonical(original.image).affine, atol=1e-4)
        found, truth = (np.asarray(canonical(one.label).dataobj) for one in (case, original))
        for value in np.unique(truth)[1:]:
            both = np.count_nonzero((found == value) & (truth == value))
            assert 2 * both / (np.count_nonzero(found == value) + np.count_nonzero(truth == value)) >= 0.99


def test_time_points_are_studies_of_one_patient(tmp_path: Path) -> None:
    words = ["phantom", "--cases", "3", "--time_points", "3", "--folds", "1", "--matrix", "32", "--slices", "8"]
    assert main([*words, "--dicom", "--workers", "1", "--output", str(tmp_path)]) == 0
    heads = [pydicom.dcmread(folder / "0001.dcm") for folder in sorted((tmp_path / "dicom").iterdir())]
    case_of = {head.StudyID: head for head in heads}
    assert len(case_of) == len({head.StudyInstanceUID for head in heads}) == 3
    patients = {name.split("_")[0] for name in case_of}
    assert {head.PatientID for head in heads} == {f"PHANTOM-0-{name}" for name in patients}
    assert len({(head.PatientID, head.StudyDate) for head in heads}) == 3


def test_without_labels_there_is_no_structure_set(tmp_path: Path) -> None:
    words = ["phantom", "--cases", "1", "--matrix", "32", "--slices", "8", "--nolabelled", "--dicom"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    assert len(list((tmp_path / "dicom" / "p001_t1").iterdir())) == 8


def test_a_left_handed_volume_keeps_every_voxel_in_its_place() -> None:
    image = np.arange(24).reshape(2, 3, 4)
    affine = np.diag([1.0, 2.0, -3.0, 1.0])
    turned, label, other = right_handed(image, image % 2, affine)
    assert np.linalg.det(other[:3, :3]) > 0
    np.testing.assert_array_equal(label, turned % 2)
    assert turned[1, 2, 0] == image[1, 2, 3]
    np.testing.assert_array_equal(other @ [1, 2, 0, 1], affine @ [1, 2, 3, 1])
    assert right_handed(image, image, other)[0] is image
