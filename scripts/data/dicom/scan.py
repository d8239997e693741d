"""Finding of series in a DICOM tree, from headers alone. What a header says is kept in memory, never logged."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scripts.core.dicom.dataset import numbers, read_dataset, silent_dicom, text_of
from scripts.core.jobs import parallel
from scripts.data.dicom.patients import identity_of
from scripts.data.dicom.patterns import matches

SCOUT = re.compile(r"scout|locali[sz]er|survey|surview|topogram", re.IGNORECASE)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ARCHIVES = {".zip", ".tar", ".tgz", ".7z", ".rar"}
NOT_IMAGES = {"RTSTRUCT", "SEG"}
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "StudyTime",
    "Modality",
    "SeriesDescription",
    "ImageType",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "StructureSetLabel",
    "AccessionNumber",
    "EchoTime",
    "EchoNumbers",
    "ConvolutionKernel",
)


@dataclass(frozen=True)
class Header:
    """What sorting needs of one DICOM file; `texts` holds single values as text, empty where absent or unreadable."""

    file: Path
    texts: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


@dataclass
class Series:
    """Images of one SeriesInstanceUID that can be one volume, duplicates left out.

    Attributes:
        uid: the SeriesInstanceUID, which series that were separated share.
        headers: one per image.
        duplicates: files left out because they hold an image a second time.
        clashes: files whose SOPInstanceUID another image of the series has.
        separated: in what it differs from other series of the same SeriesInstanceUID, value by word (`echo`); empty
            where the SeriesInstanceUID holds one series.
    """

    uid: str
    headers: list[Header] = field(default_factory=list)
    duplicates: int = 0
    clashes: int = 0
    separated: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.headers[0][name]

    @property
    def key(self) -> str:
        """What tells it from all other series; the same in every scan."""
        return "|".join([self.uid, *self.separated.values()])

    @property
    def files(self) -> list[Path]:
        """Files, in the tree's order."""
        return [header.file for header in self.headers]


@dataclass
class Tree:
    """A scanned DICOM tree: series by key, files that claim to be DICOM and cannot be read, archives left closed."""

    series: dict[str, Series]
    damaged: list[Path]
    archives: list[Path]
    other_files: int

    @property
    def uids(self) -> set[str]:
        """SeriesInstanceUIDs."""
        return {series.uid for series in self.series.values()}


def is_scout(header: Header) -> bool:
    """Whether an image is a localiser."""
    return "LOCALIZER" in header["ImageType"].upper() or SCOUT.search(header["SeriesDescription"]) is not None


def kinds_of(headers: Sequence[Header]) -> list[dict[str, str]]:
    """What all images of one volume have in common, by the word for it; numbers that differ by rounding are made equal.

    Args:
        headers: of one SeriesInstanceUID.

    Returns:
        A dict for each header, all with the same keys.
    """
    orientations: list[np.ndarray] = []
    echoes: list[np.ndarray] = []
    return [
        {
            "patient": identity_of(header).key,
            "frame of reference": header["FrameOfReferenceUID"],
            "localiser": str(is_scout(header)),
            "orientation": _rounded(header["ImageOrientationPatient"], 6, orientations, absolute=0.01, relative=0),
            "echo": f"{header['EchoNumbers']}/{_rounded(header['EchoTime'], 1, echoes, absolute=0, relative=0.02)}",
            "kernel": header["ConvolutionKernel"],
        }
        for header in headers
    ]


def _rounded(text: str, count: int, met: list[np.ndarray], absolute: float, relative: float) -> str:
    """The first of the values met so far that is as good as equal, as text."""
    value = numbers(text.split("\\"), count)
    if value is None:
        return text
    close = next((one for one in met if np.allclose(value, one, rtol=relative, atol=absolute)), None)
    if close is None:
        met.append(value)
        close = value
    return "\\".join(f"{number:.3g}" for number in close + 0.0)


