"""Which series become cases, whose they are and which contours are theirs; by way of the whole import."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from custom_networks import Datalist
from scripts.data.dicom.import_dicom import import_dicom

X, Y, Z = np.mgrid[:24, :18, :10]
IMAGE = (X * 7 + Y * 3 + Z).astype(np.int16)
ORGAN = (abs(X - 12) < 8) & (abs(Y - 9) < 6) & (abs(Z - 5) < 3)
TUMOUR = ORGAN & (X > 12) & (Z > 4)
LABELS = {"organ": "uterus", "tumor": "^GTV"}


def voxels(path: str | None) -> np.ndarray:
    image: Any = nib.load(str(path))
    return np.asanyarray(image.dataobj)


def run(folder: Path, labels: dict[str, str] | None = None, **options: Any) -> tuple[int, list[dict[str, str]]]:
    """Status and rows of the report of `folder/e` imported to `folder/o`."""
    status = import_dicom(str(folder / "e"), str(folder / "o"), labels, workers=1, **options)
    with (folder / "o" / "import_report.csv").open(encoding="utf-8") as stream:
        return status, list(csv.DictReader(stream))


def cases(folder: Path) -> list[Any]:
    return Datalist.read(folder / "o" / "datalist.json").cases


def two_frames(ct: Any) -> Callable[[Any], None]:
    """Name a CT besides the MR, and put the ROIs of numbers above 1 into the CT's frame of reference."""

    def edit(ds: Any) -> None:
        frame, study, series = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID, frame.FrameOfReferenceUID = ct.uid, ct.frame
        study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
        ds.ReferencedFrameOfReferenceSequence.append(frame)
        for roi in ds.StructureSetROISequence[1:]:
            roi.ReferencedFrameOfReferenceUID = ct.frame

    return edit


def test_each_roi_counts_in_its_own_frame_of_reference(dicom: Any, tmp_path: Path) -> None:
    mr = dicom.series(tmp_path / "e" / "mr", IMAGE)
    ct = dicom.series(tmp_path / "e" / "ct", IMAGE, dicom.affine("axial", origin=(0, 30, 34)), modality="CT")
    drawn = [(1, "Uterus", None, dicom.outlines(ORGAN, mr.affine)), (2, "GTV", None, dicom.outlines(TUMOUR, ct.affine))]
    dicom.rtstruct(tmp_path / "e" / "s.dcm", mr, drawn, edit=two_frames(ct))
    status, rows = run(tmp_path, LABELS)
    assert status == 1
    assert "the ROIs of label 'tumor' lie in another frame of reference" in [row["finding"] for row in rows]
    assert run(tmp_path, {"organ": "uterus"})[0] == 0
    np.testing.assert_array_equal(voxels(cases(tmp_path)[0].label), ORGAN)
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "ct"), {"tumor": "GTV"}, modality="CT", workers=1) == 0
    np.testing.assert_array_equal(voxels(Datalist.read(tmp_path / "ct/datalist.json").cases[0].label), TUMOUR)


