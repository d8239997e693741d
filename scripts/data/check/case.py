"""What `check` finds out about one case: its geometry, its labels, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.core.look import slice_picture
from scripts.core.reading import check_files, one_sentence, read

# low and high face of an axis, by nibabel's letter for the axis's direction
FACES = {
    "R": ("left", "right"),
    "L": ("right", "left"),
    "A": ("posterior", "anterior"),
    "P": ("anterior", "posterior"),
    "S": ("inferior", "superior"),
    "I": ("superior", "inferior"),
}


@dataclass
class Finding:
    """One thing that is wrong with a case.

    Args:
        severity: `error` forbids training, `warning` wants a look.
        rule: which check, a short name.
        sentence: what is wrong and what to do.
    """

    severity: Literal["error", "warning"]
    rule: str
    sentence: str


@dataclass
class CaseReport:
    """One case as measured.

    Args:
        case: its name.
        patient: its patient.
        place: `fold 0`, `held out`, or `` where it has none.
        shape: voxels along L, P, S.
        spacing: mm along L, P, S.
        orientation: axis codes as stored, such as `RAS`.
        volumes: ml per foreground label.
        digest: SHA-256 of the image's voxels.
        picture: (H, W, 3) uint8, or None where nothing could be read.
        aspect: height of a picture's pixel by its width, in mm.
        findings: in the order found.
    """

    case: str
    patient: str
    place: str
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    orientation: str = ""
    volumes: dict[str, float] = field(default_factory=dict)
    digest: str = ""
    picture: np.ndarray | None = None
    aspect: float = 1.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def field_of_view(self) -> tuple[float, ...] | None:
        """Extent in mm along L, P, S."""
        if self.shape is None or self.spacing is None:
            return None
        return tuple(n * s for n, s in zip(self.shape, self.spacing, strict=True))

    @property
    def severity(self) -> str:
        """`error`, `warning` or `` for nothing found."""
        found = {finding.severity for finding in self.findings}
        return "error" if "error" in found else "warning" if found else ""

    def add(self, severity: Literal["error", "warning"], rule: str, sentence: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(severity, rule, sentence))


def report_case(case: Case, section: str, labels: Mapping[int, str], modality: str = "") -> CaseReport:
    """Check one case; whatever is wrong with it becomes a finding.

    Args:
        case: of a datalist.
        section: `training` or `testing`.
        labels: label value to name; empty accepts any whole number.
        modality: `CT` adds the check for Hounsfield units.

    Returns:
        The report.
    """
    place = "held out" if section == "testing" else "" if case.fold is None else f"fold {case.fold}"
    report = CaseReport(case.name, case.patient, place)
    try:
        check_files(case, list(labels) or None, mask_keys=("organ",))
    except CaseError as error:
        report.add("error", "unreadable or inconsistent", f"{error.problem}; {error.remedy}")
    try:
        with one_sentence(report.case, f"image {case.image}"):
            _measure(report, case, labels, modality)
    except CaseError as error:
        if not report.findings:
            report.add("error", "unreadable or inconsistent", f"{error.problem}; {error.remedy}")
    return report


def _measure(report: CaseReport, case: Case, labels: Mapping[int, str], modality: str) -> None:
    import nibabel as nib

    image, affine = read(case.image, report.case)
    stored = nib.orientations.io_orientation(affine)
    to_lps = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt("LPS"))
    report.orientation = "".join(nib.aff2axcodes(affine))
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image, dtype=np.float32).data)
    report.digest = digest.hexdigest()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = nib.orientations.apply_orientation(image, to_lps)
    # axis i of the LPS array was axis order[i] of the stored one
    order = np.argsort(to_lps[:, 0])
    report.shape = tuple(int(n) for n in image.shape)
    report.spacing = tuple(float(spacing[i]) for i in order)
    if modality.upper() == "CT" and float(image.min()) > -200:
        report.add(
            "warning",
            "not in HU",
            f"the darkest voxel is {float(image.min()):.0f}, so air is missing or the image is not in Hounsfield "
            "units; check rescale slope and intercept",
        )
    label: np.ndarray | None = None
    if case.label is not None:
        try:
            label = read(case.label, report.case, "label")[0]
        except CaseError:
            label = None
        if label is not None and label.shape == tuple(image.shape[i] for i in np.argsort(order)):
            label = nib.orientations.apply_orientation(label, to_lps)
            if label.dtype.kind == "f" and not np.equal(label, np.round(label)).all():
                label = None
        else:
            label = None
    if label is not None:
        label = label.astype(np.int32)
        _check_label(report, label, labels)
    report.picture, report.aspect = slice_picture(image, label, report.spacing, labels, modality)


def _check_label(report: CaseReport, label: np.ndarray, labels: Mapping[int, str]) -> None:
    assert report.spacing is not None
    ml = float(np.prod(report.spacing)) / 1000
    counts = np.bincount(np.maximum(label, 0).ravel(), minlength=1)
    present = [value for value in np.flatnonzero(counts).tolist() if value]
    foreground = {value: name for value, name in labels.items() if value} or {v: f"label {v}" for v in present}
    report.volumes = {
        name: float(counts[value]) * ml if value < len(counts) else 0.0 for value, name in foreground.items()
    }
    if not present:
        report.add("error", "empty label", "the label is empty; draw it, or leave the label out of the datalist")
        return
    missing = [name for value, name in foreground.items() if value not in present]
    if missing:
        report.add("warning", "label missing", f"no voxel of {_some(missing)}; check that it is truly absent")
    cut = {name: faces for value, name in foreground.items() if value in present and (faces := _faces(label == value))}
    if cut:
        report.add(
            "warning",
            "cut off",
            f"{_borders(cut)} of the image, perhaps cut off; leave the case out unless the whole structure is visible or, "
            "as bowel does, runs on beyond the scan anyway",
        )
    organ, tumor = _named(labels, ("organ",)), _named(labels, ("tumor", "tumour"))
    if organ is not None and tumor is not None and tumor in present:
        outside = _outside(label, organ, tumor) * ml
        if outside:
            report.add(
                "warning",
                "tumour outside organ",
                f"{outside:.2g} ml of tumour lie apart from the organ; correct the contours, since the final tumour is "
                "cut to the organ",
            )


def _faces(mask: np.ndarray) -> list[str]:
    found = []
    for axis, letter in enumerate("LPS"):
        for index, name in zip((0, -1), FACES[letter], strict=True):
            if mask.take(index, axis=axis).any():
                found.append(name)
    return found


def _named(labels: Mapping[int, str], names: Sequence[str]) -> int | None:
    return next((value for value, name in labels.items() if name.lower() in names), None)


def _outside(label: np.ndarray, organ: int, tumor: int) -> int:
    """Voxels of tumour in pieces of (organ or tumour) that hold no organ; 26-connected."""
    from scipy import ndimage

    both = (label == organ) | (label == tumor)
    box = ndimage.find_objects(both.astype(np.uint8))[0]
    pieces, _ = ndimage.label(both[box], structure=np.ones((3, 3, 3)))
    with_organ = np.unique(pieces[label[box] == organ])
    return int(np.count_nonzero(both[box] & ~np.isin(pieces, with_organ)))


def _borders(cut: Mapping[str, Sequence[str]]) -> str:
    """Which structure lies at which border; of many in one sentence."""
    places: dict[tuple[str, ...], list[str]] = {}
    for name, faces in cut.items():
        places.setdefault(tuple(faces), []).append(name)
    if len(places) > 3:
        places = {tuple(sorted({face for faces in cut.values() for face in faces})): list(cut)}
    return " and ".join(f"{_some(names)}: at the {', '.join(faces)} border" for faces, names in places.items())


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def row(report: CaseReport) -> dict[str, Any]:
    """The report as a line of the table."""

    def joined(values: Sequence[float] | None, digits: int) -> str:
        return (
            ""
            if values is None
            else " x ".join(
                f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}" for value in values
            )
        )

    return {
        "case": report.case,
        "patient": report.patient,
        "place": report.place,
        "shape": joined(report.shape, 0),
        "spacing mm": joined(report.spacing, 3),
        "stored as": report.orientation,
        "field of view mm": joined(report.field_of_view, 0),
        **{f"{name} ml": volume for name, volume in report.volumes.items()},
        "verdict": report.severity or "ok",
        "findings": " | ".join(f"{finding.rule}: {finding.sentence}" for finding in report.findings),
    }
