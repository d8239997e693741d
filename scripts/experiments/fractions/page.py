"""The page of one patient: what is not plausible, contours, dose and pictures over her fractions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.core.page.page import Figure, Section, embedded, write_page
from scripts.core.tables import shown
from scripts.experiments.fractions.contours import Jump
from scripts.experiments.fractions.follow import Followed

HERE = Path(__file__).parent
LEAD = (
    "Contours are compared in the patient's frame, through the affines of the images alone: nothing is registered, so a "
    "patient who lies or is filled otherwise lowers the DSC as a wrong contour does. Research only, for no treatment."
)


def write_patient(file: Path, found: Followed, jump: Jump) -> Path:
    """Write the page of a patient.

    Args:
        file: HTML to write.
        found: of at least one fraction.
        jump: what was flagged.

    Returns:
        The file.
    """
    limits = f"a DSC below {jump.least_dsc:g} or a change of volume of more than {jump.most_change:g} %"
    numbers = ", ".join(str(one.number) for one in found.fractions)
    sections = [
        Section(
            "Plausibility",
            HERE / "plausibility.html",
            {"jumps": found.jumps, "limits": limits, "failed": [str(error) for error in found.failed]},
            alarm=bool(found.jumps or found.failed),
        ),
        Section("Contours", HERE / "contours.html", {"rows": [_contour(row) for row in found.contours]}),
        Section("Dose", HERE / "dose.html", {"rows": [_dose(row) for row in found.doses] if found.dosed else []}),
        Section(
            "Pictures",
            HERE / "pictures.html",
            {"pictures": [(caption, embedded(picture)) for caption, picture in found.pictures]},
        ),
    ]
    figures = [
        Figure("Fractions", str(len(found.fractions)), numbers),
        Figure("Jumps", str(len(found.jumps)), "look at both contours" if found.jumps else "", bad=bool(found.jumps)),
    ]
    return write_page(file, found.patient, LEAD, sections, figures, kind="Fractions")


def _contour(row: Mapping[str, Any]) -> dict[str, str]:
    change = row["volume_change_percent"]
    return {
        "structure": row["structure"],
        "fraction": shown(row["fraction"]),
        "volume (ml)": shown(row["volume_ml"]),
        "against fraction": shown(row["previous_fraction"]),
        "change (%)": "" if change is None else f"{change:+.0f}",
        "DSC": "" if row["dsc_previous"] is None else f"{row['dsc_previous']:.3f}",
        "jump": "jump" if row["jump"] else "",
    }


def _dose(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "structure": row["structure"],
        "measure": row["measure"],
        "fraction": shown(row["fraction"]),
        "value": "" if row["value"] is None else f"{row['value']:.2f} {row['unit']}",
        "EQD2 (Gy)": "" if row["eqd2"] is None else f"{row['eqd2']:.1f}",
        "accumulated EQD2 (Gy)": "" if row["accumulated_eqd2"] is None else f"{row['accumulated_eqd2']:.1f}",
        "why a number is missing": row["remark"],
    }
