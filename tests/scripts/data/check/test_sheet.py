from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from scripts.data.check import sheet
from scripts.data.check.case import CheckedCase
from scripts.data.check.sheet import COLORS, contact_sheet

LABELS = {0: "background", 1: "organ"}


def checked(name: str, severity: str = "", picture: bool = True) -> CheckedCase:
    case = CheckedCase(name, name, "fold 0", picture=np.full((8, 8, 3), 90, np.uint8) if picture else None)
    if severity:
        case.add(severity, f"rule of {name}", "a sentence")  # type: ignore[arg-type]
    return case


def test_worst_first_over_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[str], str, str]] = []
    monkeypatch.setattr(
        sheet, "_page", lambda cases, labels, path, title: drawn.append(([c.case for c in cases], path.name, title))
    )
    cases = [checked(f"{i:02d}") for i in range(48)] + [checked("warned", "warning"), checked("wrong", "error")]
    written = contact_sheet(cases, LABELS, tmp_path / "sheet.png", "T")
    assert [path.name for path in written] == ["sheet.png", "sheet_2.png"]
    assert drawn[0][0][:3] == ["wrong", "warned", "00"]
    assert [len(names) for names, _, _ in drawn] == [48, 2]
    assert drawn[1][1:] == ("sheet_2.png", "T (page 2 of 2)")


def test_frames_have_the_colour_of_what_was_found(tmp_path: Path) -> None:
    def amount(cases: list[CheckedCase], color: str) -> int:
        (file,) = contact_sheet(cases, LABELS, tmp_path / "sheet.png")
        pixels = np.round(matplotlib.image.imread(file)[..., :3] * 255).astype(int)
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        return int((np.abs(pixels - wanted).max(-1) < 3).sum())

    assert amount([checked("a")], COLORS["error"]) == 0
    assert amount([checked("a", "error"), checked("$b_{", "warning", picture=False)], COLORS["error"]) > 100
    assert amount([checked("$b_{", "warning", picture=False)], COLORS["warning"]) > 100


def test_long_names_and_rules_are_cut() -> None:
    first, second = sheet._caption(checked("n" * 40, "error")).split("\n")
    assert "n" * 21 + "…" in first
    assert "n" * 22 not in first
    assert len(second) == 32
