"""Cases in the order of a patient's fractions."""

from typing import Any

import pytest

from scripts.core.datalist import Case
from scripts.experiments.fractions.series import series_of


def case(name: str, patient: str, fraction: Any = None) -> Case:
    return Case(name, {"image": f"{name}.nii.gz"}, patient, more={} if fraction is None else {"fraction": fraction})


def test_by_number_whatever_the_order_of_the_datalist() -> None:
    found, problems = series_of([case("x", "a", 10), case("y", "b", 1), case("z", "a", 2), case("w", "a")])
    assert {patient: [one.case.name for one in part] for patient, part in found.items()} == {
        "a": ["z", "x"],
        "b": ["y"],
    }
    assert not problems


@pytest.mark.parametrize("fraction", [0, -1, 1.0, "1", True])
def test_what_is_no_number_costs_the_case_alone(fraction: Any) -> None:
    found, problems = series_of([case("x", "a", fraction), case("y", "a", 1)])
    assert [one.case.name for one in found["a"]] == ["y"]
    assert [str(error) for error in problems] == [
        f"x: its fraction is {fraction!r}; give a whole number above 0, or leave it out."
    ]


def test_of_two_with_one_number_none_is_taken() -> None:
    found, problems = series_of(
        [case("x", "a", 1), case("y", "a", 2), case("z", "a", 2), case("v", "b", 1), case("w", "b", 1)]
    )
    assert {patient: [one.number for one in part] for patient, part in found.items()} == {"a": [1]}
    assert [error.case for error in problems] == ["y", "z", "v", "w"]
    assert problems[0].problem == "another case of patient a is fraction 2 too"
