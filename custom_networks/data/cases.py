"""Cases of a datalist or a folder as MONAI takes them: read, told apart by name, split into folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.data.datalist import NO_PATIENT, Datalist, case_name, image_stem
from custom_networks.errors import CaseError


def read_datalist(
    datalist: str | Path, dataset_dir: str | Path | None = None, section: str = "training"
) -> list[dict[str, Any]]:
    """One section of a datalist as MONAI takes it.

    MONAI's `datafold_read` joins every string of a case with the folder, `patient` too; this joins file paths only.

    Args:
        datalist: the JSON file.
        dataset_dir: folder that relative paths start from; default the datalist's own folder.
        section: `training` or `testing`.

    Returns:
        The cases, each a dict with `case`, `image` and whatever else the datalist holds.

    Raises:
        CaseError: see `Datalist.read`; also where there is no such section.
    """
    return [case.entry() for case in Datalist.read(datalist, dataset_dir, patients=None).section(section)]


def inference_cases(source: str | Path) -> list[dict[str, Any]]:
    """Images to segment.

    Args:
        source: one NIfTI file, a folder of them, or a datalist, whose `testing` section is taken.

    Returns:
        One dict with `image` for each.

    Raises:
        CaseError: there is no image, or two would have one name for their prediction.
    """
    path = Path(source)
    if path.suffix == ".json":
        cases = read_datalist(path, section="testing")
        if not cases:
            raise CaseError(f"datalist {path}", "its section 'testing' is empty", "pass the folder of the images")
        return distinct_cases(cases)
    # what begins with a dot is half-written, or what macOS leaves beside a file
    found = sorted(file for pattern in ("*.nii.gz", "*.nii") for file in path.glob(pattern))
    files = [path] if path.is_file() else [file for file in found if not file.name.startswith(".")]
    if not files:
        raise CaseError(
            f"input {path}", "there is no NIfTI image", "pass --dataset_dir a NIfTI file, a folder or a datalist"
        )
    return distinct_cases([{"image": str(file)} for file in files])


def distinct_cases(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Refuse images whose predictions would overwrite each other: SaveImaged names them after the image's file alone.

    Args:
        cases: datalist entries.

    Returns:
        The same cases.

    Raises:
        CaseError: two images in different folders have one file name.
    """
    seen: dict[str, str] = {}
    for case in cases:
        first = seen.setdefault(image_stem(case["image"]), case["image"])
        if first != case["image"]:
            raise CaseError(
                case_name(case),
                f"{first} and {case['image']} would have one name for their predictions",
                "give every image a file name of its own, of a link to it for instance, or segment them one by one",
            )
    return cases


def fold_split(cases: Sequence[dict[str, Any]], fold: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split cases into training and validation of one fold.

    Args:
        cases: from `read_datalist`; each has `fold` and `patient`.
        fold: the fold to validate on; -1 trains and validates on all cases (no held-out fold).

    Returns:
        Training cases and validation cases; both empty where there is nothing to split, as in an external test set.

    Raises:
        CaseError: the fold or its complement is empty, a case has no patient or no fold, or a patient is on both sides.
    """
    if fold == -1 or not cases:
        return list(cases), list(cases)
    present = sorted({case["fold"] for case in cases if case.get("fold") is not None})
    for case in cases:
        if case.get("patient") in (None, ""):
            raise CaseError(case_name(case), *NO_PATIENT)
        if present and case.get("fold") is None:
            raise CaseError(case_name(case), "it has no fold, others have", "run `python -m scripts split` again")
    train = [case for case in cases if case.get("fold") != fold]
    val = [case for case in cases if case.get("fold") == fold]
    for side, part in (("validation", val), ("training", train)):
        if not part:
            raise CaseError(
                f"fold {fold}",
                f"it has no {side} cases (folds present: {', '.join(map(str, present)) or 'none'})",
                "choose another --fold or write folds with `python -m scripts split`",
            )
    both = {str(case["patient"]) for case in train} & {str(case["patient"]) for case in val}
    if both:
        raise CaseError(
            f"fold {fold}",
            f"patient {min(both)} is in training and in validation",
            "write patient-grouped folds with `python -m scripts split`",
        )
    return train, val
