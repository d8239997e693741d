"""`python -m scripts list_rois`: which ROIs an export holds, before patterns for `--labels` are written."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.rtstruct import Roi
from scripts.core.dicom.source import read_source
from scripts.core.jobs import parallel
from scripts.core.tables import text_table
from scripts.data.dicom.convert import roi_masks
from scripts.data.dicom.patients import identity_of
from scripts.data.dicom.patterns import checked_pattern
from scripts.data.dicom.scan import NOT_IMAGES, Series, scan_tree
from scripts.data.dicom.structures import Drawn, belonging, read_structures

# share of the smaller ROI: below it two ROIs touch rather than overlap
OVERLAP = 0.02
# share of the structure sets that an ROI must be in to be proposed as a label
USUAL = 0.5


@dataclass(frozen=True)
class Request:
    """One structure set on the series that it was drawn on; all that a worker needs to measure its ROIs."""

    patient: str
    files: tuple[Path, ...]
    structures: Path
    seg: bool
    rois: tuple[Roi, ...]


@dataclass
class Measured:
    """ROIs of one structure set by what tells them apart.

    Attributes:
        ml: volume of each; None where its contours do not fit the series.
        shares: of pairs (smaller, larger): which part of the smaller one the larger one holds.
        fault: why nothing could be measured; empty where it could.
    """

    patient: str
    rois: dict[str, Roi]
    ml: dict[str, float | None] = field(default_factory=dict)
    shares: dict[tuple[str, str], float] = field(default_factory=dict)
    fault: str = ""


def list_rois(dicom_dir: str, structure_set: str = "", workers: int = 2) -> int:
    """List the ROI names of a DICOM export with counts, volumes and overlaps, and propose `--labels` for import_dicom.

    Names are shown as they stand in the files, which may identify a patient: the list is for the screen of whoever may
    see the export. Nothing is written.

    Example:
        python -m scripts list_rois export

    Args:
        dicom_dir: folder of the export.
        structure_set: regular expression that the structure set's label or description must contain.
        workers: processes.

    Returns:
        0, or 1 if there is no ROI.

    Raises:
        CaseError: the folder does not exist, or an option is wrong.
    """
    root = Path(str(dicom_dir))
    if not root.is_dir():
        raise CaseError("--dicom_dir", f"{root} is not a folder", "pass the folder of the DICOM export")
    requests, unused = _requests(root, checked_pattern("--structure_set", structure_set), workers)
    measured = parallel(measure, requests, workers, "structure sets")
    print(listing(measured))
    if unused:
        print(f"{unused} structure sets cannot be read, or their series is not in the folder.")
    return 0 if any(one.rois for one in measured) else 1


def _requests(root: Path, pattern: str, workers: int) -> tuple[list[Request], int]:
    tree = scan_tree(root, workers)
    structures = read_structures(tree, pattern, workers)
    images = [series for series in tree.series.values() if series["Modality"].upper() not in NOT_IMAGES]
    usable = [one for one in structures if not one.fault]
    drawn = [(series, one) for series in images for one in belonging(series, usable, images, tree)[0] if one.rois]
    used = {one.content.file for _, one in drawn}
    return [_request(series, one) for series, one in drawn], len(structures) - len(used)


def _request(series: Series, drawn: Drawn) -> Request:
    content = drawn.content
    return Request(identity_of(series.headers[0]).key, tuple(series.files), content.file, content.seg, drawn.rois)


def measure(request: Request) -> Measured:
    """Measure the ROIs of one structure set, from geometry alone.

    Args:
        request: the structure set and its series.

    Returns:
        Volumes and overlaps, or why there are none.
    """
    found = Measured(request.patient, _told_apart(request.rois))
    try:
        with silent_dicom():
            source = read_source(request.files, "series")
            packed = {name: _packed(request, roi, source.affine, source.shape) for name, roi in found.rois.items()}
    except Exception as error:  # the texts of foreign exceptions may repeat header values
        found.fault = error.problem if isinstance(error, CaseError) else type(error).__name__
        return found
    count = {name: None if bits is None else int(np.bitwise_count(bits).sum()) for name, bits in packed.items()}
    ml = abs(float(np.linalg.det(source.affine[:3, :3]))) / 1000
    found.ml = {name: None if n is None else n * ml for name, n in count.items()}
    for pair in combinations([name for name, n in count.items() if n], 2):
        small, large = sorted(pair, key=lambda name: count[name] or 0)
        common = int(np.bitwise_count(packed[small] & packed[large]).sum())  # type: ignore[operator]
        found.shares[small, large] = common / (count[small] or 1)
    return found


def _packed(request: Request, roi: Roi, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    try:
        (mask,) = roi_masks("series", request.structures, request.seg, [roi.number], affine, shape)
    except CaseError:
        return None
    # a bit per voxel: a planning CT with thirty ROIs would need gigabytes
    return np.packbits(mask.array)


def _told_apart(rois: Sequence[Roi]) -> dict[str, Roi]:
    """ROIs by name; by colour, else by number too where a name occurs more than once."""
    by_name: dict[str, list[Roi]] = defaultdict(list)
    for roi in rois:
        by_name[_name(roi)].append(roi)
    found = {}
    for name, alike in by_name.items():
        colours = {roi.colour for roi in alike}
        for roi in alike:
            coloured = None not in colours and len(colours) == len(alike)
            mark = "" if len(alike) == 1 else _colour(roi) if coloured else f"#{roi.number}"
            found[f"{name} {mark}".strip()] = roi
    return found


def _name(roi: Roi) -> str:
    return " ".join(roi.name.replace("\0", "").split())


def _colour(roi: Roi) -> str:
    return f"rgb({','.join(map(str, roi.colour or ()))})"


def listing(measured: Sequence[Measured]) -> str:
    """A table of all ROIs and a proposal for `--labels`.

    Args:
        measured: of every structure set.

    Returns:
        Lines of text. Names that differ in upper and lower case alone are one, as they are to `--labels`.
    """
    groups: dict[str, list[tuple[Measured, str]]] = defaultdict(list)
    for one in measured:
        for name in one.rois:
            groups[name.casefold()].append((one, name))
    volumes = {
        key: [ml for one, name in members if (ml := one.ml.get(name)) is not None] for key, members in groups.items()
    }
    order = sorted(groups, key=lambda key: (-median(volumes[key] or [0.0]), key))
    rows = [_row(groups[key], volumes[key], measured) for key in order]
    lines = [text_table(rows) or "no ROI was found", ""]
    for fault in sorted({one.fault for one in measured if one.fault}):
        number = sum(one.fault == fault for one in measured)
        lines.append(f"{number} structure sets without volumes: {fault}.")
    usual = [key for key in order if len(groups[key]) >= USUAL * len(measured) and any(volumes[key])]
    if usual:
        labels = _proposal([groups[key][0] for key in usual])
        lines.append(
            "A start for import_dicom: what at least half of the structure sets have, from the largest to the smallest\n"
            "(where two overlap, the later one wins). Rename, merge and delete as your question needs it:\n"
            f"--labels {shlex.quote(json.dumps(labels, ensure_ascii=False))}"
        )
    return "\n".join(lines).strip()


def _row(
    members: Sequence[tuple[Measured, str]], volumes: Sequence[float], measured: Sequence[Measured]
) -> dict[str, str | int]:
    shares: dict[str, list[float]] = defaultdict(list)
    shown: dict[str, str] = {}
    for one, name in members:
        for (small, large), share in one.shares.items():
            if small == name:
                shown.setdefault(large.casefold(), large)
                shares[large.casefold()].append(share)
    inside = sorted(((median(of), shown[key]) for key, of in shares.items()), reverse=True)
    span = f"{median(volumes):.3g} ({min(volumes):.3g} to {max(volumes):.3g})" if volumes else ""
    return {
        "ROI": members[0][1],
        "structure sets": f"{len(members)} of {len(measured)}",
        "patients": len({one.patient for one, _ in members}),
        "ml, median (range)": span,
        "of it in larger ROIs": ", ".join(f"{share:.0%} {name}" for share, name in inside[:4] if share >= OVERLAP),
    }


def _proposal(members: Sequence[tuple[Measured, str]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for one, name in members:
        roi = one.rois[name]
        plain = _name(roi)
        pattern = re.escape(plain).replace("\\ ", " ")
        selector = f"^{pattern}$" if name == plain and plain else name.removeprefix(plain).strip()
        stem = re.sub(r"\W+", "_", plain, flags=re.ASCII).strip("_")
        stem = stem if re.match("[A-Za-z]", stem) else f"roi_{stem}".strip("_")
        key, number = stem[:60], 2
        while key.casefold() in taken:
            key, number = f"{stem[:60]}_{number}", number + 1
        taken.add(key.casefold())
        labels[key] = selector or f"#{roi.number}"
    return labels
