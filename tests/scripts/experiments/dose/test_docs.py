"""docs/dose.md: its command runs as it stands, its files are written, its constraint is read."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from scripts.__main__ import main
from scripts.experiments.dose.constraints import read_constraints

PAGE = (Path(__file__).resolve().parents[4] / "docs/dose.md").read_text("utf-8")


def test_the_command(cohort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^python -m scripts (dose .*)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)
    (cohort.folder / "data").mkdir()
    for name in ("images", "labels", "doses"):
        (cohort.folder / name).rename(cohort.folder / "data" / name)
    (cohort.folder / "pred").rename(cohort.folder / "predictions")
    cohort.datalist.rename(cohort.folder / "data/datalist.json")
    monkeypatch.chdir(cohort.folder)
    assert main(shlex.split(line)) == 0
    for name in ("dose.csv", "summary.csv", "dose.md", "constraints.csv", "run.json"):
        assert f"`{name}`" in PAGE
        assert (cohort.folder / "out" / name).is_file()


def test_the_constraint(tmp_path: Path) -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "c.json").write_text(text, "utf-8")
    (line,) = read_constraints(tmp_path / "c.json")
    assert (line.aim, line.limit) == (65, 75)


def test_the_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^python -m scripts (phantom .*)$", PAGE, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(line), "--cases", "1", "--matrix", "32", "--slices", "10"]) == 0
    assert (tmp_path / "phantom_ct/doses/p001_t1.nii.gz").is_file()
    assert (tmp_path / "phantom_ct/dicom/p001_t1/rtdose.dcm").is_file()
