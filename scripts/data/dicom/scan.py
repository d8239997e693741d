"""Finding of series in a DICOM tree, from headers alone. What a header says is kept in memory, never logged."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import read_dataset, silent_dicom, text_of

T = TypeVar("T")
R = TypeVar("R")

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
    """All files of one SeriesInstanceUID, duplicates left out."""

    uid: str
    headers: list[Header] = field(default_factory=list)
    duplicates: int = 0
    clashes: int = 0

    def __getitem__(self, name: str) -> str:
        return self.headers[0][name]

    @property
    def files(self) -> list[Path]:
        """Files, in the tree's order."""
        return [header.file for header in self.headers]

    @property
    def patient_key(self) -> str:
        """What tells patients apart; falls back on name and birth date, then on the study."""
        if self["PatientID"]:
            return f"{self['IssuerOfPatientID']}|{self['PatientID']}"
        if self["PatientName"]:
            return f"name|{self['PatientName']}|{self['PatientBirthDate']}"
        return f"study|{self['StudyInstanceUID'] or self.uid}"


@dataclass
class Tree:
    """A scanned DICOM tree: series by uid, files that claim to be DICOM and cannot be read, archives left closed."""

    series: dict[str, Series]
    damaged: list[Path]
    archives: list[Path]
    other_files: int


def read_header(file: Path) -> Header | str:
    """Read what sorting needs of one file.

    Args:
        file: any file.

    Returns:
        The header, or `other` for a file that is not DICOM, `damaged` for one that claims to be and cannot be read.
    """
    try:
        with file.open("rb") as stream:
            claims = stream.read(132)[128:] == b"DICM"
    except OSError:
        return "damaged"
    try:
        with silent_dicom():
            dataset = read_dataset(file, TAGS, pixels=False)
            texts = {name: text_of(dataset, name) for name in TAGS}
    except Exception:  # whatever a damaged file leads to; its text may hold header values
        return "damaged" if claims else "other"
    if not texts["SeriesInstanceUID"] or not texts["SOPInstanceUID"]:
        # a DICOMDIR has neither and is no loss
        return "damaged" if claims and file.name.upper() != "DICOMDIR" else "other"
    return Header(file, texts)


def parallel(function: Callable[[T], R], items: Sequence[T], workers: int, description: str, chunk: int = 1) -> list[R]:
    """Map over items in processes, with a progress bar that shows rate and time left.

    Args:
        function: a function of a module's top level.
        items: what to hand it.
        workers: processes; 1 works in this one.
        description: text of the progress bar.
        chunk: items sent to a process at a time.

    Returns:
        Results in the order of the items.

    Raises:
        CaseError: the operating system killed a worker.
    """
    bar: Callable[[Iterable[R]], Iterable[R]] = lambda results: tqdm(  # noqa: E731
        results, total=len(items), desc=description, disable=None, mininterval=0.5
    )
    if workers <= 1 or len(items) <= 1:
        return list(bar(map(function, items)))
    try:
        with ProcessPoolExecutor(max_workers=min(workers, len(items)), initializer=_one_thread) as pool:
            return list(bar(pool.map(_call, repeat(function), items, chunksize=chunk)))
    except BrokenProcessPool:
        raise CaseError(
            description, "a worker process was killed, most likely for lack of memory", "use fewer --workers"
        ) from None


def _one_thread() -> None:
    """Keep torch to one thread per process: its threads do not survive a fork, and processes fill the cores."""
    import torch

    torch.set_num_threads(1)


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


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
    seen: dict[str, dict[str, Header]] = defaultdict(dict)
    for file, header in zip(files, parallel(read_header, files, workers, "headers", 64), strict=True):
        if isinstance(header, str):
            if header == "damaged":
                tree.damaged.append(file)
            tree.other_files += header == "other"
            continue
        series = tree.series.setdefault(header["SeriesInstanceUID"], Series(header["SeriesInstanceUID"]))
        first = seen[series.uid].setdefault(header["SOPInstanceUID"], header)
        if first is header:
            series.headers.append(header)
        elif first["ImagePositionPatient"] == header["ImagePositionPatient"]:
            series.duplicates += 1
        else:
            series.clashes += 1
    return tree


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
        known = {"PT": "PET", "REG": "a registration", "RTDOSE": "a dose", "RTPLAN": "a plan"}
        known |= {own: f"{own} (--modality {own} takes it)" for own in ("CT", "MR")}
        return f"it is {known.get(series['Modality'].upper(), 'of another modality')}, not {modality}"
    if "LOCALIZER" in series["ImageType"].upper() or SCOUT.search(series["SeriesDescription"]):
        return "it is a scout"
    if series["SOPClassUID"].startswith(SECONDARY_CAPTURE):
        return "it is a secondary capture"
    if description and not re.search(description, series["SeriesDescription"], re.IGNORECASE):
        return "its description does not match --description"
    frames = int(series["NumberOfFrames"]) if series["NumberOfFrames"].isdecimal() else 1
    if max(len(series.headers), frames) < min_slices:
        return f"it has fewer than {min_slices} slices"
    return None
