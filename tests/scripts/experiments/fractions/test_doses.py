"""EQD2 added up over fractions, by hand; over a gap there is no number."""

import pytest

from scripts.experiments.dose.constraints import Course
from scripts.experiments.dose.measures import Result
from scripts.experiments.fractions.doses import Dosed, accumulated, dose_rows
from tests.scripts.experiments.fractions.conftest import WANTED, contoured, grid, sphere

KEY = ("HR-CTV", "D90")
EXTERNAL = Course(45.0, 25)


def doses(*values: Result, counts: tuple[int | None, ...] = (1, 1, 1)) -> dict[int, Dosed]:
    return {i: Dosed(count, {KEY: value}) for i, (value, count) in enumerate(zip(values, counts, strict=False), 1)}


def test_by_hand() -> None:
    # 45 Gy in 25: 45 * 11.8 / 12 = 44.25; 7 Gy: 7 * 17 / 12 = 9.9167; 6 Gy: 6 * 16 / 12 = 8
    mine = doses(7.0, 6.0)
    assert accumulated(mine, 1, KEY, 10.0, EXTERNAL) == pytest.approx(44.25 + 119 / 12)
    assert accumulated(mine, 2, KEY, 10.0, EXTERNAL) == pytest.approx(44.25 + 119 / 12 + 8)
    assert accumulated(mine, 2, KEY, 10.0, Course(0.0)) == pytest.approx(119 / 12 + 8)
    # 12 Gy in two fractions are twice 6 Gy
    assert accumulated(doses(12.0, counts=(2,)), 1, KEY, 10.0, Course(0.0)) == pytest.approx(16)


@pytest.mark.parametrize(
    ("mine", "course", "said"),
    [
        (doses(7.0, "it has no dose", 7.0), EXTERNAL, "fraction 2: it has no dose"),
        ({1: doses(7.0)[1], 3: doses(7.0)[1]}, EXTERNAL, "fraction 2: there is no case that can be used"),
        (doses(7.0, 7.0, 7.0, counts=(1, None, 1)), EXTERNAL, "its number of fractions is not known"),
        (doses(7.0, 7.0, 7.0), Course(), "the external beam's dose is not given"),
    ],
)
def test_a_gap_is_a_sentence(mine: dict[int, Dosed], course: Course, said: str) -> None:
    assert accumulated(mine, 3, KEY, 10.0, course) == said


def test_a_fraction_without_dose_costs_the_numbers_after_it_and_none_before() -> None:
    mine = doses(7.0, "it has no dose", 5.0)
    fractions = [contoured(number, grid(), sphere(grid(), (0.0, 0.0, 0.0))).fraction for number in (1, 2, 3)]
    rows = [row for one in fractions for row in dose_rows(one, mine, WANTED, EXTERNAL)]
    assert [row["value"] for row in rows] == [7.0, None, 5.0]
    assert [row["eqd2"] for row in rows] == pytest.approx([119 / 12, None, 75 / 12])
    assert [row["accumulated_eqd2"] for row in rows] == pytest.approx([44.25 + 119 / 12, None, None])
    assert [row["remark"] for row in rows] == ["", *["fraction 2: it has no dose"] * 2]
