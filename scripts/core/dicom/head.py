"""What every object that we add to a study begins with: patient and study from its image series, the rest new."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any

from scripts.core.dicom.source import SourceSeries

MAKER = "gynaecologic segmentation bundles (research only)"
# attributes that travel with the patient and the study; nothing else of the source does, private ones least of all
PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")


def derived_head(source: SourceSeries, sop_class: str, modality: str, description: str) -> Any:
    """A dataset in a new series of the source's study and frame of reference.

    Args:
        source: the image series.
        sop_class: UID of the SOP class.
        modality: `RTSTRUCT`, `RTDOSE` …
        description: SeriesDescription; its first 64 characters are written.

    Returns:
        A `pydicom.dataset.FileDataset`, Explicit VR Little Endian.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    first, now = source.headers[0], datetime.now()
    if first.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = first.SpecificCharacterSet
    for name in (*PATIENT, *STUDY):
        if name != "IssuerOfPatientID" or first.get(name):
            setattr(dataset, name, first.get(name) or "")
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality = modality
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = None, "1", description[:64]
    dataset.OperatorsName, dataset.Manufacturer = "", MAKER
    dataset.ManufacturerModelName, dataset.SoftwareVersions = "custom_networks", version("custom_networks")
    dataset.InstanceCreationDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.SeriesTime = now.strftime("%H%M%S")
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    return dataset
