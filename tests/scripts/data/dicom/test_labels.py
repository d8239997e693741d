from __future__ import annotations

from typing import Any

import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rtstruct import Roi
from scripts.data.dicom.labels import parse_labels


def test_order_gives_values_and_every_selector_kind_matches() -> None:
    outer, inner, other = parse_labels(
        {"organ": "uterus|cervix", "tumor": ["#3", "rgb(0, 235,235)"], "bladder": "^bladder$"}
    )
    assert [(r.value, r.name) for r in (outer, inner, other)] == [(1, "organ"), (2, "tumor"), (3, "bladder")]
    assert outer.matches(Roi(1, "Uterus_final"))
    assert not outer.matches(Roi(1, "rectum"))
    assert inner.matches(Roi(3, "x"))
    assert inner.matches(Roi(4, "x", (0, 235, 235)))
    assert not inner.matches(Roi(4, "#3", (0, 235, 236)))
    assert other.matches(Roi(1, "BLADDER\0"))
    assert not other.matches(Roi(1, "bladder_wall"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("organ", "not a mapping"),
        ([1], "not a mapping"),
        ({}, "not a mapping"),
        ({"organ": ""}, "no ROI pattern"),
        ({"organ": []}, "no ROI pattern"),
        ({"organ": 3}, "no ROI pattern"),
        ({1: "x"}, "no plain name"),
        ({"../x": "x"}, "no plain name"),
        ({"organ": "#x"}, "not an ROI number"),
        ({"organ": "rgb(1,2)"}, "not a colour"),
        ({"organ": "a("}, "not a regular expression"),
    ],
)
def test_faulty_specifications_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(CaseError, match=message):
        parse_labels(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "{organ: 'uterus', tumor: GTV, organ: 'cervix'}",
        "{organ: 'uterus', Organ: 'cervix'}",
        {"organ": "uterus", "ORGAN": "cervix"},
        "{HR-CTV: 'a', 'HR-CTV': 'b'}",
    ],
)
def test_a_label_that_is_named_twice_is_refused(spec: Any) -> None:
    with pytest.raises(CaseError, match=r"it has label '[\w-]+' twice"):
        parse_labels(spec)


def test_text_of_the_command_line_reads_like_the_mapping() -> None:
    text = "{organ: 'uterus|cervix, a: b', 'tumor': [GTV, '#3'], HR CTV: \"rgb(0,235,235)\"}"
    assert [(r.name, r.selectors) for r in parse_labels(text.replace(", a: b", ""))] == [
        ("organ", ("uterus|cervix",)),
        ("tumor", ("GTV", "#3")),
        ("HR CTV", ("rgb(0,235,235)",)),
    ]
    assert parse_labels("{organ: 'x, a: b'}")[0].selectors == ("x, a: b",)


def test_the_pattern_of_the_documents_takes_no_margin() -> None:
    (_, tumor) = parse_labels("{organ: 'uterus|cervix|vagina', tumor: '^(tumou?r|GTV)'}")
    names = ["Tumour", "GTV_Mass", "gtv-T", "PTV_GTV+10mm", "Ring_GTV", "CTV"]
    assert [tumor.matches(Roi(1, name)) for name in names] == [True, True, True, False, False, False]


def test_none_means_unlabelled() -> None:
    assert parse_labels(None) == parse_labels("") == []


def test_names_with_a_hyphen_come_as_text_from_the_command_line() -> None:
    (target, bladder) = parse_labels("{HR-CTV: ['HR.?CTV', '#4'], bladder: 'bladder'}")
    assert (target.name, target.selectors, bladder.name) == ("HR-CTV", ("HR.?CTV", "#4"), "bladder")
    with pytest.raises(CaseError, match="not a mapping"):
        parse_labels("{HR-CTV: HR.?CTV}")
