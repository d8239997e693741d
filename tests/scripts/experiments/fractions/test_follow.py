"""A fraction that cannot be used costs itself only: the next one is compared with the one before it."""

from pathlib import Path
from typing import Any

import pytest

from scripts.core.datalist import Datalist
from scripts.experiments.dose.case import Wanted
from scripts.experiments.dose.constraints import Course
from scripts.experiments.dose.measures import parse_measures
from scripts.experiments.fractions.contours import Jump
from scripts.experiments.fractions.follow import Followed, follow
from scripts.experiments.fractions.series import series_of

WANTED = Wanted({"HR-CTV": [1]}, [0, 1, 2], parse_measures(["D90"]), {"HR-CTV": 10.0})


def followed(cohort: Any, folder: Path) -> Followed:
    series, _ = series_of(Datalist.read(cohort.datalist).testing)
    return follow("a", series["a"], WANTED, Jump(), Course(0.0), "CT", folder)


def test_every_fraction_against_the_one_before(cohort: Any, tmp_path: Path) -> None:
    found = followed(cohort, tmp_path / "p")
    assert [(row["fraction"], row["previous_fraction"]) for row in found.contours] == [(1, None), (2, 1), (3, 2)]
    # spheres of 15 mm, 6 mm apart: 1 - 1.5 * 0.2 + 0.5 * 0.2**3
    assert found.contours[1]["dsc_previous"] == pytest.approx(0.704, abs=0.02)
    assert len(found.jumps) == 1
    assert all(file.stat().st_size > 10_000 for _, file in found.pictures)
    assert [row["accumulated_eqd2"] for row in found.doses] == pytest.approx(
        [119 / 12, 119 / 12 + 8, 119 / 12 + 8 + 6.25]
    )


def test_a_bad_one_costs_itself_only(cohort: Any, tmp_path: Path) -> None:
    (cohort.folder / "data/labels/a2.nii.gz").write_bytes(b"no image")
    found = followed(cohort, tmp_path / "p")
    assert [error.case for error in found.failed] == ["a2"]
    assert [(row["fraction"], row["previous_fraction"]) for row in found.contours] == [(1, None), (3, 1)]
    assert [row["remark"] for row in found.doses] == ["", "fraction 2: there is no case that can be used"]
    assert [file.name for _, file in found.pictures] == ["a1.png", "a3.png"]
