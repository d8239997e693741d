"""Every word of a command line becomes what its annotation says, or is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from custom_networks import CaseError
from scripts.core.options import parse


def verb(
    datalist: str,
    count: int = 1,
    share: float = 0.5,
    memory_gb: float | None = None,
    strict: bool = False,
    kind: Literal["paper", "keep"] = "paper",
    output: str | None = None,
    sizes: Sequence[float] = (),
    overrides: str | Sequence[str] = (),
    names: list[str] | None = None,
    ids: Mapping[str, Any] | None = None,
    classes: dict[str, Any] | list[str] | None = None,
    labels: str | Mapping[str, str] = "",
) -> None:
    """A verb with every kind of annotation."""


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--count", "3"], {"count": 3}),
        (["--count=-3"], {"count": -3}),
        (["--share", "20%"], {"share": 0.2}),
        (["--share", "1e-3"], {"share": 0.001}),
        (["--memory_gb", "8GB"], {"memory_gb": 8.0}),
        (["--memory-gb", "512 MiB"], {"memory_gb": 0.5}),
        (["--memory_gb", "none"], {"memory_gb": None}),
        (["--strict"], {"strict": True}),
        (["--strict", "false"], {"strict": False}),
        (["--strict=No"], {"strict": False}),
        (["--nostrict"], {"strict": False}),
        (["--kind", "keep"], {"kind": "keep"}),
        (["--output", "2024_11"], {"output": "2024_11"}),
        (["--output", "1e3"], {"output": "1e3"}),
        (["--output", "hash#1"], {"output": "hash#1"}),
        (["--output", "None"], {"output": "None"}),
        (["--output", "True"], {"output": "True"}),
        (["--output", "[x]"], {"output": "[x]"}),
        (["--sizes", "[20,60]"], {"sizes": [20.0, 60.0]}),
        (["--sizes", "20, 60"], {"sizes": [20.0, 60.0]}),
        (["--overrides", "plan.json"], {"overrides": "plan.json"}),
        (["--overrides", "['a.json', 'b.json']"], {"overrides": ["a.json", "b.json"]}),
        (["--names", "a,b"], {"names": ["a", "b"]}),
        (["--ids", '{"epochs": 5, "a#b": [1, 2]}'], {"ids": {"epochs": 5, "a#b": [1, 2]}}),
        (["--ids", "{'resume': False, 'mean': None}"], {"ids": {"resume": False, "mean": None}}),
        (["--ids", "{epochs: 5, train#rate: 1e-3}"], {"ids": {"epochs": 5, "train#rate": 0.001}}),
        (["--ids", "epochs=5"], {"ids": {"epochs": 5}}),
        (["--ids=spacing=[1,1,2]"], {"ids": {"spacing": [1, 1, 2]}}),
        (["--ids", "tracker=none"], {"ids": {"tracker": "none"}}),
        (["--ids", "none"], {"ids": None}),
        (["--classes", "organ,001"], {"classes": ["organ", "001"]}),
        (["--classes", "tumor"], {"classes": ["tumor"]}),
        (["--classes", '{"organ": [1, 2]}'], {"classes": {"organ": [1, 2]}}),
        (["--labels", "{organ: 'u|c', organ: 'x'}"], {"labels": "{organ: 'u|c', organ: 'x'}"}),
    ],
)
def test_words_become_values(words: list[str], value: dict[str, Any]) -> None:
    assert parse(verb, ["d.json", *words]) == {"datalist": "d.json", **value}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "option --datalist: it is missing"),
        (["--datalist"], "option --datalist: its value is missing"),
        (["d", "--datalist", "e"], "option --datalist: it is given twice"),
        (["d", "--cuont", "3"], r"unknown option --cuont: the options are .*; did you mean --count\."),
        (["d", "--xyz", "3"], "unknown option --xyz: the options are --datalist --count"),
        (["d", "--ids", "5"], "option --ids: '5' does not give values by name; write --ids"),
        (
            ["d", "--ids", "{5"],
            "option --ids: '{5' does not give values by name; write --ids '{\"epochs\": 5}' or --ids epochs=5",
        ),
        (["d", "--ids", '{"a": 1, "a": 2}'], "option --ids: it has 'a' twice"),
        (["d", *(["1"] * 13)], "word '1': there is no option left|neither|whole|no '1'"),
        (["d", "--count", "two"], "option --count: 'two' is not a whole number"),
        (["d", "--count", "2.5"], "option --count: '2.5' is not a whole number"),
        (["d", "--share", "half"], "option --share: 'half' is not a number"),
        (["d", "--share", "nan"], "option --share: 'nan' is not a number"),
        (["d", "--strict=maybe"], "option --strict: 'maybe' is neither true nor false"),
        (["d", "--kind", "nnunet"], "option --kind: there is no 'nnunet'; choose paper, keep"),
        (["d", "--sizes", "a,b"], "option --sizes: 'a' is not a number"),
    ],
)
def test_what_is_no_value_is_one_sentence(words: list[str], said: str) -> None:
    with pytest.raises(CaseError, match=said):
        parse(verb, words)
