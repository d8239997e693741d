"""Reading of RTDOSE: dose in Gy with its place in the patient. Whatever does not say what dose it is, is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import items, numbers, read_dataset, silent_dicom, text_of, value_of
from scripts.core.dicom.volume import LPS_TO_RAS, POSITION, slice_geometry

EXPORT_DOSE = "export the RTDOSE again, complete, in Gy and as physical dose"
# parts of one plan that add up to it; every other kind of dose stands for itself
PARTS = {"BEAM": "beams", "BRACHY": "application setups", "FRACTION": "fraction groups"}
# mm that offsets may be uneven by, besides 2 % of their distance
UNEVEN = 0.02


@dataclass(frozen=True)
class Dose:
    """A dose distribution.

    Attributes:
        array: physical dose in Gy (columns, rows, frames), float64: stored whole numbers times DoseGridScaling.
        affine: 4x4 matrix from (column, row, frame) index to LPS+ mm, right-handed.
        frame: FrameOfReferenceUID.
        summation: DoseSummationType: PLAN, FRACTION, BEAM …
        plan: SOPInstanceUID of the RTPLAN; empty where it names none.
        part: which fraction groups and beams or application setups of the plan it is of.
        sop: its SOPInstanceUID.
        notes: sentences for a report.
    """

    array: np.ndarray
    affine: np.ndarray
    frame: str
    summation: str
    plan: str = ""
    part: tuple[str, ...] = ()
    sop: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def ras(self) -> np.ndarray:
        """4x4 matrix from voxel index to mm in NIfTI's RAS+."""
        return np.asarray(LPS_TO_RAS @ self.affine)


@silent_dicom()
def read_rtdose(file: Path, case: str) -> Dose:
    """Read an RTDOSE.

    Args:
        file: the DICOM file.
        case: name for messages.

    Returns:
        The dose, with its frames in the order of their normal, whatever order the file has them in.

    Raises:
        CaseError: dose that is relative, not physical, without scaling or negative; frames that are missing or uneven;
            a place that is not said; pixels that are cut off or cannot be read.
    """
    try:
        dataset = read_dataset(file)
    except Exception as error:  # the error's own text may hold header values
        raise _bad(case, f"cannot be read ({type(error).__name__})") from None
    if text_of(dataset, "Modality") != "RTDOSE":
        raise _bad(case, "is no RTDOSE")
    scaling = _scaling(case, dataset)
    stored = _stored(case, dataset)
    affine, order = _geometry(case, dataset, file, stored.shape[2])
    frame = text_of(dataset, "FrameOfReferenceUID")
    if not frame:
        raise _bad(case, "names no frame of reference")
    summation = text_of(dataset, "DoseSummationType").upper()
    if not summation:
        raise _bad(case, "has no DoseSummationType, so what it is the sum of is not said")
    plan, part = _origin(dataset)
    return Dose(stored[:, :, order] * scaling, affine, frame, summation, plan, part, text_of(dataset, "SOPInstanceUID"))


def _bad(case: str, what: str) -> CaseError:
    return CaseError(case, f"its RTDOSE {what}", EXPORT_DOSE)


def _scaling(case: str, dataset: Any) -> float:
    units = text_of(dataset, "DoseUnits").upper()
    if units != "GY":
        raise _bad(case, f"has DoseUnits {units or 'missing'}, not GY")
    kind = text_of(dataset, "DoseType").upper()
    if kind != "PHYSICAL":
        raise _bad(case, f"has DoseType {kind or 'missing'}, not PHYSICAL")
    scaling = numbers([value_of(dataset, "DoseGridScaling")], 1)
    if scaling is None or scaling[0] <= 0:
        raise _bad(case, "has no positive DoseGridScaling, so its numbers mean no dose")
    return float(scaling[0])


def _stored(case: str, dataset: Any) -> np.ndarray:
    """Whole numbers (columns, rows, frames)."""
    try:
        array = np.asarray(dataset.pixel_array)
    except Exception as error:  # the error's own text may hold header values
        raise _bad(case, f"is cut off or damaged: its pixels cannot be read ({type(error).__name__})") from None
    frames = _count(dataset)
    if array.ndim != 3 or frames < 2:
        raise _bad(case, "is a single plane of dose")
    if array.dtype.kind not in "iu" or array.shape[0] != frames:
        raise _bad(case, "has other pixels than its header says")
    if array.min() < 0:
        raise _bad(case, "holds negative dose")
    if array.max() == 0:
        raise _bad(case, "is zero everywhere")
    return array.transpose(2, 1, 0)


def _count(dataset: Any) -> int:
    try:
        return int(str(value_of(dataset, "NumberOfFrames") or 1))
    except ValueError:
        return 1


