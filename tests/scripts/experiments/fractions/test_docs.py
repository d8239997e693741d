"""docs/fractions.md: its commands run as they stand, and its files are written."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from scripts.__main__ import main

PAGE = (Path(__file__).resolve().parents[4] / "docs/fractions.md").read_text("utf-8")


def test_the_commands(cohort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^python -m scripts (fractions .*)$", PAGE, flags=re.MULTILINE)
    monkeypatch.chdir(cohort.folder)
    assert [main(shlex.split(line)) for line in lines] == [0, 0]
    for folder in ("out", "out_automatic"):
        for name in ("contours.csv", "dose.csv", "run.json", "a.html", "pictures/a1.png"):
            assert (cohort.folder / folder / name).is_file()
            assert f"`{name.replace('a.html', 'PATIENT.html').replace('a1', 'CASE')}`" in PAGE


def test_the_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fractions", "--", "--help"]) == 0
    said = capsys.readouterr().out
    found = re.findall(r"`--(least_dsc|most_volume_change)` \((\d+(?:\.\d+)?)(?: %)?\)", PAGE)
    assert len(found) == 2
    for option, default in found:
        assert re.search(rf"{option}=.*\n.*\n.*Default: {float(default)}", said)
