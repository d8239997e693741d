"""Structure sets as planning systems take them, read back by the project's own reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.outlines import outlines
from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.write_rtstruct import DrawnRoi, write_rtstruct

SHAPE = (40, 32, 9)
# far from the scanner's centre, as in a prone patient on a long couch: many digits
ORIGIN = (-1234.56789, 987.654321, -2345.678912)


def sphere_with_hole() -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    radius = np.hypot((x - 20) * 0.7, y - 15)
    return (radius < 11) & (radius > 4) & (z > 1) & (z < 8)


def drawn(mask: np.ndarray, source: SourceSeries, name: str = "CTV^HR") -> DrawnRoi:
    slices = {int(z): outlines(mask[:, :, z], (1.5, 1.0)) for z in np.flatnonzero(mask.any(axis=(0, 1)))}
    return DrawnRoi(name, "CTV", (255, 65, 54), slices, "HR-CTV")


@pytest.fixture(params=["axial", "sagittal", "oblique"])
def source(request: Any, dicom: Any, tmp_path: Path) -> SourceSeries:
    patient = {"PatientName": "Müller^Ä", "PatientID": "ID7", "PatientBirthDate": "19500101", "PatientSex": "F"}

    def edit(ds: Any, _: int) -> None:
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.add_new(0x00091001, "LO", "private secret")

    affine = dicom.affine(request.param, spacing=(1.5, 1.0, 4.0), origin=ORIGIN)
    written = dicom.series(
        tmp_path / "ct", np.zeros(SHAPE, np.int16), affine, modality="CT", patient=patient, edit=edit
    )
    return read_source(written.files, "case")


@pytest.fixture
def file(source: SourceSeries, tmp_path: Path) -> Path:
    empty = DrawnRoi("Bladder", "ORGAN", (255, 212, 0), {})
    return write_rtstruct(tmp_path / "rt.dcm", source, [drawn(sphere_with_hole(), source), empty], "AUTO")


def test_read_back_voxel_for_voxel_with_its_hole(source: SourceSeries, file: Path) -> None:
    found = read_rtstruct(file)
    assert [roi.name for roi in found.rois] == ["CTV^HR", "Bladder"]
    assert found.rois[0].colour == (255, 65, 54)
    assert not found.rois[1].contours
    mask = contours_to_mask("case", found.rois[0].contours, source.affine, source.shape)
    np.testing.assert_array_equal(mask.array, sphere_with_hole())
    # one polygon a slice: the hole is no island of its own
    assert len(found.rois[0].contours) == np.count_nonzero(sphere_with_hole().any(axis=(0, 1)))


def test_refers_to_its_own_frame_series_and_slices(source: SourceSeries, file: Path) -> None:
    ds = pydicom.dcmread(file)
    first = source.headers[0]
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == ds.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert {roi.ReferencedFrameOfReferenceUID for roi in ds.StructureSetROISequence} == {first.FrameOfReferenceUID}
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == [
        h.SOPInstanceUID for h in source.headers
    ]
    of = {h.SOPInstanceUID: np.array(h.ImagePositionPatient, float) for h in source.headers}
    normal = source.affine[:3, 2] / np.linalg.norm(source.affine[:3, 2])
    for contour in ds.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert contour.NumberOfContourPoints == len(points)
        # every point lies in the plane of the image that the contour names
        assert np.abs((points - of[image.ReferencedSOPInstanceUID]) @ normal).max() < 2e-3


def test_no_number_is_longer_than_a_decimal_string_may_be(file: Path) -> None:
    raw = pydicom.dcmread(file).ROIContourSequence[0].ContourSequence[0]["ContourData"]
    assert max(len(str(value)) for value in raw.value) <= 16


def test_attributes_of_type_one_and_two_are_there(file: Path) -> None:
    ds = pydicom.dcmread(file)
    filled = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "StructureSetLabel")
    assert all(ds.get(name) for name in filled)
    maybe_empty = (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
        *("AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "OperatorsName", "Manufacturer"),
        *("StructureSetDate", "StructureSetTime", "PositionReferenceIndicator", "FrameOfReferenceUID"),
    )
    assert not [name for name in maybe_empty if name not in ds]
    for roi in ds.StructureSetROISequence:
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
    for seen in ds.RTROIObservationsSequence:
        assert seen.RTROIInterpretedType in {"CTV", "ORGAN"}
        assert "ROIInterpreter" in seen
    assert ds.ApprovalStatus == "UNAPPROVED"
    assert len(ds.StructureSetLabel) <= 16


def test_identity_travels_and_private_tags_do_not(source: SourceSeries, file: Path) -> None:
    ds = pydicom.dcmread(file)
    assert (str(ds.PatientName), ds.PatientID, ds.PatientSex) == ("Müller^Ä", "ID7", "F")
    assert ds.StudyInstanceUID == source.headers[0].StudyInstanceUID
    assert b"private secret" not in file.read_bytes()
    assert not [element for element in ds.iterall() if element.tag.is_private]


def test_each_file_is_new(source: SourceSeries, file: Path, tmp_path: Path) -> None:
    other = write_rtstruct(tmp_path / "other.dcm", source, [drawn(sphere_with_hole(), source)], "AUTO")
    one, two = pydicom.dcmread(file), pydicom.dcmread(other)
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.SeriesInstanceUID not in {two.SeriesInstanceUID, source.headers[0].SeriesInstanceUID}


@pytest.mark.parametrize(
    ("names", "label", "words"),
    [
        (["Bladder", "bladder"], "AUTO", "not unique"),
        (["A name of seventeen"], "AUTO", "1 to 16"),
        (["Bladder"], "a label of seventeen", "1 to 16"),
    ],
)
def test_names_that_systems_refuse(
    source: SourceSeries, tmp_path: Path, names: list[str], label: str, words: str
) -> None:
    rois = [drawn(sphere_with_hole(), source, name) for name in names]
    with pytest.raises(CaseError, match=words):
        write_rtstruct(tmp_path / "rt.dcm", source, rois, label)
    assert not (tmp_path / "rt.dcm").exists()


def test_a_contour_outside_the_image_is_refused(source: SourceSeries, tmp_path: Path) -> None:
    square = np.array([[-2.0, 1.0], [3.0, 1.0], [3.0, 4.0]])
    for polygons in ({0: [square]}, {SHAPE[2]: [square + 3]}, {0: [square + np.array([38, 0])]}):
        with pytest.raises(CaseError, match="outside the image"):
            write_rtstruct(tmp_path / "rt.dcm", source, [DrawnRoi("A", "ORGAN", (1, 2, 3), polygons)], "AUTO")