def _geometry(case: str, dataset: Any, file: Path, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The affine, and the order in which frames follow their normal."""
    try:
        plane = slice_geometry(case, dataset, file)
    except CaseError as error:
        raise _bad(case, f"has no place: {error.problem}") from None
    offsets = numbers(value_of(dataset, "GridFrameOffsetVector"), frames)
    if offsets is None:
        raise _bad(case, f"has no GridFrameOffsetVector of {frames} offsets, one a frame")
    normal = np.cross(plane.row, plane.column)
    along = offsets.copy()
    if abs(offsets[0]) > POSITION:
        # absolute: z of each frame, for which planes must be axial
        if abs(abs(normal[2]) - 1) > 1e-4 or abs(offsets[0] - plane.position[2]) > POSITION:
            raise _bad(case, "has frame offsets that begin neither at 0 nor at the z of its axial first frame")
        along = (offsets - plane.position[2]) * np.sign(normal[2])
    elif normal[2] < -0.5 and abs(plane.position[2]) <= POSITION:
        # z coordinates and distances along the normal look alike and run against each other
        raise _bad(case, "has frame offsets that can be read as z or as distances, which run against each other")
    order = np.argsort(along)
    gaps = np.diff(along[order])
    if gaps.min() <= 0 or np.abs(gaps - gaps.mean()).max() > max(POSITION, UNEVEN * gaps.mean()):
        raise _bad(case, f"has uneven frames ({gaps.min():.2f} to {gaps.max():.2f} mm apart)")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = plane.row * plane.spacing[1], plane.column * plane.spacing[0]
    affine[:3, 2] = normal * (along[order[-1]] - along[order[0]]) / (frames - 1)
    affine[:3, 3] = plane.position + normal * along[order[0]]
    return affine, order


def _origin(dataset: Any) -> tuple[str, tuple[str, ...]]:
    plan, part = "", []
    for item in items(dataset, "ReferencedRTPlanSequence"):
        plan = plan or text_of(item, "ReferencedSOPInstanceUID")
        for group in items(item, "ReferencedFractionGroupSequence"):
            part.append(f"group {text_of(group, 'ReferencedFractionGroupNumber')}")
            for name, number in (("Beam", "BeamNumber"), ("BrachyApplicationSetup", "BrachyApplicationSetupNumber")):
                for one in items(group, f"Referenced{name}Sequence"):
                    part.append(f"{name} {text_of(one, f'Referenced{number}')}")
    return plan, tuple(part)


def check_frame(case: str, dose: Dose, frame: str) -> None:
    """Refuse a dose that lies in another frame of reference than an image.

    Args:
        case: name for messages.
        dose: the dose.
        frame: FrameOfReferenceUID of the image.

    Raises:
        CaseError: they differ.
    """
    if dose.frame != frame:
        raise CaseError(
            case,
            "its RTDOSE lies in another frame of reference than its image",
            "export the dose with the image that it was planned on",
        )


def whole_dose(case: str, doses: Sequence[Dose]) -> Dose:
    """The dose of a plan out of the files that a planning system wrote for it.

    A PLAN dose is taken as it is, and parts of the same plan beside it are not added. Without one, parts of one kind
    (BEAM, BRACHY, FRACTION) of one plan are added where their grids are equal.

    Args:
        case: name for messages.
        doses: at least one.

    Returns:
        The dose, with a note where others were left out or added.

    Raises:
        CaseError: doses of several plans, several of the whole plan, parts of several kinds, a part twice or that does
            not say which it is, grids that differ.
    """
    remedy = "export one RTDOSE of the whole plan (DoseSummationType PLAN)"
    if len({dose.plan for dose in doses}) > 1:
        raise CaseError(case, f"its {len(doses)} RTDOSE are of several plans", remedy)
    wholes = [dose for dose in doses if dose.summation not in PARTS]
    if len(wholes) == 1:
        left = len(doses) - 1
        said = [f"{left} RTDOSE of parts of its plan were not added to that of the whole plan"] if left else []
        return replace(wholes[0], notes=[*wholes[0].notes, *said])
    if wholes:
        raise CaseError(case, f"it has {len(wholes)} RTDOSE that are each of a whole plan", remedy)
    if len(doses) == 1:
        return doses[0]
    first = doses[0]
    if len({dose.summation for dose in doses}) > 1:
        kinds = ", ".join(sorted({dose.summation for dose in doses}))
        raise CaseError(case, f"its RTDOSE are of several kinds ({kinds}), which cannot be added", remedy)
    if not first.plan or len({dose.part for dose in doses}) < len(doses) or any(not dose.part for dose in doses):
        raise CaseError(case, f"which {PARTS[first.summation]} of a plan its RTDOSE are of is not said", remedy)
    if any(d.array.shape != first.array.shape or np.abs(d.affine - first.affine).max() > POSITION for d in doses):
        raise CaseError(case, "the RTDOSE of the parts of its plan have different grids", remedy)
    if len({dose.frame for dose in doses}) > 1:
        raise CaseError(case, "the RTDOSE of the parts of its plan lie in several frames of reference", remedy)
    note = f"its dose is the sum of {len(doses)} RTDOSE of {PARTS[first.summation]}"
    array = np.sum([dose.array for dose in doses], axis=0)
    return replace(first, array=array, part=tuple(sorted(p for d in doses for p in d.part)), notes=[note])
