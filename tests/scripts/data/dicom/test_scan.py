from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from scripts.data.dicom.scan import Header, Series, parallel, read_header, scan_tree, separate, unwanted

IMAGE = np.zeros((6, 5, 12), np.int16)


def header(sop: str, **values: str) -> Header:
    return Header(Path(sop), {"SOPInstanceUID": sop, "SeriesInstanceUID": "1", "PatientID": "P", **values})


def assign(name: str, value: Callable[[int], Any]) -> Callable[[Any, int], None]:
    return lambda ds, z: setattr(ds, name, value(z))


MIXED = {
    "echo": assign("EchoTime", lambda z: 20 if z % 2 else 80),
    "kernel": assign("ConvolutionKernel", lambda z: "SOFT" if z % 2 else "BONE"),
    "frame of reference": assign("FrameOfReferenceUID", lambda z: "1.2.3" if z % 2 else "1.2.4"),
    "patient": assign("PatientID", lambda z: "P1" if z % 2 else "P2"),
    "orientation": assign("ImageOrientationPatient", lambda z: [1, 0, 0, 0, 1, 0] if z % 2 else [0, 1, 0, 0, 0, -1]),
    "localiser": assign("ImageType", lambda z: ["ORIGINAL", "PRIMARY", "LOCALIZER" if z % 2 else "AXIAL"]),
}


@pytest.mark.parametrize("word", MIXED)
def test_what_one_series_uid_mixes_is_separated(dicom: Any, tmp_path: Path, word: str) -> None:
    written = dicom.series(tmp_path, IMAGE, edit=MIXED[word])
    tree = scan_tree(tmp_path)
    assert [len(series.headers) for series in tree.series.values()] == [6, 6]
    assert [list(series.separated) for series in tree.series.values()] == [[word], [word]]
    assert tree.uids == {written.uid}
    # the same names in every scan, whatever the order of files
    for i, file in enumerate(sorted(written.files)):
        file.rename(file.with_name(f"{99 - i}.dcm"))
    assert scan_tree(tmp_path).series.keys() == tree.series.keys()


def test_rounding_does_not_separate() -> None:
    orientation = "0.954{}\\0\\-0.298{}\\0\\1\\0"
    wobble = [
        header(str(i), EchoTime=f"{101.4 + i / 40}", ImageOrientationPatient=orientation.format(i, i)) for i in range(9)
    ]
    (series,) = separate("1", wobble)
    assert (series.key, len(series.headers), series.separated) == ("1", 9, {})


def test_a_localiser_that_sorts_first_does_not_make_the_volume_a_scout(dicom: Any, tmp_path: Path) -> None:
    dicom.series(
        tmp_path,
        IMAGE,
        edit=lambda ds, z: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]) if z == 0 else None,
    )
    reasons = {len(s.headers): unwanted(s, "MR", "", 8) for s in scan_tree(tmp_path).series.values()}
    assert reasons == {1: "it is a scout", 11: None}


def test_a_copy_is_a_duplicate_and_another_image_of_the_same_uid_a_clash() -> None:
    first = header("a", ImagePositionPatient="0")
    (series,) = separate("1", [first, header("a", ImagePositionPatient="0"), header("a", ImagePositionPatient="5")])
    assert (len(series.headers), series.duplicates, series.clashes) == (1, 1, 1)
    # of two patients whose images share their uids, neither is a copy of the other
    both = separate("1", [first, header("a", ImagePositionPatient="0", PatientID="Q")])
    assert [(len(s.headers), s.duplicates) for s in both] == [(1, 0), (1, 0)]


def test_other_files(dicom: Any, tmp_path: Path) -> None:
    written = dicom.series(tmp_path / "i", IMAGE)
    directory = tmp_path / "DICOMDIR.dcm"
    listing = pydicom.Dataset()
    listing.FileSetID, listing.file_meta = "EXPORT", pydicom.dataset.FileMetaDataset()
    listing.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    listing.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    listing.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    listing.save_as(directory, enforce_file_format=True)
    (tmp_path / "volume.nrrd").write_bytes(b"NRRD0004\ntype: short\n")
    (tmp_path / "label.nii.gz").write_bytes(gzip.compress(b"x"))
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8bcut")
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\xff\xff1.2")
    (tmp_path / "lost.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "more.tgz").write_bytes(b"")
    assert read_header(directory) == "other"
    tree = scan_tree(tmp_path)
    assert len(tree.series[written.uid].headers) == 12
    assert sorted(f.name for f in tree.damaged) == ["broken.dcm", "lost.dcm", "packed.gz"]
    assert [f.name for f in tree.archives] == ["more.tgz"]


REASONS: dict[str, tuple[dict[str, str], str | None]] = {
    "wanted": ({}, None),
    "another modality": ({"Modality": "CT"}, "it is CT (--modality CT takes it), not MR"),
    "PET": ({"Modality": "PT"}, "it is PET, not MR"),
    "unheard of": ({"Modality": "PLANTED"}, "it is of another modality, not MR"),
    "scout": ({"SeriesDescription": "3-plane LOCALISER"}, "it is a scout"),
    "capture": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "it is a secondary capture"),
    "description": ({"SeriesDescription": "DWI"}, "its description does not match --description"),
    "frames": ({"NumberOfFrames": "3"}, "it has fewer than 4 slices"),
    "many frames": ({"NumberOfFrames": "30"}, None),
}


@pytest.mark.parametrize("what", REASONS)
def test_why_a_series_is_left_out(what: str) -> None:
    values, reason = REASONS[what]
    single = "NumberOfFrames" in values
    headers = [
        header(str(i), **{"Modality": "MR", "SeriesDescription": "T2 TSE", **values}) for i in range(1 if single else 4)
    ]
    assert unwanted(Series("1", headers), "MR", "t2", 4) == reason


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(root: Any, onerror: Any) -> Any:
        onerror(PermissionError(13, "denied", str(tmp_path / "closed")))
        return iter([])

    monkeypatch.setattr("scripts.data.dicom.scan.os.walk", walk)
    assert scan_tree(tmp_path).damaged == [tmp_path / "closed"]


def test_parallel_keeps_the_order() -> None:
    assert parallel(abs, [-3, 2, -1], 1, "numbers") == [3, 2, 1]