def test_contours_of_another_frame_alone_leave_the_series_out(dicom: Any, tmp_path: Path) -> None:
    mr = dicom.series(tmp_path / "e" / "mr", IMAGE)
    drawn = [(1, "GTV", None, dicom.outlines(TUMOUR, mr.affine))]
    elsewhere = lambda ds: setattr(ds.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID", "1.2.3")  # noqa: E731
    dicom.rtstruct(tmp_path / "e" / "s.dcm", mr, drawn, edit=elsewhere)
    status, (row,) = run(tmp_path, {"tumor": "GTV"})
    assert (status, row["finding"]) == (
        1,
        "1 series, because the contours that refer to it lie in another frame of reference",
    )
    # what was drawn on its own images is its own, whatever the frame of reference is called
    dicom.rtstruct(tmp_path / "e" / "s.dcm", mr, drawn, edit=elsewhere, reference="images")
    status, (row,) = run(tmp_path, {"tumor": "GTV"})
    assert (status, row["notes"]) == (0, "its structure set names another frame of reference")


def test_two_echoes_of_one_series_become_two_cases(dicom: Any, tmp_path: Path) -> None:
    both = np.stack([IMAGE, 2 * IMAGE], -1).reshape(24, 18, 20)

    def echo(ds: Any, z: int) -> None:
        ds.EchoTime = 80 if z % 2 else 20
        ds.ImagePositionPatient = [-10, 20, 30 + 4 * (z // 2)]

    written = dicom.series(tmp_path / "e" / "i", both, edit=echo)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", written, [(1, "Uterus", None, dicom.outlines(ORGAN, written.affine))])
    status, rows = run(tmp_path, {"organ": "uterus"})
    assert status == 0
    assert {row["notes"] for row in rows} == {"its series mixes images that differ in echo and was separated"}
    found = sorted((voxels(case.image) for case in cases(tmp_path)), key=np.sum)
    np.testing.assert_array_equal(found, [IMAGE, 2 * IMAGE])
    assert all((voxels(case.label) == ORGAN).all() for case in cases(tmp_path))
    assert len({case.patient for case in cases(tmp_path)}) == 1


def test_of_separated_images_those_are_labelled_that_the_contours_were_drawn_on(dicom: Any, tmp_path: Path) -> None:
    def echo(ds: Any, z: int) -> None:
        ds.EchoTime = 80 if z % 2 else 20
        ds.ImagePositionPatient = [-10, 20, 30 + 4 * (z // 2)]

    written = dicom.series(tmp_path / "e" / "i", np.stack([IMAGE, 2 * IMAGE], -1).reshape(24, 18, 20), edit=echo)

    def on_the_second(ds: Any) -> None:
        for item in ds.ROIContourSequence[0].ContourSequence:
            image = Dataset()
            image.ReferencedSOPInstanceUID = written.sops[5]
            item.ContourImageSequence = [image]

    outlines = dicom.outlines(ORGAN, written.affine)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", written, [(1, "Uterus", None, outlines)], edit=on_the_second)
    status, rows = run(tmp_path, {"organ": "uterus"})
    assert (status, [row["outcome"] for row in rows].count("imported")) == (0, 1)
    np.testing.assert_array_equal(voxels(cases(tmp_path)[0].image), 2 * IMAGE)


def test_images_that_nothing_tells_apart_are_refused(dicom: Any, tmp_path: Path) -> None:
    place = lambda ds, z: ds.ImagePositionPatient.__setitem__(2, 30 + 4 * (z // 2))  # noqa: E731
    dicom.series(tmp_path / "e" / "i", np.repeat(IMAGE, 2, 2), edit=place)
    status, (row,) = run(tmp_path)
    assert status == 1
    assert "10 of its images lie where another one lies" in row["finding"]


def test_patients_who_share_a_series_uid_keep_their_own_contours(dicom: Any, tmp_path: Path) -> None:
    first = dicom.series(tmp_path / "e" / "a", IMAGE, patient={"PatientID": "P1"})
    same = lambda ds, z: setattr(ds, "SeriesInstanceUID", first.uid)  # noqa: E731
    second = dicom.series(tmp_path / "e" / "b", 2 * IMAGE, frame=first.frame, patient={"PatientID": "P2"}, edit=same)
    dicom.rtstruct(tmp_path / "e" / "a.dcm", first, [(1, "Uterus", None, dicom.outlines(ORGAN, first.affine))])
    second.uid = first.uid
    dicom.rtstruct(tmp_path / "e" / "b.dcm", second, [(1, "Uterus", None, dicom.outlines(TUMOUR, first.affine))])
    assert run(tmp_path, {"organ": "uterus"})[0] == 0
    found = {int(voxels(case.image).max() / IMAGE.max()): voxels(case.label) for case in cases(tmp_path)}
    np.testing.assert_array_equal(found[1], ORGAN)
    np.testing.assert_array_equal(found[2], TUMOUR)
    assert len({case.patient for case in cases(tmp_path)}) == 2


def test_a_missing_issuer_or_birth_date_makes_no_second_patient(dicom: Any, tmp_path: Path) -> None:
    whole = {"PatientID": "7", "IssuerOfPatientID": "CLINIC", "PatientBirthDate": "19500101"}
    for i, patient in enumerate([{"PatientID": "7"}, whole, {**whole, "IssuerOfPatientID": ""}]):
        dicom.series(tmp_path / "e" / str(i), IMAGE, patient=patient)
    _, rows = run(tmp_path)
    assert len(rows) == 3
    assert len({case.patient for case in cases(tmp_path)}) == 1
    assert {row["notes"] for row in rows} == {""}
    dicom.series(tmp_path / "e" / "other", IMAGE, patient={**whole, "PatientBirthDate": "19600101"})
    _, rows = run(tmp_path)
    assert len({case.patient for case in cases(tmp_path)}) == 2
    assert "also occurs with another birth date; taken for two patients" in " ".join(row["notes"] for row in rows)


def test_an_id_that_stands_for_all_is_refused_unless_every_study_is_a_patient(dicom: Any, tmp_path: Path) -> None:
    for i in range(3):
        dicom.series(tmp_path / "e" / str(i), IMAGE, patient={"PatientID": "ANON", "PatientName": "ANON"})
    status, rows = run(tmp_path)
    assert status == 1
    assert [row["finding"][:41] for row in rows] == ["it says nothing of whose it is (no patien"] * 3
    assert "--patients each" in rows[0]["remedy"]
    status, rows = run(tmp_path, patients="each")
    assert status == 0
    assert len({case.patient for case in cases(tmp_path)}) == 3
    assert rows[0]["notes"] == "it has no patient identity and was taken for a patient of its own"


def test_a_second_import_keeps_folds_held_out_patients_and_unknown_entries(dicom: Any, tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        dicom.series(tmp_path / "e" / patient, IMAGE, patient={"PatientID": patient})
    run(tmp_path)
    file = tmp_path / "o" / "datalist.json"
    content = json.loads(file.read_text())
    held_out, kept = content["training"]
    kept["fold"], kept["scanner"], content["comment"] = 3, "A", "ours"
    content["training"], content["testing"] = [kept], [held_out]
    file.write_text(json.dumps(content))
    for patient in ("P1", "P2", "P3"):
        late = {"PatientID": patient, "StudyDate": "20210101"}
        dicom.series(tmp_path / "e" / f"{patient}late", IMAGE, patient=late)
    run(tmp_path)
    after = json.loads(file.read_text())
    assert after["comment"] == "ours"
    assert {case["patient"] for case in after["testing"]} == {held_out["patient"]}
    assert len(after["testing"]) == 2
    folds = {(case["patient"] == kept["patient"], case.get("fold")) for case in after["training"]}
    assert folds == {(True, 3), (False, None)}
    assert [case.get("scanner") for case in after["training"]].count("A") == 1
