"""Which classes are compared, and which of them is the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custom_networks import CaseError
from scripts.core.datalist import Datalist
from scripts.core.look import TUMOR_NAMES

# name of a class -> the label values it consists of
Classes = dict[str, list[int]]


def read_classes(datalist: Datalist, wanted: Mapping[str, Any] | Sequence[str] | None = None) -> Classes:
    """Decide what is compared: the datalist's `regions`, else the organ rule, else one class per label value.

    The organ rule (paper's organ contours contain the tumour): labels named organ and tumor (or tumour, in any case), and no
    others, mean organ = {organ, tumor} and tumor = {tumor}.

    Args:
        datalist: with `labels` and perhaps `regions`.
        wanted: None; names of classes; or a mapping from name to label values, which replaces
            the datalist's classes.

    Returns:
        Name of each class -> its label values.

    Raises:
        CaseError: no class can be told, or a wanted one is unknown or empty.
    """
    name = f"datalist {datalist.name}".rstrip()
    if isinstance(wanted, Mapping):
        return _regions(wanted, "--classes")
    if datalist.more.get("regions"):
        classes = _regions(datalist.more["regions"], name)
    else:
        classes = {text: [value] for value, text in sorted(datalist.labels.items()) if value != 0}
        by_lower = {text.lower(): text for text in classes}
        tumors = [by_lower[name] for name in TUMOR_NAMES if name in by_lower]
        if "organ" in by_lower and len(tumors) == 1 and len(classes) == 2:
            classes[by_lower["organ"]] += classes[tumors[0]]
    if wanted is not None:
        unknown = [w for w in wanted if w not in classes]
        if unknown:
            known = ", ".join(classes) or "none"
            raise CaseError("--classes", f"{unknown[0]!r} is no class of {name} ({known})", "name one of those")
        classes = {w: classes[w] for w in wanted}
    if not classes:
        raise CaseError(name, "it names no labels", """add "labels" to it or pass --classes '{"organ": [1]}'""")
    return classes


def _regions(regions: Any, where: str) -> Classes:
    try:
        classes = {
            str(name): [int(v) for v in (values if isinstance(values, Sequence) else [values])]
            for name, values in regions.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise CaseError(
            where, f"its classes cannot be read ({error})", 'write {"organ": [1, 2], "tumor": [2]}'
        ) from error
    empty = [name for name, values in classes.items() if not values or 0 in values]
    if empty or not classes:
        raise CaseError(
            where, f"class {empty[0] if empty else '(none)'} has no label value, or 0", "name values above 0"
        )
    return classes


def target_class(classes: Classes) -> str:
    """The class that decides which cases and slices are shown: the tumour, else the HR-CTV, else the last one."""
    by_lower = {name.lower(): name for name in classes}
    wanted = [by_lower[name] for name in (*TUMOR_NAMES, "hr-ctv") if name in by_lower]
    return wanted[0] if wanted else list(classes)[-1]


def ranking_class(classes: Classes, mean: str) -> str:
    """The class by whose DSC cases are ordered.

    Args:
        classes: name -> label values.
        mean: how the mean over classes is called.

    Returns:
        The tumour, the HR-CTV or the only class; else the mean over classes.
    """
    target = target_class(classes)
    return target if len(classes) == 1 or target.lower() in {*TUMOR_NAMES, "hr-ctv"} else mean
