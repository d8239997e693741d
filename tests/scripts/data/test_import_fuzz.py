"""Whatever a header holds: a case is imported or refused with a reason, and nothing raises."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custom_networks.errors import CaseError
from scripts.data.dicom.import_dicom import import_dicom
from scripts.data.dicom.scan import scan_tree

X, Y, Z = np.mgrid[:8, :6, :8]
GEOMETRY = [
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
]
TEXT = [
    "PatientID",
    "PatientName",
    "StudyDate",
    "SeriesDescription",
    "ImageType",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SpecificCharacterSet",
    "PhotometricInterpretation",
]
CONTOURS = ["ContourData", "ContourGeometricType", "ROINumber", "ROIName", "ROIDisplayColor", "ReferencedROINumber"]
VALUES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"0",
            b"-1",
            b"nan",
            b"inf",
            b"1e400",
            b"1\\2",
            b"0\\0\\0",
            b"\\\\",
            b"\xff\xfe",
            b"1\\0\\0\\0\\1\\0",
            b"99999999999999999999",
            b"..",
            b"\0\0",
            b"RTSTRUCT",
            b"1 2 3",
        ]
    ),
    st.binary(max_size=24),
)


@pytest.fixture(scope="module")
def export(dicom: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    series = dicom.series(folder / "i", (X * 5 + Y).astype(np.int16))
    ball = np.hypot(np.hypot(X - 4, Y - 3), Z - 4) < 2.5
    dicom.rtstruct(folder / "s.dcm", series, [(1, "GTV", (1, 2, 3), dicom.outlines(ball, series.affine))])
    return folder


def overwrite(dataset: Any, keyword: str, raw: bytes) -> None:
    """Put raw bytes into an element, wherever it is, so that not even the writer checks them."""
    tag = pydicom.tag.Tag(keyword)
    for item in [dataset, *(child for element in dataset for child in (element.value if element.VR == "SQ" else []))]:
        if item is not dataset and len(item):
            overwrite(item, keyword, raw)
        if tag in item or (item is dataset and keyword not in CONTOURS):
            vr = pydicom.datadict.dictionary_VR(tag)
            length = len(raw) + len(raw) % 2
            item[tag] = pydicom.dataelem.RawDataElement(tag, vr, length, raw.ljust(length), 0, False, True)


def check_import(tree: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "o"
        try:
            status = import_dicom(str(tree), str(output), {"tumor": "GTV"}, min_slices=2, workers=1)
        except CaseError:
            # one sentence on the command line; anything else would be a traceback
            return
        with (output / "import_report.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert status == (0 if any(r["outcome"] == "imported" for r in rows) else 1)
        assert rows
        for row in rows:
            assert row["outcome"] in {"imported", "refused", "left out"}
            assert row["outcome"] == "imported" or row["finding"]


SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(keyword=st.sampled_from(GEOMETRY + TEXT), raw=VALUES, every=st.booleans())
def test_image_headers(export: Path, keyword: str, raw: bytes, every: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(export, Path(folder) / "e"))
        for file in sorted((tree / "i").iterdir())[: None if every else 1]:
            dataset = pydicom.dcmread(file)
            overwrite(dataset, keyword, raw)
            dataset.save_as(file)
        check_import(tree)


@SETTINGS
@given(keyword=st.sampled_from(CONTOURS + TEXT[5:10]), raw=VALUES)
def test_structure_set_headers(export: Path, keyword: str, raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(export, Path(folder) / "e"))
        dataset = pydicom.dcmread(tree / "s.dcm")
        overwrite(dataset, keyword, raw)
        dataset.save_as(tree / "s.dcm")
        check_import(tree)


@SETTINGS
@given(position=st.floats(0, 1), junk=st.binary(max_size=12), cut=st.booleans(), which=st.sampled_from(["s.dcm", "i"]))
def test_damaged_bytes(export: Path, position: float, junk: bytes, cut: bool, which: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(export, Path(folder) / "e"))
        file = tree / which if which == "s.dcm" else min((tree / "i").iterdir())
        data = file.read_bytes()
        start = int(position * len(data))
        file.write_bytes(data[:start] + junk + (b"" if cut else data[start + len(junk) :]))
        scan_tree(tree)
        check_import(tree)
