"""TotalSegmentator version 1: 104 mask files per subject to one label map."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.files import write_nifti
from scripts.core.jobs import parallel
from scripts.data.cohorts.nifti_sets import geometry, place_file, read_geometry
from scripts.data.dicom.outcome import ImportOutcome, refused

CLASSES_V1: tuple[str, ...] = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "vertebrae_L5",
    "vertebrae_L4",
    "vertebrae_L3",
    "vertebrae_L2",
    "vertebrae_L1",
    "vertebrae_T12",
    "vertebrae_T11",
    "vertebrae_T10",
    "vertebrae_T9",
    "vertebrae_T8",
    "vertebrae_T7",
    "vertebrae_T6",
    "vertebrae_T5",
    "vertebrae_T4",
    "vertebrae_T3",
    "vertebrae_T2",
    "vertebrae_T1",
    "vertebrae_C7",
    "vertebrae_C6",
    "vertebrae_C5",
    "vertebrae_C4",
    "vertebrae_C3",
    "vertebrae_C2",
    "vertebrae_C1",
    "esophagus",
    "trachea",
    "heart_myocardium",
    "heart_atrium_left",
    "heart_ventricle_left",
    "heart_atrium_right",
    "heart_ventricle_right",
    "pulmonary_artery",
    "brain",
    "iliac_artery_left",
    "iliac_artery_right",
    "iliac_vena_left",
    "iliac_vena_right",
    "small_bowel",
    "duodenum",
    "colon",
    "rib_left_1",
    "rib_left_2",
    "rib_left_3",
    "rib_left_4",
    "rib_left_5",
    "rib_left_6",
    "rib_left_7",
    "rib_left_8",
    "rib_left_9",
    "rib_left_10",
    "rib_left_11",
    "rib_left_12",
    "rib_right_1",
    "rib_right_2",
    "rib_right_3",
    "rib_right_4",
    "rib_right_5",
    "rib_right_6",
    "rib_right_7",
    "rib_right_8",
    "rib_right_9",
    "rib_right_10",
    "rib_right_11",
    "rib_right_12",
    "humerus_left",
    "humerus_right",
    "scapula_left",
    "scapula_right",
    "clavicula_left",
    "clavicula_right",
    "femur_left",
    "femur_right",
    "hip_left",
    "hip_right",
    "sacrum",
    "face",
    "gluteus_maximus_left",
    "gluteus_maximus_right",
    "gluteus_medius_left",
    "gluteus_medius_right",
    "gluteus_minimus_left",
    "gluteus_minimus_right",
    "autochthon_left",
    "autochthon_right",
    "iliopsoas_left",
    "iliopsoas_right",
    "urinary_bladder",
)

# mask files that only version 2 has: they tell the two releases apart
ONLY_V2 = frozenset(
    {
        "atrial_appendage_left",
        "brachiocephalic_trunk",
        "brachiocephalic_vein_left",
        "brachiocephalic_vein_right",
        "common_carotid_artery_left",
        "common_carotid_artery_right",
        "costal_cartilages",
        "heart",
        "kidney_cyst_left",
        "kidney_cyst_right",
        "prostate",
        "pulmonary_vein",
        "skull",
        "spinal_cord",
        "sternum",
        "subclavian_artery_left",
        "subclavian_artery_right",
        "superior_vena_cava",
        "thyroid_gland",
        "vertebrae_S1",
    }
)


SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Subject:
    """One subject's folder: `ct.nii.gz` and `segmentations/CLASS.nii.gz`."""

    folder: Path
    output_dir: Path
    allow_missing: bool
    copy: bool


def find_subjects(source: Path) -> list[Path]:
    """Subject folders (`s0000`, …) below a folder, whether or not the archive's own folder is between.

    Args:
        source: folder of the unpacked archive.

    Returns:
        The folders, sorted.
    """
    found = {p.parent for depth in ("*", "*/*") for p in source.glob(f"{depth}/ct.nii.gz")}
    found |= {p.parent for depth in ("*", "*/*") for p in source.glob(f"{depth}/segmentations")}
    return sorted(found)


