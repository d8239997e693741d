"""Writing of a classic CT or MR series, one file a slice, for synthetic images. What is real keeps its own files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.files import atomic_file

# SOP class, and what is added to a stored value: CT is stored from -1024 HU on
CLASSES = {"CT": ("1.2.840.10008.5.1.4.1.1.2", -1024), "MR": ("1.2.840.10008.5.1.4.1.1.4", 0)}
MADE_UP = "synthetic image, no patient"


@dataclass(frozen=True)
class Study:
    """Whose series it is and what it is called.

    Args:
        patient: PatientID, and the family name.
        name: of the series; with the patient it makes the UIDs, so that the same series is written twice alike.
        description: SeriesDescription.
        date: StudyDate, `YYYYMMDD`.
    """

    patient: str
    name: str
    description: str
    date: str

    def uid(self, *what: object) -> str:
        """The UID of something that belongs to the series; the same words give the same one."""
        from pydicom.uid import generate_uid

        return str(generate_uid(entropy_srcs=[self.patient, self.name, self.description, *map(str, what)]))


def write_series(folder: str | Path, array: np.ndarray, affine: np.ndarray, modality: str, study: Study) -> list[Path]:
    """Write a series; each file atomically.

    Args:
        folder: of the files, which is made.
        array: whole numbers (columns, rows, slices): HU for CT, from 0 for MR.
        affine: 4x4 matrix from (column, row, slice) index to LPS+ mm, without shear.
        modality: `CT` or `MR`.
        study: identity.

    Returns:
        The files in the order of the slices.

    Raises:
        CaseError: values that 16 bits cannot hold.
    """
    low, high = int(array.min()) - CLASSES[modality][1], int(array.max()) - CLASSES[modality][1]
    if low < 0 or high >= 2**16:
        raise CaseError(
            study.name, f"its values cannot be stored as {modality} in 16 bits ({low} to {high})", "clip them"
        )
    files = []
    for number, dataset in enumerate(_slices(array, affine, modality, study), 1):
        path = Path(folder) / f"{number:04d}.dcm"
        with atomic_file(path) as partial:
            dataset.save_as(partial, enforce_file_format=True)
        files.append(path)
    return files


def _slices(array: np.ndarray, affine: np.ndarray, modality: str, study: Study) -> Iterator[Any]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :2] / spacing[:2]
    for z in range(array.shape[2]):
        dataset = _head(modality, study, z)
        dataset.ImagePositionPatient = _decimals(affine[:3, 3] + z * affine[:3, 2])
        dataset.ImageOrientationPatient = _decimals(axes.T.ravel())
        dataset.PixelSpacing = _decimals(spacing[[1, 0]])
        (dataset.SliceThickness,) = _decimals(spacing[2:])
        if modality == "MR":
            dataset.SpacingBetweenSlices = dataset.SliceThickness
        dataset.Columns, dataset.Rows = array.shape[:2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        stored = array[:, :, z].T.astype(np.int32) - CLASSES[modality][1]
        dataset.PixelData = np.ascontiguousarray(stored.astype("<u2")).tobytes()
        yield dataset


def _decimals(values: np.ndarray) -> list[Any]:
    """Decimal strings, which have at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _head(modality: str, study: Study, z: int) -> Any:
    """All but geometry and pixels, with every attribute of type 1 and 2 of the CT and the MR image."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        UID(CLASSES[modality][0]),
        UID(study.uid("image", z)),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.PatientName = study.patient, f"{study.patient}^Synthetic"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientPosition = "", "F", "HFS"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.uid("study"), study.uid("series")
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = study.uid("frame"), ""
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = study.name[:16], "", ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = study.date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.Modality, dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.InstanceNumber = modality, 1, 1, z + 1
    dataset.StudyDescription, dataset.SeriesDescription, dataset.ImageComments = MADE_UP, study.description, MADE_UP
    dataset.Manufacturer, dataset.ImageType, dataset.QualityControlImage = MADE_UP, ["DERIVED", "PRIMARY"], "YES"
    if modality == "CT":
        dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, CLASSES["CT"][1], "HU"
        dataset.KVP, dataset.WindowCenter, dataset.WindowWidth = None, 40, 400
    else:
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "SK", ""
        dataset.MRAcquisitionType, dataset.EchoTrainLength = "2D", None
        dataset.RepetitionTime, dataset.EchoTime = None, None
    return dataset