def read_header(file: Path) -> Header | str:
    """Read what sorting needs of one file.

    Args:
        file: any file.

    Returns:
        The header, or `other` for a file that is not DICOM, `damaged` for one that claims to be and cannot be read.
    """
    from pydicom.uid import MediaStorageDirectoryStorage

    packed = file.suffix.lower() == ".gz"
    if packed and file.name.lower().endswith((".nii.gz", ".tar.gz", ".nrrd.gz")):
        return "other"
    try:
        with gzip.open(file) if packed else file.open("rb") as stream:
            claims = stream.read(132)[128:] == b"DICM"
    except (OSError, EOFError, zlib.error):
        return "damaged"
    try:
        with silent_dicom():
            dataset = read_dataset(file, TAGS, pixels=False)
            texts = {name: text_of(dataset, name) for name in TAGS}
    except Exception:  # whatever a damaged file leads to; its text may hold header values
        return "damaged" if claims else "other"
    if not texts["SeriesInstanceUID"] or not texts["SOPInstanceUID"]:
        # a DICOMDIR has neither and is no loss, whatever it is called
        directory = dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
        return "damaged" if claims and not directory else "other"
    return Header(file, texts)


def scan_tree(root: str | Path, workers: int = 1) -> Tree:
    """Read all headers below a folder and group them by SeriesInstanceUID.

    Args:
        root: folder of any depth, in which files may be mixed at will.
        workers: processes.

    Returns:
        The tree; a SOPInstanceUID that occurs twice in a series is kept once and counted.
    """
    # a folder that may not be read is a fault to tell, not one to pass over
    closed: list[Path] = []
    walk = os.walk(root, onerror=lambda error: closed.append(Path(str(error.filename))))
    files = sorted(Path(folder, name) for folder, _, names in walk for name in names)
    # a broken link is told as damaged; pipes and the like would block
    files = [f for f in files if f.is_file() or f.is_symlink()]
    archives = [f for f in files if f.suffix.lower() in ARCHIVES]
    files = [f for f in files if f.suffix.lower() not in ARCHIVES]
    tree = Tree({}, closed, archives, 0)
    found: dict[str, list[Header]] = defaultdict(list)
    for file, header in zip(files, parallel(read_header, files, workers, "headers", "file"), strict=True):
        if isinstance(header, str):
            if header == "damaged":
                tree.damaged.append(file)
            tree.other_files += header == "other"
        else:
            found[header["SeriesInstanceUID"]].append(header)
    for uid, headers in found.items():
        for series in separate(uid, headers):
            tree.series[series.key] = series
    return tree


def separate(uid: str, headers: Sequence[Header]) -> list[Series]:
    """Sort the files of one SeriesInstanceUID into series that can be volumes.

    Exports exist in which echoes, reconstructions, orientations or even patients share a SeriesInstanceUID. What
    nothing tells apart stays together, and is refused later for images that lie at one position.

    Args:
        uid: the SeriesInstanceUID.
        headers: its files, in any order.

    Returns:
        A series per kind of image; a SOPInstanceUID that occurs twice in one is kept once and counted.
    """
    kinds = kinds_of(headers)
    differing = [word for word in kinds[0] if len({kind[word] for kind in kinds}) > 1]
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header, kind in zip(headers, kinds, strict=True):
        groups[tuple(kind[word] for word in differing)].append(header)
    result = []
    for values, members in groups.items():
        series, seen = Series(uid, separated=dict(zip(differing, values, strict=True))), dict[str, Header]()
        for header in members:
            first = seen.setdefault(header["SOPInstanceUID"], header)
            if first is header:
                series.headers.append(header)
            elif first["ImagePositionPatient"] == header["ImagePositionPatient"]:
                series.duplicates += 1
            else:
                series.clashes += 1
        result.append(series)
    return result


def unwanted(series: Series, modality: str, description: str, min_slices: int) -> str | None:
    """Say why a series is not wanted, or None if it is.

    Args:
        series: image series.
        modality: DICOM modality that is asked for, such as `MR`.
        description: regular expression that the series description must contain; empty accepts all.
        min_slices: least number of images.

    Returns:
        The reason, in words that do not repeat the header, or None.
    """
    if series["Modality"].upper() != modality.upper():
        known = {"PT": "PET", "REG": "a registration"}
        known |= {own: f"{own} (--modality {own} takes it)" for own in ("CT", "MR")}
        return f"it is {known.get(series['Modality'].upper(), 'of another modality')}, not {modality}"
    if is_scout(series.headers[0]):
        return "it is a scout"
    if series["SOPClassUID"].startswith(SECONDARY_CAPTURE):
        return "it is a secondary capture"
    if description and not matches(description, series["SeriesDescription"]):
        return "its description does not match --description"
    frames = int(series["NumberOfFrames"]) if series["NumberOfFrames"].isdecimal() else 1
    if max(len(series.headers), frames) < min_slices:
        return f"it has fewer than {min_slices} slices"
    return None
