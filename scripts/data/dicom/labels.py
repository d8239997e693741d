"""Which ROI becomes which label: `--labels "{organ: 'uterus|cervix', tumor: 'tumou?r|GTV'}"`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custom_networks.errors import CaseError
from scripts.core.dicom.rtstruct import Roi

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
    spec = _mapping(spec) if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or not spec:
        raise CaseError("--labels", "it is not a mapping from label name to ROI", EXAMPLE)
    rules = []
    for value, (name, selectors) in enumerate(spec.items(), 1):
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
            try:
                re.compile(selector)
            except re.error as error:
                raise CaseError(
                    "--labels",
                    f"'{selector}' of label '{name}' is not a regular expression ({error})",
                    "correct it; put a backslash before ( ) [ ] * + ? that are meant literally",
                ) from None
        rules.append(LabelRule(value, name, tuple(chosen)))
    return rules


def _mapping(text: str) -> object:
    """The command line gives a mapping with a name such as HR-CTV as text: to Python that is a difference, not a name."""
    try:
        return ast.literal_eval(re.sub(r"([{,]\s*)([A-Za-z][\w .+-]*?)\s*:", r"\1'\2':", text))
    except (ValueError, SyntaxError):
        return text


def _matches(selector: str, roi: Roi) -> bool:
    if selector.startswith("#"):
        return roi.number == int(selector[1:])
    colour = COLOUR.fullmatch(selector.strip())
    if colour:
        return roi.colour == tuple(int(part) for part in colour.groups())
    return re.search(selector, roi.name.replace("\0", ""), re.IGNORECASE) is not None
