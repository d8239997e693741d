from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.dicom.convert import Conversion, LabelSource, convert
from scripts.data.dicom.labels import parse_labels

X, Y, Z = np.mgrid[:14, :12, :6]
IMAGE = (X * 7 + Y * 3 + Z).astype(np.int16)
ORGAN, TUMOUR = (abs(X - 6) < 5) & (abs(Y - 6) < 4) & (Z > 0), (abs(X - 8) < 3) & (abs(Y - 6) < 3) & (Z > 2)
RULES = parse_labels({"organ": "uterus", "tumor": "gtv"})


def voxels(path: Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj)


@pytest.fixture
def conversion(dicom: Any, tmp_path: Path) -> Conversion:
    series = dicom.series(tmp_path / "i", IMAGE, dicom.affine("sagittal", (2.0, 1.0, 5.0)))
    rois = [
        (4, "uterus", None, dicom.outlines(ORGAN, series.affine)),
        (9, "gtv", None, dicom.outlines(TUMOUR, series.affine)),
    ]
    file = dicom.rtstruct(tmp_path / "s.dcm", series, rois)
    sources = (LabelSource(RULES[1], file, False, (9,)), LabelSource(RULES[0], file, False, (4,)))
    return Conversion("p1_t1", "p1", tuple(series.files), sources, True, tmp_path / "o", notes=("noted before",))


def test_a_case_becomes_two_files_an_entry_and_its_figures(conversion: Conversion) -> None:
    outcome = convert(conversion)
    assert (outcome.outcome, outcome.notes, outcome.size) == ("imported", ["noted before"], IMAGE.shape)
    assert outcome.entry == {
        "case": "p1_t1",
        "patient": "p1",
        "image": "images/p1_t1.nii.gz",
        "label": "labels/p1_t1.nii.gz",
    }
    np.testing.assert_allclose(outcome.spacing, (2.0, 1.0, 5.0), atol=1e-6)
    assert outcome.orientation == "PIR"
    label = voxels(conversion.output_dir / "labels/p1_t1.nii.gz")
    # the later label wins whatever the order of the sources
    np.testing.assert_array_equal(label, np.where(TUMOUR, 2, ORGAN.astype(int)))
    ml = 2.0 * 1.0 * 5.0 / 1000
    assert outcome.volumes == pytest.approx({"organ": (ORGAN & ~TUMOUR).sum() * ml, "tumor": TUMOUR.sum() * ml})
    np.testing.assert_array_equal(voxels(conversion.output_dir / "images/p1_t1.nii.gz"), IMAGE)


def test_a_label_without_voxels_is_refused_or_told(conversion: Conversion, dicom: Any, tmp_path: Path) -> None:
    none = replace(conversion.sources[0], numbers=())
    refused = convert(replace(conversion, sources=(none, conversion.sources[1])))
    assert (refused.outcome, refused.finding) == ("refused", "label 'tumor' holds no voxel")
    assert not conversion.output_dir.exists()
    told = convert(replace(conversion, sources=(none, conversion.sources[1]), allow_missing=True))
    assert told.notes == ["noted before", "label 'tumor' has no voxels in the label map"]


def test_a_constant_image_is_refused(conversion: Conversion, dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "flat", np.ones_like(IMAGE))
    outcome = convert(replace(conversion, files=tuple(series.files), labelled=False))
    assert (outcome.outcome, outcome.finding) == ("refused", "its image is constant")


def test_texts_of_foreign_exceptions_are_not_repeated(conversion: Conversion, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("PLANTED^JANE")

    monkeypatch.setattr("scripts.data.dicom.convert.read_series", fail)
    outcome = convert(conversion)
    assert (outcome.outcome, outcome.finding) == ("refused", "it cannot be imported (KeyError)")
    assert "PLANTED" not in repr(outcome)


def test_contours_of_the_exclusive_or_type_stay_so(conversion: Conversion, dicom: Any, tmp_path: Path) -> None:
    def exclusive(ds: Any) -> None:
        for contour in ds.ROIContourSequence[0].ContourSequence:
            contour.ContourGeometricType = "CLOSEDPLANAR_XOR"

    series = dicom.series(tmp_path / "j", IMAGE)
    left, right = (abs(X - 5) < 3) & (abs(Y - 6) < 4), (abs(X - 8) < 3) & (abs(Y - 6) < 4)
    outlines = [*dicom.outlines(left, series.affine), *dicom.outlines(right, series.affine)]
    found = {}
    for name, edit in (("united", None), ("exclusive", exclusive)):
        file = dicom.rtstruct(tmp_path / f"{name}.dcm", series, [(1, "uterus", None, outlines)], edit=edit)
        source = LabelSource(RULES[0], file, False, (1,))
        one = replace(conversion, case=name, files=tuple(series.files), sources=(source,))
        assert convert(one).outcome == "imported"
        found[name] = voxels(conversion.output_dir / f"labels/{name}.nii.gz")
    np.testing.assert_array_equal(found["united"], left | right)
    np.testing.assert_array_equal(found["exclusive"], left ^ right)
