"""Where stage 2 takes the organ mask from while it trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms.transform import Transform

from custom_networks.data.datalist import case_name
from custom_networks.errors import CaseError

SOURCES = ("file", "label", "none")
REMEDY = (
    "make out-of-fold masks with `python -m scripts organ_masks`, or train on the labels' own organ with --organ_source "
    "label"
)

logger = logging.getLogger(__name__)


class TakeOrgand(Transform):
    """Set a case's `organ` entry to the file that stage 2 is to see.

    Args:
        source: `file`: the case's own `organ`, such as an out-of-fold prediction, without which it is refused; `label`:
            the label, whose every foreground voxel counts as organ, so that stage 2 sees a perfect stage 1; `none`: no
            organ mask is read.
    """

    def __init__(self, source: str = "file") -> None:
        self.source = _known(source)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Give a copy of a case before it is loaded.

        Args:
            data: datalist entry.

        Raises:
            CaseError: the case lacks the file that is asked for.
        """
        if self.source == "none":
            return dict(data)
        key = "organ" if self.source == "file" else "label"
        if not data.get(key):
            raise CaseError(case_name(data), f"it names no {key}", REMEDY)
        return {**data, "organ": data[key]}


def check_organ_source(cases: Sequence[Mapping[str, Any]], source: str) -> None:
    """Say before training how many organ masks come from where; refuse if some are missing.

    Args:
        cases: training and validation cases.
        source: see `TakeOrgand`.

    Raises:
        CaseError: unknown source, or cases that lack the file.
    """
    key = "label" if _known(source) == "label" else "organ"
    lacking = [case for case in cases if source != "none" and not case.get(key)]
    if lacking:
        raise CaseError(
            case_name(lacking[0]), f"it and {len(lacking) - 1} more of {len(cases)} cases name no {key}", REMEDY
        )
    if source == "label":
        unused = sum(bool(case.get("organ")) for case in cases)
        logger.warning(
            "stage 2 sees the true organ of the label in all %d cases (organ_source label), as no stage 1 will give it%s",
            len(cases),
            f"; {unused} organ masks of the datalist are left aside" if unused else "",
        )
    elif source == "file":
        logger.info("stage 2 sees the organ masks that the datalist names in all %d cases", len(cases))


def _known(source: str) -> str:
    if source not in SOURCES:
        raise CaseError("option --organ_source", f"{source!r} is no source", f"pass one of {', '.join(SOURCES)}")
    return source
