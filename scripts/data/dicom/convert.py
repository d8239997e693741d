"""One series and its contours to one NIfTI pair; runs in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.rasterise import Mask, contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.seg import segment_to_mask
from scripts.core.dicom.volume import SeriesVolume, read_series
from scripts.core.files import write_nifti
from scripts.data.dicom.axial import to_axial
from scripts.data.dicom.doses import DoseFiles, read_case_dose
from scripts.data.dicom.labels import LabelRule
from scripts.data.dicom.outcome import ImportOutcome, refused

TABLE_HINT = "look up its ROI names in the pseudonym table and adapt --labels"


@dataclass(frozen=True)
class LabelSource:
    """Where one label of one case comes from: a SEG or RTSTRUCT file and the numbers of its ROIs."""

    rule: LabelRule
    file: Path
    seg: bool
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Conversion:
    """All that a worker needs for one case; paths and names in it never reach an output."""

    case: str
    patient: str
    files: tuple[Path, ...]
    sources: tuple[LabelSource, ...]
    labelled: bool
    output_dir: Path
    allow_missing: bool = False
    axial: bool = False
    notes: tuple[str, ...] = ()
    doses: DoseFiles = field(default_factory=DoseFiles)
    frame: str = ""


def convert(conversion: Conversion) -> ImportOutcome:
    """Convert one case; every fault becomes a refused outcome, so that the rest of an import goes on.

    Args:
        conversion: the case.

    Returns:
        What became of it.
    """
    try:
        with silent_dicom():
            return _convert(conversion)
    except CaseError as error:
        return refused(conversion.case, conversion.patient, error.problem, error.remedy)
    except Exception as error:  # texts of foreign exceptions may repeat header values: only the type is told
        return refused(
            conversion.case,
            conversion.patient,
            f"it cannot be imported ({type(error).__name__})",
            "export it again; if that does not help, report the type of error with the software's name",
        )


def _convert(conversion: Conversion) -> ImportOutcome:
    import nibabel as nib

    volume, _ = read_series(conversion.case, conversion.files)
    notes = [*conversion.notes, *volume.notes]
    if volume.array.min() == volume.array.max():
        raise CaseError(conversion.case, "its image is constant", "export it again or leave it out")
    image, affine = volume.array, volume.ras
    label = _label_map(conversion, volume, notes) if conversion.labelled else None
    if conversion.axial:
        if label is not None:
            label, _ = to_axial(label, affine, label=True)
        image, affine = to_axial(image, affine, label=False)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    names = {source.rule.value: source.rule.name for source in conversion.sources}
    outcome = ImportOutcome(
        conversion.case,
        conversion.patient,
        notes=notes,
        size=image.shape,
        spacing=tuple(float(s) for s in spacing),
        orientation="".join(nib.aff2axcodes(affine)),
        entry={"case": conversion.case, "patient": conversion.patient, "image": f"images/{conversion.case}.nii.gz"},
    )
    write_nifti(conversion.output_dir / f"images/{conversion.case}.nii.gz", image, affine)
    if label is not None:
        outcome.entry["label"] = f"labels/{conversion.case}.nii.gz"
        write_nifti(conversion.output_dir / f"labels/{conversion.case}.nii.gz", label, affine)
        voxel = float(np.prod(spacing)) / 1000
        outcome.volumes = {name: int(np.count_nonzero(label == value)) * voxel for value, name in names.items()}
    if conversion.doses.doses:
        _add_dose(conversion, outcome)
    return outcome


def _add_dose(conversion: Conversion, outcome: ImportOutcome) -> None:
    """Write the dose in Gy on its own grid; a faulty one costs the dose, not the case."""
    path = f"doses/{conversion.case}.nii.gz"
    try:
        dose, fractions, notes = read_case_dose(conversion.case, conversion.doses, conversion.frame)
    except CaseError as error:
        outcome.notes.append(f"its dose was left out: {error.problem}")
        return
    write_nifti(conversion.output_dir / path, dose.array, dose.ras)
    outcome.entry["dose"] = path
    if fractions is not None:
        outcome.entry["fractions"] = fractions
    outcome.notes.extend(notes)


def _label_map(conversion: Conversion, volume: SeriesVolume, notes: list[str]) -> np.ndarray:
    """Merge the ROIs; where they overlap, the higher label value wins."""
    shape = volume.array.shape
    label = np.zeros(shape, dtype=np.uint8)
    for source in sorted(conversion.sources, key=lambda s: s.rule.value):
        mask = np.zeros(shape, dtype=bool)
        for part in _masks(conversion.case, source, volume):
            mask |= part.array
            notes.extend(f"label '{source.rule.name}': {note}" for note in part.notes)
        if not mask.any() and not conversion.allow_missing:
            raise CaseError(
                conversion.case, f"label '{source.rule.name}' holds no voxel", f"check its contours, or {TABLE_HINT}"
            )
        label[mask] = source.rule.value
    for source in conversion.sources:
        if not (label == source.rule.value).any():
            notes.append(f"label '{source.rule.name}' has no voxels in the label map")
    return label


def _masks(case: str, source: LabelSource, volume: SeriesVolume) -> list[Mask]:
    columns, rows, slices = volume.array.shape
    return roi_masks(case, source.file, source.seg, source.numbers, volume.affine, (columns, rows, slices))


def roi_masks(
    case: str,
    file: Path,
    seg: bool,
    numbers: Sequence[int],
    affine: np.ndarray,
    shape: tuple[int, int, int],
) -> list[Mask]:
    """ROIs of one structure set on an image's grid.

    Args:
        case: the case's name, for messages.
        file: the RTSTRUCT or SEG.
        seg: whether it is a SEG.
        numbers: ROINumbers or segment numbers.
        affine: 4x4 matrix of the image from (column, row, slice) index to LPS+ mm.
        shape: columns, rows, slices.

    Returns:
        A mask per number.

    Raises:
        CaseError: the file cannot be read, or does not fit the image.
    """
    if seg:
        return [segment_to_mask(case, file, number, affine, shape) for number in numbers]
    try:
        rois = {roi.number: roi for roi in read_rtstruct(file).rois}
    except Exception as error:
        raise CaseError(
            case, f"its RTSTRUCT cannot be read ({type(error).__name__})", "export the RTSTRUCT again"
        ) from None
    masks = []
    for number in numbers:
        roi = rois[number]
        mask = contours_to_mask(case, roi.contours, affine, shape, roi.even_odd)
        if roi.ignored:
            mask.notes.append(f"{roi.ignored} contours that are points, open or unreadable were left out")
        masks.append(mask)
    return masks
