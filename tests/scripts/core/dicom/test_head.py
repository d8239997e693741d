"""What a new object of a study takes from its series, and what not."""

from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.dicom.head import derived_head
from scripts.core.dicom.source import read_source


def test_patient_and_study_stay_and_everything_else_is_new(dicom: Any, tmp_path: Path) -> None:
    def edit(ds: Any, _: int) -> None:
        ds.SpecificCharacterSet, ds.StationName = "ISO_IR 192", "scanner 7"
        ds.add_new(0x00091001, "LO", "private secret")

    patient = {"PatientName": "Müller^Ä", "PatientID": "ID7"}
    written = dicom.series(tmp_path, np.zeros((8, 8, 4), np.int16), patient=patient, edit=edit)
    source = read_source(written.files, "c")
    head = derived_head(source, "1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", "x" * 70)
    assert (head.PatientID, str(head.PatientName), head.SpecificCharacterSet) == ("ID7", "Müller^Ä", "ISO_IR 192")
    assert (head.StudyInstanceUID, head.FrameOfReferenceUID) == (written.study, written.frame)
    assert head.SeriesInstanceUID != written.uid
    assert head.SOPInstanceUID == head.file_meta.MediaStorageSOPInstanceUID
    assert (head.Modality, head.SeriesDescription) == ("RTDOSE", "x" * 64)
    assert "StationName" not in head
    assert 0x00091001 not in head
    assert "IssuerOfPatientID" not in head
    assert derived_head(source, "1.2.3", "RTPLAN", "").SeriesInstanceUID != head.SeriesInstanceUID
