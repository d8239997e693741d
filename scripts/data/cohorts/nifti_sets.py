"""Public sets that are published as one NIfTI file per scan: FLARE22, RibFrac, CT Images in COVID-19."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.files import atomic_file
from scripts.core.jobs import parallel
from scripts.data.cohorts.sets import Cohort
from scripts.data.dicom.outcome import LEFT_OUT, ImportOutcome, refused


@dataclass(frozen=True)
class PublishedScan:
    """One published file and where the data set refers to it from."""

    case: str
    patient: str
    file: Path
    output_dir: Path
    copy: bool


def place_file(folder: str, stem: str, file: Path, output_dir: Path, copy: bool) -> str:
    """Put a published image or label map into the data set under its case's name, which predictions are named after.

    Published names are not always distinct (every image of TotalSegmentator is `ct.nii.gz`) and may hold a date.

    Args:
        folder: `images` or `labels`.
        stem: the case's name, fit for a file.
        file: the published file.
        output_dir: folder of the datalist.
        copy: make it a copy; otherwise it is a relative symbolic link to where the file lies.

    Returns:
        The path relative to the datalist's folder.

    Raises:
        CaseError: the file system has no symbolic links.
    """
    name = f"{folder}/{stem}.nii.gz" if file.name.lower().endswith(".gz") else f"{folder}/{stem}.nii"
    placed = output_dir / name
    # a data set that was unpacked right there needs neither, and must not be replaced by a link to itself
    if placed.exists() and not placed.is_symlink() and placed.samefile(file):
        return name
    if copy:
        with atomic_file(placed) as partial:
            shutil.copyfile(file, partial)
        return name
    placed.parent.mkdir(parents=True, exist_ok=True)
    unfinished = placed.with_name(f".partial_{placed.name}")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(os.path.relpath(file.resolve(), placed.parent.resolve()))
    except OSError as error:
        raise CaseError(stem, f"{placed.parent} takes no symbolic links ({error.strerror})", "pass --copy") from None
    os.replace(unfinished, placed)
    return name


def read_geometry(case: str, file: Path) -> tuple[Any, tuple[int, ...], np.ndarray]:
    """Read a NIfTI header without the voxels; `check` reads those.

    Args:
        case: the case's name, for messages.
        file: the file.

    Returns:
        The image, its shape, its affine.

    Raises:
        CaseError: the file is empty, is not NIfTI or is not 3-D.
    """
    import nibabel as nib

    if not file.is_file() or file.stat().st_size == 0:
        raise CaseError(case, f"{file.name} is missing or empty", "download it again")
    try:
        image: Any = nib.load(file)
        shape, affine = tuple(image.shape), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel raises many kinds for damaged files
        raise CaseError(
            case, f"{file.name} cannot be read as NIfTI ({type(error).__name__})", "download it again"
        ) from None
    if len(shape) != 3 or min(shape) < 2:
        raise CaseError(
            case, f"{file.name} has shape {shape}, not that of a volume", "leave it out or download it again"
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CaseError(case, f"{file.name} has no usable geometry", "leave it out or download it again")
    return image, shape, affine


def geometry(outcome: ImportOutcome, shape: tuple[int, ...], affine: np.ndarray) -> ImportOutcome:
    """Add size, spacing and orientation to an outcome."""
    import nibabel as nib

    outcome.size = shape
    outcome.spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    outcome.orientation = "".join(nib.aff2axcodes(affine))
    return outcome


def _import(scan: PublishedScan) -> ImportOutcome:
    try:
        _, shape, affine = read_geometry(scan.case, scan.file)
        image = place_file("images", scan.case, scan.file, scan.output_dir, scan.copy)
    except CaseError as error:
        return refused(scan.case, scan.patient, error.problem, error.remedy)
    outcome = ImportOutcome(scan.case, scan.patient, entry={"case": scan.case, "patient": scan.patient, "image": image})
    return geometry(outcome, shape, affine)


def import_scans(
    key: str, cohort: Cohort, source: Path, output_dir: Path, copy: bool, workers: int
) -> list[ImportOutcome]:
    """Find the scans of a set, wherever its archives were unpacked below a folder.

    Args:
        key: short name of the set, which begins every case's name.
        cohort: the set.
        source: folder with the published files.
        output_dir: folder of the data set.
        copy: copy images instead of linking to them.
        workers: processes.

    Returns:
        An outcome per scan; scans beyond the paper's numbers and second copies are left out.
    """
    pattern = re.compile(cohort.pattern)
    scans: dict[str, dict[str, Path]] = defaultdict(dict)
    surplus = copies = 0
    for file in sorted(source.rglob("*.nii*")):
        match = pattern.fullmatch(file.name)
        if match is None or not file.is_file():
            continue
        if cohort.numbers and int(match["patient"]) > cohort.numbers:
            surplus += 1
            continue
        patient = f"{key}_{int(match['patient']):0{len(str(cohort.numbers or 9999))}d}"
        scan = match.groupdict().get("scan") or ""
        if scan in scans[patient]:
            copies += 1
        else:
            scans[patient][scan] = file
    published = []
    for patient, found in sorted(scans.items()):
        for number, scan in enumerate(sorted(found), 1):
            # what follows the number in a file's name may be a date
            case = f"{patient}_t{number}" if "scan" in pattern.groupindex else patient
            published.append(PublishedScan(case, patient, found[scan], output_dir, copy))
    outcomes = parallel(_import, published, workers, "cases")
    if surplus:
        outcomes.append(
            ImportOutcome("", "", LEFT_OUT, f"{surplus} scans, because the paper's set ends at {cohort.numbers}")
        )
    if copies:
        outcomes.append(
            ImportOutcome("", "", LEFT_OUT, f"{copies} files, because a file of the same name was found before")
        )
    missing = sorted(set(range(1, cohort.numbers + 1)) - {int(patient.rsplit("_", 1)[1]) for patient in scans})
    if missing:
        outcomes.append(
            ImportOutcome("", "", LEFT_OUT, f"{len(missing)} scans are not in the folder: {_spans(missing)}")
        )
    return outcomes


def _spans(numbers: Sequence[int], most: int = 8) -> str:
    """Numbers as spans, such as `3-5, 9`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in spans[:most]]
    return ", ".join(shown) + (", …" if len(spans) > most else "")
