"""What is to be looked at first."""

from __future__ import annotations

import math
from typing import Any

from scripts.experiments.quality.file import Quality
from scripts.experiments.quality.model import Model
from scripts.experiments.quality.order import look_first
from scripts.experiments.quality.places import Usual
from scripts.experiments.quality.signs import Signs


def quality(**more: Any) -> Quality:
    model = Model(0.7, True, ("entropy",), (0.5,), (0.1,), (1.0,), 0.0, 30, 30, 8)
    usual = Usual(20, 20, (1.0, 1.0), "image", (0.0,) * 3, (1.0,) * 3)
    rare = Usual(20, 8, (1.0, 1.0), "image", (0.0,) * 3, (1.0,) * 3)
    given: dict[str, Any] = {"usual": {"a": usual, "b": rare}, "models": {"a": model}, "without": {"b": "too few"}}
    return Quality((), 1, "", "training", "MR", {"a": [1], "b": [2]}, **(given | more))


def maps(unsure: float, a: float = 1.0, b: float = 1.0) -> list[list[Signs]]:
    return [[Signs("a", a, entropy=unsure), Signs("b", b, entropy=0.1)]]


def test_missing_then_by_probability_then_what_has_no_number() -> None:
    cases = {
        "sure": maps(0.2),
        "unsure": maps(0.9),
        "lost": maps(0.2, a=0.0),
        "rare": maps(0.3, b=0.0),
        "?": maps(math.nan),
    }
    found = look_first(cases, quality())
    assert [one.case for one in found] == ["lost", "unsure", "rare", "sure", "?"]
    lost, unsure = found[:2]
    assert (lost.structure, lost.missing, lost.why) == ("a", True, "not found; 20 of 20 training labels have it")
    assert math.isnan(lost.probability)
    assert unsure.probability == 1 / (1 + math.exp(-4))
    assert unsure.row() == {"case": "unsure", "structure": "a", "probability": "0.98", "why": "entropy 0.9"}
    # a structure that few training labels have may be absent
    assert found[2].structure == "a"
    assert found[-1].why == "a sign that its model needs is unknown"


def test_the_number_of_several_networks_is_the_mean_of_theirs() -> None:
    one, two = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(3))
    (found,) = look_first({"c": [*maps(0.9), *maps(0.2)]}, quality())
    assert found.probability == (one + two) / 2
    assert found.why == "entropy 0.9"
    (found,) = look_first({"c": [*maps(0.9), *maps(0.2, a=0.0)]}, quality())
    assert (found.missing, found.why) == (True, "not found by 1 of 2 networks; 20 of 20 training labels have it")
