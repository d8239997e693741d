"""What a label is called in a planning system, and its code in SNOMED CT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.write_rtstruct import LONGEST_NAME

TABLE = Path(__file__).with_name("roi_names.json")
KINDS = {"GTV", "CTV", "PTV", "ORGAN", "CONTROL", "AVOIDANCE", "EXTERNAL", "SUPPORT", "FIXATION", "MARKER"}


@dataclass(frozen=True)
class RoiName:
    """Name and meaning of a structure.

    Attributes:
        roi: ROIName, by AAPM TG-263 where it has a name.
        kind: RTROIInterpretedType.
        category: keyword of the SNOMED CT category in pydicom's dictionary.
        code: keyword of the SNOMED CT structure there.
        includes: labels that lie within the structure and have values of their own: the tumour within the organ.
    """

    roi: str
    kind: str = "ORGAN"
    category: str = "Tissue"
    code: str = "Tissue"
    includes: tuple[str, ...] = ()


def roi_names(labels: Mapping[int, str], own: str | Path | None = None) -> dict[int, RoiName]:
    """Names of labels.

    Args:
        labels: label value to name; 0 is background and left out.
        own: JSON file of a site's own names: `{"HR-CTV": "CTV_HR"}`, or with `{"roi": …, "kind": "CTV"}`. What it does
            not name keeps the shipped name.

    Returns:
        Label value to name, each unique and at most 16 characters. A label unknown to both keeps its own name, cut.

    Raises:
        CaseError: the file is not such a map, or its names are too long or not unique.
    """
    table = {
        label.casefold(): RoiName(**{**entry, "includes": tuple(entry.get("includes", ()))})
        for label, entry in json.loads(TABLE.read_text("utf-8")).items()
    }
    chosen = _own(own) if own else {}
    found: dict[int, RoiName] = {}
    for value, label in sorted(labels.items()):
        if value == 0:
            continue
        known = table.get(label.casefold())
        mine = chosen.get(label.casefold(), {})
        name = replace(known or RoiName(_plain(label)), **mine)
        if known is None and not mine and name.roi.casefold() in {other.roi.casefold() for other in found.values()}:
            name = replace(name, roi=f"{name.roi[: LONGEST_NAME - len(str(value)) - 1]}_{value}")
        found[value] = name
    rois = [name.roi for name in found.values()]
    for roi in rois:
        if not 0 < len(roi) <= LONGEST_NAME or sum(roi.casefold() == other.casefold() for other in rois) > 1:
            where, what = str(own or "ROI names"), f"{roi!r} is not a unique name of 1 to {LONGEST_NAME} characters"
            raise CaseError(where, what, "give another one with --names")
    return found


def structure_masks(
    placed: np.ndarray, labels: Mapping[int, str], names: Mapping[int, RoiName]
) -> Iterator[tuple[int, np.ndarray]]:
    """Each structure with what lies within it.

    Args:
        placed: whole numbers (columns, rows, slices).
        labels: label value to name.
        names: label value to ROI name.

    Yields:
        Label value and booleans (columns, rows, slices).
    """
    for value, values in structure_values(labels, names).items():
        yield value, np.isin(placed, values)


def structure_values(labels: Mapping[int, str], names: Mapping[int, RoiName]) -> dict[int, list[int]]:
    """Label value of each structure to the values that it consists of: its own and those of what lies within it."""
    value_of = {label.casefold(): value for value, label in labels.items()}
    return {
        value: [value, *(value_of[inner] for inner in name.includes if inner in value_of)]
        for value, name in names.items()
    }


def _plain(label: str) -> str:
    """A label as an ROI name: printable ASCII without what DICOM forbids."""
    return re.sub(r"[^A-Za-z0-9^+~. -]+", "_", label).strip()[:LONGEST_NAME] or "label"


def _own(path: str | Path) -> dict[str, dict[str, Any]]:
    """A site's names, by label."""
    remedy = 'write {"HR-CTV": "CTV_HR"} or {"HR-CTV": {"roi": "CTV_HR", "kind": "CTV"}}'
    try:
        content = json.loads(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CaseError(str(path), f"the names cannot be read ({type(error).__name__})", remedy) from None
    if not isinstance(content, dict):
        raise CaseError(str(path), "it is not a map of labels to names", remedy)
    found = {}
    for label, value in content.items():
        entry = {"roi": value} if isinstance(value, str) else value
        fields = set(RoiName.__dataclass_fields__) - {"includes"}
        if (
            not isinstance(entry, dict)
            or not set(entry) <= fields
            or not all(isinstance(v, str) for v in entry.values())
        ):
            raise CaseError(str(path), f"{label!r} is neither a name nor a map of {', '.join(sorted(fields))}", remedy)
        if entry.get("kind", "ORGAN") not in KINDS:
            raise CaseError(
                str(path), f"{entry['kind']!r} is no RTROIInterpretedType", f"use one of {', '.join(sorted(KINDS))}"
            )
        found[label.casefold()] = entry
    return found
