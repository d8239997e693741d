"""What `check` finds out about one case: its geometry, its labels, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from custom_networks import CaseError
from custom_networks.data.checks import Volume, check_grid, check_image, check_values
from scripts.core.datalist import Case
from scripts.core.look import slice_picture
from scripts.core.reading import one_sentence, read
from scripts.core.statistics import AIR, ImageStatistics, KnownStatistics, image_statistics, label_statistics

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
class CheckedCase:
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


def examine(
    case: Case, section: str, labels: Mapping[int, str], modality: str = "", known: KnownStatistics | None = None
) -> CheckedCase:
    """Check one case; whatever is wrong with it becomes a finding. Every file is read once.

    Args:
        case: of a datalist.
        section: `training` or `testing`.
        labels: label value to name; empty accepts any whole number.
        modality: `CT` adds the checks for Hounsfield units.
        known: where what was counted is kept for other verbs.

    Returns:
        What was found.
    """
    place = "held out" if section == "testing" else "" if case.fold is None else f"fold {case.fold}"
    checked = CheckedCase(case.name, case.patient, place)
    image, label = _read(checked, case, labels)
    if image is None:
        return checked
    with _noted(checked), one_sentence(case.name, f"image {case.image}"), np.errstate(all="ignore"):
        found = image_statistics(*image, None if label is None else label[0], modality)
        if known is not None and (label is None) == (case.label is None):
            known.note_image(case.image, case.label, modality, found)
            if label is not None and case.label is not None:
                known.note_label(case.label, label_statistics(*label))
        checked.shape, checked.spacing, checked.orientation = found.shape, found.spacing, found.orientation
        checked.digest = found.digest
        _check_intensity(checked, found, float(image[0].max()), modality)
        mask = None if label is None else _lps(*label)
        if mask is not None:
            _check_label(checked, mask, labels)
        checked.picture, checked.aspect = slice_picture(_lps(*image), mask, found.spacing, labels, modality)
    return checked


def _read(checked: CheckedCase, case: Case, labels: Mapping[int, str]) -> tuple[Volume | None, Volume | None]:
    """Image and label, each None where it is missing or cannot be used; what is wrong is noted."""
    image: Volume | None = None
    label: Volume | None = None
    with _noted(checked):
        image = read(case.image, case.name)
        check_image(case.name, case.image, image[0])
    for key in ("label", "organ"):
        file = case.file(key)
        if file is None:
            continue
        with _noted(checked):
            mask = read(file, case.name, key)
            if image is not None:
                check_grid(case.name, f"{key} {file}", mask, image)
            if key == "label":
                label = mask
                if labels:
                    check_values(case.name, f"{key} {file}", mask[0], list(labels))
    return image, label


@contextmanager
def _noted(checked: CheckedCase) -> Iterator[None]:
    try:
        yield
    except CaseError as error:
        checked.add("error", "unreadable or inconsistent", f"{error.problem}; {error.remedy}")


def _lps(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    import nibabel as nib

    stored = nib.orientations.io_orientation(affine)
    to = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt("LPS"))
    return np.asarray(nib.orientations.apply_orientation(array, to))


def _check_intensity(checked: CheckedCase, found: ImageStatistics, brightest: float, modality: str) -> None:
    if modality.upper() == "CT":
        if found.minimum > -200:
            checked.add(
                "warning",
                "not in HU",
                f"the darkest voxel is {found.minimum:.0f}, so air is missing or the image is not in Hounsfield units; "
                "check rescale slope and intercept",
            )
        elif found.minimum < AIR:
            checked.add(
                "warning",
                "padding",
                f"{100 * found.below_air:.2g} % of its voxels are below {AIR:.0f} HU, the lowest {found.minimum:.0f}: "
                "padding outside the field of view, which plan, training and inference take for air",
            )
    elif found.minimum < -abs(brightest):
        checked.add(
            "warning",
            "padding",
            f"its darkest voxel is {found.minimum:.0f} and its brightest {brightest:.0f}, so it holds a padding value, "
            "which would count in its intensities; replace it by the darkest value of the image itself",
        )


def _check_label(checked: CheckedCase, label: np.ndarray, labels: Mapping[int, str]) -> None:
    assert checked.spacing is not None
    ml = float(np.prod(checked.spacing)) / 1000
    values, counts = np.unique(label, return_counts=True)
    voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    present = [value for value in voxels if value > 0]
    foreground = {value: name for value, name in labels.items() if value} or {v: f"label {v}" for v in present}
    checked.volumes = {name: voxels.get(value, 0) * ml for value, name in foreground.items()}
    if not present:
        checked.add("error", "empty label", "the label is empty; draw it, or leave the label out of the datalist")
        return
    missing = [name for value, name in foreground.items() if value not in present]
    if missing:
        checked.add("warning", "label missing", f"no voxel of {_some(missing)}; check that it is truly absent")
    cut = {name: faces for value, name in foreground.items() if value in present and (faces := _faces(label == value))}
    if cut:
        checked.add(
            "warning",
            "cut off",
            f"{_borders(cut)} of the image, perhaps cut off; leave the case out unless the whole structure is visible or, "
            "as bowel does, runs on beyond the scan anyway",
        )
    organ, tumor = _named(labels, ("organ",)), _named(labels, ("tumor", "tumour"))
    if organ is not None and tumor is not None and tumor in present:
        outside = _outside(label, organ, tumor) * ml
        if outside:
            checked.add(
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


def row(checked: CheckedCase) -> dict[str, Any]:
    """A case as a line of the table."""

    def joined(values: Sequence[float] | None, digits: int) -> str:
        return (
            ""
            if values is None
            else " x ".join(
                f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}" for value in values
            )
        )

    return {
        "case": checked.case,
        "patient": checked.patient,
        "place": checked.place,
        "shape": joined(checked.shape, 0),
        "spacing mm": joined(checked.spacing, 3),
        "stored as": checked.orientation,
        "field of view mm": joined(checked.field_of_view, 0),
        **{f"{name} ml": volume for name, volume in checked.volumes.items()},
        "verdict": checked.severity or "ok",
        "findings": " | ".join(f"{finding.rule}: {finding.sentence}" for finding in checked.findings),
    }