def import_totalsegmentator(
    source: Path, output_dir: Path, allow_missing: bool, copy: bool, workers: int
) -> list[ImportOutcome]:
    """Merge the masks of every subject.

    Args:
        source: folder of the unpacked archive.
        output_dir: folder of the data set; label maps go to `labels/`.
        allow_missing: take a class without a mask file as absent, instead of refusing the subject.
        copy: copy images instead of linking to them.
        workers: processes.

    Returns:
        An outcome per subject.
    """
    subjects = [Subject(folder, output_dir, allow_missing, copy) for folder in find_subjects(source)]
    return parallel(_import, subjects, workers, "subjects")


def _import(subject: Subject) -> ImportOutcome:
    case = subject.folder.name
    try:
        return _merge(subject, case)
    except CaseError as error:
        return refused(case, case, error.problem, error.remedy)
    except Exception as error:  # a damaged gzip stream, for instance, in any of the 104 files
        return refused(case, case, f"it cannot be imported ({type(error).__name__})", "download it again")


def _merge(subject: Subject, case: str) -> ImportOutcome:
    masks = {p.name.removesuffix(".nii.gz"): p for p in (subject.folder / "segmentations").glob("*.nii.gz")}
    missing = [name for name in CLASSES_V1 if name not in masks]
    if missing and len(ONLY_V2 & masks.keys()) > len(ONLY_V2) // 2:
        raise CaseError(case, "its masks are those of version 2", "download version 1, which has the 104 classes")
    if missing and not subject.allow_missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise CaseError(
            case, f"{len(missing)} of 104 masks are missing ({shown})", "unpack it again or pass --allow_missing"
        )
    _, shape, affine = read_geometry(case, subject.folder / "ct.nii.gz")
    label = np.zeros(shape, dtype=np.uint8)
    notes = [f"{len(missing)} of 104 masks are missing and count as absent classes"] if missing else []
    unknown = sorted(masks.keys() - set(CLASSES_V1))
    if unknown:
        notes.append(f"{len(unknown)} mask files are not of the 104 classes and were left out")
    overlap, pairs = 0, set()
    for value, name in enumerate(CLASSES_V1, 1):
        if name not in masks:
            continue
        image, mask_shape, mask_affine = read_geometry(case, masks[name])
        if mask_shape != shape or np.abs(mask_affine - affine).max() > 1e-2:
            raise CaseError(case, f"mask {name} lies on another grid than the CT", "download the subject again")
        try:
            mask = np.asanyarray(image.dataobj) > 0
        except Exception as error:
            raise CaseError(case, f"mask {name} cannot be read ({type(error).__name__})", "download it again") from None
        before = label[mask]
        twice = before[before > 0]
        overlap += twice.size
        pairs |= {(int(v), value) for v in np.unique(twice)}
        label[mask] = value
    if overlap:
        under, over = min(pairs)
        notes.append(
            f"{overlap} voxels belong to several classes and got the later one (for example {CLASSES_V1[over - 1]} "
            f"over {CLASSES_V1[under - 1]})"
        )
    if not label.any():
        notes.append("its label map is empty")
    write_nifti(subject.output_dir / "labels" / f"{case}.nii.gz", label, affine)
    entry = {
        "case": case,
        "patient": case,
        "image": place_file("images", case, subject.folder / "ct.nii.gz", subject.output_dir, subject.copy),
        "label": f"labels/{case}.nii.gz",
    }
    return geometry(ImportOutcome(case, case, notes=notes, entry={**entry}), shape, affine)


def published_split(source: Path) -> dict[str, str]:
    """Read the published split.

    Args:
        source: folder of the unpacked archive, with `meta.csv` in it or one level below.

    Returns:
        Subject to `train`, `val` or `test`.

    Raises:
        CaseError: the file is missing or lacks its columns.
    """
    files = sorted([*source.glob("meta.csv"), *source.glob("*/meta.csv")])
    if not files:
        raise CaseError("totalsegmentator", "meta.csv is not in the folder", "unpack the whole archive of version 1")
    text = files[0].read_text(encoding="utf-8-sig", errors="replace")
    rows = list(csv.DictReader(text.splitlines(), delimiter=";" if ";" in text.split("\n", 1)[0] else ","))
    found = {(row.get("image_id") or "").strip(): (row.get("split") or "").strip().lower() for row in rows}
    if not found or not set(found.values()) <= set(SPLITS):
        raise CaseError("totalsegmentator", "meta.csv lacks the columns image_id and split", "download version 1 again")
    return found
