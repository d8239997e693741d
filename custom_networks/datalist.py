"""Reading of `datalist.json`: MONAI's layout plus a `patient` per case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError

PATH_KEYS = ("image", "label", "organ", "pred")


def case_name(case: Mapping[str, Any]) -> str:
    """Name of a case: its `case` entry, else its image's file name without suffixes."""
    return str(case.get("case") or Path(str(case.get("image", "unnamed"))).name.split(".")[0])


def read_datalist(
    datalist: str | Path, dataset_dir: str | Path | None = None, section: str = "training"
) -> list[dict[str, Any]]:
    """Read one section of a datalist, with file paths made absolute.

    MONAI's `datafold_read` joins every string of a case with the folder, `patient` too; this joins file paths only.

    Args:
        datalist: the JSON file.
        dataset_dir: folder that relative paths start from; default the datalist's own folder.
        section: `training` or `testing`.

    Returns:
        The cases, each a dict with `image` and whatever else the datalist holds.

    Raises:
        CaseError: the file is missing, is not JSON, lacks the section, or a case lacks its image.
    """
    path = Path(datalist)
    name = f"datalist {path}"
    if not path.is_file():
        raise CaseError(name, "the file does not exist", "pass --datalist the file that `python -m scripts` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CaseError(name, f"it is not valid JSON ({error})", "correct the file or write it again") from error
    cases = content.get(section) if isinstance(content, dict) else None
    if not isinstance(cases, list):
        raise CaseError(name, f"it has no list named '{section}'", "write it again with `python -m scripts split`")
    folder = Path(dataset_dir) if dataset_dir is not None else path.parent
    return [_resolved(case, folder, f"{name}, '{section}' entry {i}") for i, case in enumerate(cases)]


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
    files = [path] if path.is_file() else sorted([*path.glob("*.nii.gz"), *path.glob("*.nii")])
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
        stem = Path(case["image"]).name.removesuffix(".gz").removesuffix(".nii")
        first = seen.setdefault(stem, case["image"])
        if first != case["image"]:
            raise CaseError(
                case_name(case), f"{first} and {case['image']} would have one name for their predictions",
                "give every image a file name of its own, of a link to it for instance, or segment them one by one",
            )  # fmt: skip
    return cases


def _resolved(case: object, folder: Path, where: str) -> dict[str, Any]:
    # MONAI writes testing cases as bare paths
    entry = {"image": case} if isinstance(case, str) else case
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or not entry["image"]:
        raise CaseError(where, "it names no image file", 'give it an "image" path')
    return {k: str(folder / v) if k in PATH_KEYS and isinstance(v, str) and v else v for k, v in entry.items()}


def fold_split(cases: Sequence[dict[str, Any]], fold: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split cases into training and validation of one fold.

    Args:
        cases: from `read_datalist`; each has `fold` and, to be checked, `patient`.
        fold: the fold to validate on; -1 trains and validates on all cases (no held-out fold).

    Returns:
        Training cases and validation cases; both empty where there is nothing to split, as in an external test set.

    Raises:
        CaseError: the fold or its complement is empty, or a patient is on both sides.
    """
    if fold == -1 or not cases:
        return list(cases), list(cases)
    train = [case for case in cases if case.get("fold") != fold]
    val = [case for case in cases if case.get("fold") == fold]
    present = sorted({str(case.get("fold")) for case in cases})
    for side, part in (("validation", val), ("training", train)):
        if not part:
            raise CaseError(
                f"fold {fold}", f"it has no {side} cases (folds present: {', '.join(present) or 'none'})",
                "choose another --fold or write folds with `python -m scripts split`",
            )  # fmt: skip
    both = {case["patient"] for case in train if "patient" in case} & {case.get("patient") for case in val}
    if both:
        raise CaseError(
            f"fold {fold}", f"patient {min(map(str, both))} is in training and in validation",
            "write patient-grouped folds with `python -m scripts split`",
        )  # fmt: skip
    return train, val
