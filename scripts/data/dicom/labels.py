"""Which ROI becomes which label: `--labels "{organ: 'uterus|cervix', tumor: 'tumou?r|GTV'}"`."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custom_networks.errors import CaseError
from scripts.core.dicom.rtstruct import Roi
from scripts.data.dicom.patterns import checked_pattern, matches

COLOUR = re.compile(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)", re.IGNORECASE)
EXAMPLE = "write for example --labels \"{organ: 'uterus|cervix', tumor: '#2'}\""


@dataclass(frozen=True)
class LabelRule:
    """One label: its value in the label map, its name, and the selectors of its ROIs, any of which may hold."""

    value: int
    name: str
    selectors: tuple[str, ...]

    def matches(self, roi: Roi) -> bool:
        """Whether an ROI belongs to this label."""
        return any(_matches(selector, roi) for selector in self.selectors)


def parse_labels(spec: object) -> list[LabelRule]:
    """Read a label specification.

    Args:
        spec: label name to selector, in the order of the label values 1, 2, …; a later label wins where ROIs overlap,
            so nested ROIs are named from the outside in. A selector, or a list of them, is `#3` for ROINumber (segment
            number) 3, `rgb(0,235,235)` for a display colour, and else a regular expression that the ROI's name must
            contain, upper and lower case alike.

    Returns:
        A rule per label; none for an empty specification.

    Raises:
        CaseError: it is not such a mapping, or a regular expression is faulty.
    """
    if spec is None or spec == "":
        return []
    pairs = list(spec.items()) if isinstance(spec, Mapping) else _pairs(str(spec)) if isinstance(spec, str) else []
    if not pairs:
        raise CaseError("--labels", "it is not a mapping from label name to ROI", EXAMPLE)
    names = Counter(str(name).casefold() for name, _ in pairs)
    twice = next((name for name, _ in pairs if names[str(name).casefold()] > 1), None)
    if twice is not None:
        raise CaseError(
            "--labels",
            f"it has label '{twice}' twice, upper and lower case alike",
            "give one label a list of its ROIs: \"{organ: ['uterus', 'cervix']}\"",
        )
    rules = []
    for value, (name, selectors) in enumerate(pairs, 1):
        chosen = [selectors] if isinstance(selectors, str) else selectors
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w .+-]{0,63}", name):
            raise CaseError("--labels", f"label {value} has no plain name of letters and digits", EXAMPLE)
        if not isinstance(chosen, Sequence) or not chosen or not all(isinstance(s, str) and s for s in chosen):
            raise CaseError("--labels", f"label '{name}' has no ROI pattern, number or colour", EXAMPLE)
        for selector in chosen:
            if selector.startswith("#") and not selector[1:].strip().isdecimal():
                raise CaseError("--labels", f"'{selector}' of label '{name}' is not an ROI number", "write '#3'")
            if selector.lower().startswith("rgb(") and not COLOUR.fullmatch(selector.strip()):
                raise CaseError("--labels", f"'{selector}' of label '{name}' is not a colour", "write 'rgb(0,235,235)'")
            checked_pattern(f"--labels '{name}'", selector)
        rules.append(LabelRule(value, name, tuple(chosen)))
    return rules


def _pairs(text: str) -> list[tuple[str, object]]:
    """Names and selectors of `{organ: 'uterus|cervix', HR-CTV: [HRCTV, '#4']}`, with those that occur twice."""
    # a name such as HR CTV is no expression of Python until it is quoted
    quoted = re.sub(r"([{,]\s*)([A-Za-z][\w .+-]*?)\s*:", r"\1'\2':", text)
    for spelling in (text, quoted):
        try:
            tree = ast.parse(spelling.strip(), mode="eval").body
            if isinstance(tree, ast.Dict):
                return [(str(_value(key)), _value(value)) for key, value in zip(tree.keys, tree.values, strict=True)]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return []


def _value(node: ast.expr | None) -> object:
    """A constant, a bare word as text, or a list of these."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError("neither a text nor a list")


def _matches(selector: str, roi: Roi) -> bool:
    if selector.startswith("#"):
        return roi.number == int(selector[1:])
    colour = COLOUR.fullmatch(selector.strip())
    if colour:
        return roi.colour == tuple(int(part) for part in colour.groups())
    return matches(selector, roi.name.replace("\0", ""))
