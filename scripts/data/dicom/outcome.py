"""What an import did with every case: one row per case, in words that name no patient."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.core.files import write_text

IMPORTED, REFUSED, LEFT_OUT = "imported", "refused", "left out"
COLUMNS = ("case", "patient", "outcome", "finding", "remedy", "notes", "size", "spacing_mm", "orientation", "labels_ml")


@dataclass
class ImportOutcome:
    """What became of one case, or of a group of series that are left out for one reason.

    Attributes:
        case: pseudonym or published name; empty for a group.
        patient: pseudonym or published name.
        outcome: `imported`, `refused` (asked for but faulty) or `left out` (not asked for).
        finding: why it is refused or left out, one sentence without the full stop.
        remedy: what to do about it.
        notes: what is unusual about an imported case.
        size: voxels per axis.
        spacing: mm per axis.
        orientation: axcodes, such as `LPS`.
        volumes: ml per label name.
        entry: the datalist entry.
    """

    case: str
    patient: str = ""
    outcome: str = IMPORTED
    finding: str = ""
    remedy: str = ""
    notes: list[str] = field(default_factory=list)
    size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    volumes: dict[str, float] = field(default_factory=dict)
    entry: dict[str, str | int] = field(default_factory=dict)


def refused(case: str, patient: str, finding: str, remedy: str) -> ImportOutcome:
    """A case that was asked for and cannot be used."""
    return ImportOutcome(case, patient, REFUSED, finding, remedy)


def write_report(path: str | Path, outcomes: Sequence[ImportOutcome]) -> Path:
    """Write the report as CSV, atomically.

    Args:
        path: the file.
        outcomes: one per row.

    Returns:
        The path.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in outcomes:
        writer.writerow(
            [
                one.case,
                one.patient,
                one.outcome,
                one.finding,
                one.remedy,
                "; ".join(one.notes),
                "x".join(map(str, one.size)),
                "x".join(f"{s:.4g}" for s in one.spacing),
                one.orientation,
                "; ".join(f"{name} {volume:.2f}" for name, volume in one.volumes.items()),
            ]
        )
    return write_text(path, text.getvalue())


def summary(outcomes: Sequence[ImportOutcome], report: Path) -> str:
    """Say what an import did, for the screen.

    Args:
        outcomes: of all cases.
        report: path of the written report.

    Returns:
        Lines of text: one per refused case, one per case with notes, and the counts.
    """
    lines = [f"{one.case}: {one.finding}; {one.remedy}." for one in outcomes if one.outcome == REFUSED]
    lines += [f"{one.case}: {note}." for one in outcomes if one.outcome == IMPORTED for note in one.notes]
    lines += [f"left out: {one.finding}." for one in outcomes if one.outcome == LEFT_OUT]
    kept = [one for one in outcomes if one.outcome == IMPORTED]
    bad = sum(one.outcome == REFUSED for one in outcomes)
    lines.append(
        f"{len(kept)} cases of {len({one.patient for one in kept})} patients imported, {bad} refused; details in {report}"
    )
    return "\n".join(lines)
