"""Fixtures: a writer of small DICOM series and structure sets, and the folder of real samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.browser import Browser, chromium

CLASSES = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
AXES = {
    "axial": ([1, 0, 0], [0, 1, 0]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "oblique": ([0.96, 0.28, 0], [-0.2688, 0.9216, -0.28]),
}


@dataclass
class WrittenSeries:
    """What a test needs to know of a series that it wrote: `affine` maps (column, row, slice) to LPS+ mm."""

    uid: str
    study: str
    frame: str
    affine: np.ndarray
    files: list[Path] = field(default_factory=list)
    sops: list[str] = field(default_factory=list)
    patient: dict[str, str] = field(default_factory=dict)


def _file(sop_class: str, sop: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop
    return dataset


def _patient(dataset: Dataset, patient: dict[str, str]) -> None:
    for name, value in {"PatientID": "ID1", "PatientName": "A^B", "StudyDate": "20200101", **patient}.items():
        setattr(dataset, name, value)


class DicomWriter:
    """Writes series, structure sets and outlines; `uid` makes their UIDs."""

    def __init__(self, uid: Callable[[], str] = generate_uid) -> None:
        self.uid = uid

    def affine(
        self, view: str = "axial", spacing: Sequence[float] = (1.5, 1.0, 4.0), origin: Sequence[float] = (-10, 20, 30)
    ) -> np.ndarray:
        row, column = (np.array(axis, dtype=float) for axis in AXES[view])
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1] = row * spacing[0], column * spacing[1]
        matrix[:3, 2], matrix[:3, 3] = np.cross(row, column) * spacing[2], origin
        return matrix

    def series(
        self,
        folder: Path,
        array: np.ndarray,
        affine: np.ndarray | None = None,
        *,
        modality: str = "MR",
        description: str = "T2 TSE",
        study: str = "",
        frame: str = "",
        patient: dict[str, str] | None = None,
        edit: Callable[[Dataset, int], Any] | None = None,
    ) -> WrittenSeries:
        affine = self.affine() if affine is None else affine
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        written = WrittenSeries(self.uid(), study or self.uid(), frame or self.uid(), affine, patient=patient or {})
        folder.mkdir(parents=True, exist_ok=True)
        for z in range(array.shape[2]):
            sop = self.uid()
            ds = _file(CLASSES[modality], sop)
            _patient(ds, written.patient)
            ds.Modality, ds.SeriesDescription, ds.ImageType = modality, description, ["ORIGINAL", "PRIMARY"]
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (
                written.study,
                written.uid,
                written.frame,
            )
            ds.InstanceNumber, ds.SamplesPerPixel, ds.PhotometricInterpretation = z + 1, 1, "MONOCHROME2"
            ds.Columns, ds.Rows = array.shape[:2]
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.PixelSpacing, ds.SliceThickness = [spacing[1], spacing[0]], spacing[2]
            ds.ImageOrientationPatient = [
                round(float(v), 8) for v in [*affine[:3, 0] / spacing[0], *affine[:3, 1] / spacing[1]]
            ]
            ds.ImagePositionPatient = [round(float(v), 6) for v in (affine @ [0, 0, z, 1])[:3]]
            ds.PixelData = np.ascontiguousarray(array[:, :, z].T.astype("<i2")).tobytes()
            # file order says nothing about slice order
            path = folder / f"{(z * 7 + 3) % 1000:03d}_{z}.dcm"
            if edit is None or edit(ds, z) is not False:
                ds.save_as(path, enforce_file_format=True)
                written.files.append(path)
                written.sops.append(str(ds.SOPInstanceUID))
        return written

    def rtstruct(
        self,
        path: Path,
        series: WrittenSeries,
        rois: Sequence[tuple[int, str, tuple[int, int, int] | None, Sequence[np.ndarray]]],
        *,
        reference: str = "series",
        label: str = "S1",
        edit: Callable[[Dataset], Any] | None = None,
    ) -> Path:
        """`rois`: number, name, colour, contours (N, 3) in LPS mm; `reference`: series, images, frame or nothing."""
        ds = _file(RTSTRUCT, self.uid())
        _patient(ds, series.patient)
        ds.Modality, ds.StructureSetLabel, ds.SeriesDescription = "RTSTRUCT", label, "contours"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = series.study, self.uid()
        frame, study, referenced = Dataset(), Dataset(), Dataset()
        referenced.SeriesInstanceUID = series.uid
        study.RTReferencedSeriesSequence = [referenced]
        frame.FrameOfReferenceUID = series.frame
        if reference == "series":
            frame.RTReferencedStudySequence = [study]
        ds.ReferencedFrameOfReferenceSequence = [frame] if reference in {"series", "frame"} else []
        ds.StructureSetROISequence, ds.ROIContourSequence = [], []
        for number, name, colour, contours in rois:
            roi, drawn = Dataset(), Dataset()
            roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, series.frame
            drawn.ReferencedROINumber = number
            if colour is not None:
                drawn.ROIDisplayColor = list(colour)
            drawn.ContourSequence = []
            for points in contours:
                contour, image = Dataset(), Dataset()
                contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
                contour.ContourData = [round(float(v), 4) for v in np.asarray(points).ravel()]
                if reference == "images":
                    image.ReferencedSOPInstanceUID = series.sops[len(drawn.ContourSequence) % len(series.sops)]
                    contour.ContourImageSequence = [image]
                drawn.ContourSequence.append(contour)
            ds.StructureSetROISequence.append(roi)
            ds.ROIContourSequence.append(drawn)
        if edit is not None:
            edit(ds)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pydicom.config.disable_value_validation():
            ds.save_as(path, enforce_file_format=True)
        return path

    def outlines(self, mask: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
        """Contours (N, 3) in LPS mm around every region and hole of a mask (columns, rows, slices)."""
        import contourpy

        found = []
        for z in range(mask.shape[2]):
            padded = np.pad(mask[:, :, z].T.astype(float), 1)
            for line in contourpy.contour_generator(z=padded).lines(0.5):
                index = np.column_stack([line[:-1] - 1, np.full(len(line) - 1, z), np.ones(len(line) - 1)])
                found.append((index @ affine.T)[:, :3])
        return found

    def seg(self, files: list[Path], masks: np.ndarray, path: Path, kind: str = "BINARY") -> Path:
        """`masks` (slices, rows, columns, segments) in the order of the files."""
        import highdicom as hd
        from pydicom.sr.codedict import codes

        names = ["uterus", "tumour"][: masks.shape[-1]]
        segments = [
            hd.seg.SegmentDescription(
                segment_number=i,
                segment_label=name,
                segmented_property_category=codes.SCT.Tissue,
                segmented_property_type=codes.SCT.Tissue,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for i, name in enumerate(names, 1)
        ]
        sources = [pydicom.dcmread(f) for f in files]
        for ds in sources:
            ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber, ds.StudyTime, ds.StudyID = "", "", "", "", ""
            ds.ReferringPhysicianName = ""
        seg = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=masks,
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=9,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="m",
            manufacturer_model_name="m",
            software_versions="1",
            device_serial_number="1",
        )
        seg.save_as(path)
        return path


@pytest.fixture(scope="session")
def dicom() -> DicomWriter:
    return DicomWriter()


@pytest.fixture(scope="session")
def samples() -> Path:
    folder = Path(os.environ.get("GYN_SAMPLES", Path(__file__).parents[3] / "shared" / "samples"))
    if not folder.is_dir():
        pytest.skip("real samples absent: set GYN_SAMPLES")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: install chromium to look at pages as users do")
    opened = Browser(program)
    yield opened
    opened.close()
