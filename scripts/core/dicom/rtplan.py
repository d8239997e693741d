"""RTPLAN: how many fractions a dose is given in, and how many parts it has. Nothing else of a plan is read or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import items, read_dataset, silent_dicom, text_of
from scripts.core.dicom.head import derived_head
from scripts.core.dicom.source import SourceSeries
from scripts.core.dicom.write_rtdose import RTPLAN
from scripts.core.files import atomic_file


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        sop: its SOPInstanceUID, by which doses refer to it.
        fractions: planned number of fractions; None where it is not said or the plan has several fraction groups.
        parts: number of beams or application setups; None where it is not said or the plan has several fraction groups.
    """

    sop: str
    fractions: int | None
    parts: int | None = None


@silent_dicom()
def read_rtplan(file: Path, case: str) -> Plan:
    """Read a plan.

    Args:
        file: the DICOM file.
        case: name for messages.

    Raises:
        CaseError: it cannot be read.
    """
    try:
        dataset = read_dataset(file, pixels=False)
        what = "" if text_of(dataset, "Modality") == "RTPLAN" else "it is none"
    except Exception as error:  # the error's own text may hold header values
        what = type(error).__name__
    if what:
        raise CaseError(case, f"its RTPLAN cannot be read ({what})", "export the RTPLAN again")
    # groups are given one after the other: several are several numbers of fractions with doses of their own
    groups = list(items(dataset, "FractionGroupSequence"))
    if len(groups) != 1:
        return Plan(text_of(dataset, "SOPInstanceUID"), None)
    fractions, beams, setups = (
        _count(groups[0], f"NumberOf{what}") for what in ("FractionsPlanned", "Beams", "BrachyApplicationSetups")
    )
    return Plan(text_of(dataset, "SOPInstanceUID"), fractions or None, beams + setups or None)


def _count(group: Any, name: str) -> int:
    text = text_of(group, name)
    return int(text) if text.isdecimal() else 0


@silent_dicom()
def write_rtplan(path: str | Path, source: SourceSeries, fractions: int, label: str, description: str) -> Plan:
    """Write a brachytherapy plan that says how many fractions it has and nothing of how they are given; atomically.

    Args:
        path: the `.dcm` file.
        source: the series that it was made on.
        fractions: planned number of fractions.
        label: RTPlanLabel, at most 16 characters.
        description: SeriesDescription.

    Returns:
        The plan.
    """
    from pydicom.dataset import Dataset

    dataset = derived_head(source, RTPLAN, "RTPLAN", description)
    dataset.RTPlanLabel, dataset.RTPlanDate, dataset.RTPlanTime = label, dataset.SeriesDate, dataset.SeriesTime
    dataset.RTPlanGeometry, dataset.PlanIntent, dataset.ApprovalStatus = "TREATMENT_DEVICE", "RESEARCH", "UNAPPROVED"
    group = Dataset()
    group.FractionGroupNumber, group.NumberOfFractionsPlanned = 1, fractions
    group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = 0, 0
    dataset.FractionGroupSequence = [group]
    with atomic_file(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)
    return Plan(str(dataset.SOPInstanceUID), fractions)
