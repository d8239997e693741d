from __future__ import annotations

from typing import Any

from scripts.data.check.case import CheckedCase
from scripts.data.check.cohort import check_cohort


def checked(name: str, patient: str = "", place: str = "fold 0", **more: Any) -> CheckedCase:
    size: dict[str, Any] = {"shape": (100, 100, 20), "spacing": (1.0, 1.0, 5.0)}
    return CheckedCase(name, patient or name, place, **{**size, **more})


def rules(cases: list[CheckedCase]) -> list[list[tuple[str, str]]]:
    check_cohort(cases)
    return [[(finding.severity, finding.rule) for finding in case.findings] for case in cases]


def test_a_sound_cohort() -> None:
    assert rules([checked("a"), checked("b"), checked("c", place="fold 1")]) == [[], [], []]


def test_the_same_image_twice() -> None:
    """A warning within one place and patient, a leak across places or patients."""
    same = [checked("a", "p", digest="x"), checked("b", "p", digest="x")]
    assert rules(same) == [[("warning", "duplicate image")]] * 2
    assert "b (patient p)" in same[0].findings[0].sentence
    assert rules([checked("a", digest="x"), checked("b", digest="x")]) == [[("error", "duplicate image")]] * 2
    held_out = checked("b", "p", "held out", digest="x")
    assert ("error", "duplicate image") in rules([checked("a", "p", digest="x"), held_out])[0]
    # what could not be read has no digest and is no duplicate
    assert rules([checked("a", digest=""), checked("b", digest="")]) == [[], []]


def test_a_patient_in_two_places_and_a_name_twice() -> None:
    cases = [checked("a", "p"), checked("b", "p", "held out"), checked("c", "p", "")]
    assert rules(cases) == [[("error", "patient in two folds")]] * 3
    assert "no fold and fold 0 and held out" in cases[0].findings[0].sentence
    assert rules([checked("a", "p"), checked("a", "q")]) == [[("error", "name used twice")]] * 2


def test_outliers_by_factor_two_of_the_median() -> None:
    cases = [*(checked(name) for name in "abcd"), checked("odd", spacing=(1.0, 1.0, 10.5), shape=(100, 100, 20))]
    assert rules(cases)[:4] == [[]] * 4
    assert [finding.rule for finding in cases[4].findings] == ["unusual spacing", "unusual field of view"]
    assert "10.5 mm head-foot (median 5)" in cases[4].findings[0].sentence
    at_two = [*(checked(name) for name in "abcd"), checked("e", spacing=(1.0, 1.0, 10.0))]
    assert rules(at_two)[4] == []
    half = [*(checked(name) for name in "abcd"), checked("e", spacing=(0.5, 1.0, 5.0))]
    assert rules(half)[4] == []
    below = [*(checked(name) for name in "abcd"), checked("e", spacing=(0.4, 1.0, 5.0))]
    assert [rule for _, rule in rules(below)[4]] == ["unusual spacing", "unusual field of view"]
    # two cases have no median worth the name
    assert rules([checked("a"), checked("b", spacing=(1.0, 1.0, 50.0))]) == [[], []]
