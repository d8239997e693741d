"""RTDOSE and RTPLAN of a DICOM tree, and the image series that each dose belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.core.dicom.rtdose import PARTS, Dose, check_frame, read_rtdose, whole_dose
from scripts.core.dicom.rtplan import read_rtplan
from scripts.data.dicom.patients import identity_of
from scripts.data.dicom.scan import Header, Series, Tree

DOSES = {"RTDOSE", "RTPLAN"}
# what a dose of this kind is the sum of, systems disagree about: one fraction, or all of a fraction group
AMBIGUOUS = "FRACTION"


@dataclass(frozen=True)
class DoseFiles:
    """Dose files of a series, and all plans of its patient."""

    doses: tuple[Path, ...] = ()
    plans: tuple[Path, ...] = ()


def headers_of(tree: Tree, modality: str) -> list[Header]:
    """Headers of all files of a modality."""
    return [header for one in tree.series.values() if one["Modality"].upper() == modality for header in one.headers]


def doses_of(series: Series, tree: Tree) -> tuple[DoseFiles, list[str]]:
    """Doses of the patient in the frame of reference of a series.

    Args:
        series: the image series.
        tree: the scanned tree.

    Returns:
        Their files, and sentences for the report.
    """
    image = series.headers[0]
    mine = {
        modality: [h for h in headers_of(tree, modality) if identity_of(h).agrees(identity_of(image))]
        for modality in DOSES
    }
    frame = series["FrameOfReferenceUID"]
    here = [header for header in mine["RTDOSE"] if frame and header["FrameOfReferenceUID"] == frame]
    study = [header for header in mine["RTDOSE"] if header["StudyInstanceUID"] == series["StudyInstanceUID"]]
    away = len([header for header in study if header not in here])
    notes = [f"{away} RTDOSE of its study lie in another frame of reference and were left out"] if away else []
    plans = mine["RTPLAN"] if here else []
    return DoseFiles(tuple(h.file for h in here), tuple(h.file for h in plans)), notes


def unclaimed(tree: Tree, claimed: Sequence[DoseFiles]) -> int:
    """How many RTDOSE belong to no case."""
    taken = {file for files in claimed for file in files.doses}
    return sum(header.file not in taken for header in headers_of(tree, "RTDOSE"))


def read_case_dose(case: str, files: DoseFiles, frame: str) -> tuple[Dose, int | None, list[str]]:
    """Read the dose of a case and its number of fractions.

    Args:
        case: name for messages.
        files: at least one dose.
        frame: FrameOfReferenceUID of the image.

    Returns:
        The dose, the planned number of fractions where the RTPLAN of the dose says one and that no part of the dose is
        missing, and sentences for the report.

    Raises:
        CaseError: the files are no dose of one plan in the frame of reference of the image.
    """
    dose = whole_dose(case, [read_rtdose(file, case) for file in files.doses])
    check_frame(case, dose, frame)
    plans = [plan for plan in (read_rtplan(file, case) for file in files.plans) if plan.sop == dose.plan]
    fractions = plans[0].fractions if plans else None
    notes = list(dose.notes)
    if dose.summation == AMBIGUOUS:
        fractions = None
        notes.append("its RTDOSE is of a FRACTION, and of how many fractions is not said")
    elif not plans:
        notes.append("no RTPLAN of its dose is there, so its number of fractions is not known")
    elif fractions is None:
        notes.append("the RTPLAN of its dose does not say one number of fractions")
    elif dose.summation in PARTS and plans[0].parts != len(files.doses):
        fractions = None
        notes.append(
            f"its dose is of {len(files.doses)} RTDOSE, and that they are all {PARTS[dose.summation]} of its plan is not said"
        )
    return dose, fractions, notes
