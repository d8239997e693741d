from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from scripts.core.dicom.dataset import items, numbers, read_dataset, silent_dicom, text_of, value_of


class Undecodable:
    def get(self, name: str) -> Any:
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "PLANTED")


def test_values_that_cannot_be_decoded_are_absent() -> None:
    dataset = Undecodable()
    assert value_of(dataset, "PatientName") is None
    assert text_of(dataset, "PatientName") == ""
    assert list(items(dataset, "ROIContourSequence")) == []


@pytest.mark.parametrize("value", [None, "text", ["1", "x"], [1, float("nan")], [1, 2, 3], 5])
def test_numbers_are_finite_and_as_many_as_asked_for(value: Any) -> None:
    assert numbers(value, 2) is None


def test_texts_are_stripped_and_joined() -> None:
    ds = pydicom.Dataset()
    ds.ImageType, ds.SeriesDescription, ds.PatientName = ["ORIGINAL", "PRIMARY"], " T2\0", "DOE^JANE"
    assert [text_of(ds, n) for n in ("ImageType", "SeriesDescription", "PatientName", "Modality")] == [
        "ORIGINAL\\PRIMARY",
        "T2",
        "DOE^JANE",
        "",
    ]
    np.testing.assert_array_equal(numbers(["1", 2.5], 2), [1, 2.5])


def test_nested_items_skip_what_is_damaged() -> None:
    ds, frame, series = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = "1.2"
    frame.RTReferencedStudySequence = [series]
    ds.ReferencedFrameOfReferenceSequence = [frame, pydicom.Dataset()]
    found = items(ds, "ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence")
    assert [item.SeriesInstanceUID for item in found] == ["1.2"]


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_gets_the_transfer_syntax_that_it_has(
    dicom: Any, tmp_path: Path, implicit: bool
) -> None:
    written = dicom.series(tmp_path, np.ones((4, 3, 1), np.int16))
    bare = tmp_path / "bare"
    pydicom.dcmwrite(bare, pydicom.Dataset(pydicom.dcmread(written.files[0])), implicit_vr=implicit, little_endian=True)
    dataset = read_dataset(bare)
    assert dataset.file_meta.TransferSyntaxUID.is_implicit_VR == implicit
    assert dataset.pixel_array.tolist() == [[1] * 4] * 3


def test_silence_covers_warnings_and_logs_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    mode = pydicom.config.settings.reading_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with silent_dicom():
            warnings.warn("PLANTED", stacklevel=1)
            logging.getLogger("pydicom").error("PLANTED")
    assert caplog.text == ""
    assert pydicom.config.settings.reading_validation_mode == mode
    logging.getLogger("pydicom").error("heard again")
    assert "heard again" in caplog.text
