"""The whole of a datalist, as it is written: relative paths, labels, both sections. For verbs that change or judge it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

from custom_networks import CaseError, case_name, read_datalist
from scripts.core.files import write_text

Case: TypeAlias = dict[str, Any]
SECTIONS = ("training", "testing")


def read_content(datalist: str | Path) -> dict[str, Any]:
    """Read a datalist with every key it has.

    Args:
        datalist: the JSON file.

    Returns:
        The content: `training` and `testing` are lists of dicts with `case`, `patient` and `image`, whose paths are as
        written; `labels` maps label value (int) to name and is empty where the file has none.

    Raises:
        CaseError: not a datalist, no case at all, or labels that are not whole numbers.
    """
    path = Path(str(datalist))
    read_datalist(path)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("testing"):
        read_datalist(path, section="testing")
    for section in SECTIONS:
        entries = [{"image": entry} if isinstance(entry, str) else dict(entry) for entry in content.get(section) or []]
        for entry in entries:
            entry.setdefault("case", case_name(entry))
            entry.setdefault("patient", entry["case"])
            _check_texts(entry, f"datalist {path}")
        content[section] = entries
    if not content["training"] and not content["testing"]:
        raise CaseError(f"datalist {path}", "it has no case", "import some with `python -m scripts import_dicom`")
    content["labels"] = _labels(content.get("labels"), path)
    return content


def _check_texts(entry: Case, where: str) -> None:
    for key in ("image", "label", "organ"):
        if "\0" in str(entry.get(key) or ""):
            raise CaseError(where, f"the {key} path of {entry['case']!r} holds a NUL character", "correct the path")
        if entry.get(key) is not None and not isinstance(entry[key], str):
            raise CaseError(where, f"the {key} of {entry['case']!r} is not a path", "give one file path per key")
    for key in ("case", "patient"):
        if not isinstance(entry[key], str | int):
            raise CaseError(where, f"'{key}' of {entry['image']} is neither text nor a number", "give it a plain name")
        entry[key] = str(entry[key])
    fold = entry.get("fold")
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise CaseError(
            where, f"fold {fold!r} of {entry['case']!r} is not a whole number from 0", "correct or remove it"
        )


def _labels(labels: object, path: Path) -> dict[int, str]:
    if labels is None:
        return {}
    if isinstance(labels, dict) and all(re.fullmatch("[0-9]{1,9}", str(value)) for value in labels):
        return {int(value): str(name) for value, name in sorted(labels.items(), key=lambda item: int(item[0]))}
    raise CaseError(
        f"datalist {path}",
        "'labels' is not a map of whole numbers to names",
        'write it as {"0": "background", "1": "organ"}',
    )


def resolved(case: Case, folder: Path) -> Case:
    """The case with the paths of its files made absolute against the datalist's folder."""
    return {
        key: str(folder / value) if key in {"image", "label", "organ"} and value else value
        for key, value in case.items()
    }


def write_content(path: str | Path, content: dict[str, Any]) -> Path:
    """Write a datalist with every key it has, atomically.

    Args:
        path: the JSON file.
        content: from `read_content`.

    Returns:
        The path.
    """
    text = {**content, "labels": {str(value): name for value, name in content["labels"].items()}}
    return write_text(path, json.dumps(text, indent=4, ensure_ascii=False) + "\n")
