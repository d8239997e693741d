"""Measures by name, sentences in place of numbers, EQD2."""

import numpy as np
import pytest

from custom_networks import CaseError
from scripts.experiments.dose.dvh import Histogram
from scripts.experiments.dose.measures import DEFAULT, as_functions, eqd2, parse_measures

# ten parts of 0.1 cm3 with 10, 9, … 1 Gy
FOUND = Histogram(np.arange(10.0, 0, -1), np.arange(1, 11) * 0.1, 1.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("D90", 2.0), ("D98", 1.0), ("D10", 10.0), ("D0.1cm3", 10.0), ("D0.5cm3", 6.0), ("D1cm3", 1.0), ("mean", 5.5)],
)
def test_values(name: str, expected: float) -> None:
    (measure,) = parse_measures([name])
    assert measure.of(FOUND) == pytest.approx(expected)
    assert measure.unit == "Gy"
    assert measure.is_dose == (name != "mean")


def test_share_of_the_volume_that_has_the_prescribed_dose() -> None:
    v100, v150 = parse_measures(["V100", "V150"])
    assert v100.of(FOUND, 6.0) == pytest.approx(50)
    assert v150.of(FOUND, 6.0) == pytest.approx(20)
    assert v100.unit == "%"
    assert v100.of(FOUND) == "no prescribed dose is given"


def test_no_number_but_a_sentence() -> None:
    (measure,) = parse_measures(["D2cm3"])
    assert measure.of(FOUND) == "the structure has 1 cm3, less than 2 cm3"
    assert measure.of(None) == "the structure is empty"
    for outside, words in ((0.004, "less than 1 %"), (0.25, "25%")):
        cut = Histogram(FOUND.dose, FOUND.reached, 1.0, outside)
        assert measure.of(cut) == f"{words} of the structure lies outside the dose grid"
        assert [f(cut) for f in as_functions(parse_measures(DEFAULT), 6.0)] == [None] * len(DEFAULT)


@pytest.mark.parametrize("name", ["D0", "D101", "D0cm3", "V0", "V2cm3", "d90", "Dmax", "D2cc", "", "D-1"])
def test_an_unknown_measure_is_refused(name: str) -> None:
    with pytest.raises(CaseError, match="there is none of this name"):
        parse_measures([name])


@pytest.mark.parametrize(
    ("dose", "fractions", "alpha_beta", "expected"),
    [(45, 25, 10, 44.25), (45, 25, 3, 43.2), (28, 4, 10, 28 * 17 / 12), (70, 35, 3, 70), (7, 1, 3, 14)],
)
def test_eqd2(dose: float, fractions: int, alpha_beta: float, expected: float) -> None:
    assert eqd2(dose, fractions, alpha_beta) == pytest.approx(expected)
