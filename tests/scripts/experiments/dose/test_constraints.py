"""Constraints: the shipped file, verdicts, the EQD2 of a whole treatment."""

import json
from pathlib import Path
from typing import Any

import pytest

from custom_networks import CaseError
from scripts.experiments.dose.constraints import SHIPPED, Course, alpha_beta_of, read_constraints
from scripts.experiments.dose.measures import eqd2

LINE = {
    "structures": ["Cord"],
    "measure": "D2cm3",
    "quantity": "EQD2",
    "alpha_beta": 2,
    "at": "most",
    "limit": 50,
    "source": "somewhere",
}


def written(folder: Path, *lines: Any) -> Path:
    (folder / "c.json").write_text(json.dumps(lines))
    return folder / "c.json"


def test_shipped_constraints_are_those_of_embrace_2() -> None:
    lines = read_constraints()
    found = {
        (line.structures[0], line.measure.name, line.at): (line.aim, line.limit, line.alpha_beta) for line in lines
    }
    assert found == {
        ("HR-CTV", "D90", "least"): (90, 85, 10),
        ("HR-CTV", "D90", "most"): (95, None, 10),
        ("HR-CTV", "D98", "least"): (75, None, 10),
        ("GTV_res", "D98", "least"): (95, 90, 10),
        ("IR-CTV", "D98", "least"): (60, None, 10),
        ("bladder", "D2cm3", "most"): (80, 90, 3),
        ("rectum", "D2cm3", "most"): (65, 75, 3),
        ("sigmoid", "D2cm3", "most"): (70, 75, 3),
        ("bowel", "D2cm3", "most"): (70, 75, 3),
    }
    assert all("10.1016/j.ctro.2018.01.001" in entry["source"] for entry in json.loads(SHIPPED.read_text("utf-8")))
    assert alpha_beta_of("hr-ctv", lines) == 10
    assert alpha_beta_of("Rectum", lines) == 3
    assert alpha_beta_of("uterus", lines) is None


def test_lines_that_disagree_give_no_alpha_beta(tmp_path: Path) -> None:
    lines = read_constraints(written(tmp_path, LINE, {**LINE, "alpha_beta": 3}, {**LINE, "structures": ["Eye"]}))
    assert alpha_beta_of("Cord", lines) is None
    assert alpha_beta_of("Eye", lines) == 2


def test_a_file_replaces_them(tmp_path: Path) -> None:
    (line,) = read_constraints(written(tmp_path, LINE))
    assert line.about("CORD")
    assert not line.about("rectum")
    assert [line.verdict(value, line.limit) for value in (50.0, 50.1, "no number")] == [
        "passed",
        "missed",
        "not computable",
    ]
    assert line.verdict(1.0, line.aim) == ""
    (least,) = read_constraints(written(tmp_path, {**LINE, "at": "least"}))
    assert [least.verdict(value, 50) for value in (49.9, 50.0)] == ["missed", "passed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": ""}, "line 2: it names no source"),
        ({"source": None}, "names no source"),
        ({"measure": "Dmax"}, "there is none of this name"),
        ({"at": "below"}, "neither least nor most"),
        ({"limit": None}, "neither aim nor limit"),
        ({"limit": "50"}, "no number above 0"),
        ({"limit": -1}, "no number above 0"),
        ({"alpha_beta": None}, "has no alpha_beta"),
        ({"measure": "mean"}, "mean has no EQD2"),
        ({"quantity": "BED"}, "none of EQD2, dose"),
        ({"structures": 3}, "not complete"),
        ({"maximum": 3}, r"no constraint \(maximum\)"),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(CaseError, match=words):
        read_constraints(written(tmp_path, LINE, {**LINE, **change}))


@pytest.mark.parametrize("text", ["[]", "{}", "[3]", "nothing"])
def test_what_is_no_list_of_constraints_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(CaseError, match="constraints"):
        read_constraints(tmp_path / "c.json")
    with pytest.raises(CaseError, match="does not exist"):
        read_constraints(tmp_path / "other.json")


def test_fractions_and_external_beam_add_up() -> None:
    course = Course(45, 25, 4)
    # 44.25 Gy and four of 7 Gy, as every textbook has it
    assert course.total([7.0] * 4, [1] * 4, 10) == pytest.approx(44.25 + 4 * 7 * 17 / 12)
    assert course.total([14.0, 14.0], [2, 2], 10) == pytest.approx(44.25 + 4 * 7 * 17 / 12)
    assert course.total([20.0], [4], 3) == pytest.approx(43.2 + eqd2(20, 4, 3))
    assert Course(0, None, 1).total([7.0], [1], 10) == pytest.approx(7 * 17 / 12)


@pytest.mark.parametrize(
    ("course", "values", "fractions", "words"),
    [
        (Course(45, 25, 4), [7.0, "the structure is empty"], [2, 2], "the structure is empty"),
        (Course(45, 25, 4), [7.0, 7.0], [2, None], "its number of fractions is not known"),
        (Course(None, None, 4), [7.0], [4], "the external beam's dose is not given"),
        (Course(45, 25, None), [7.0], [4], "fractions of brachytherapy in all is not given"),
        (Course(45, 25, 4), [7.0, 7.0], [1, 1], "there are doses of 2 of 4 fractions"),
        (Course(45, 25, 4), [7.0] * 5, [1] * 5, "there are doses of 5 of 4 fractions"),
    ],
)
def test_what_is_not_whole_is_not_computable(
    course: Course, values: list[Any], fractions: list[Any], words: str
) -> None:
    assert words in str(course.total(values, fractions, 10))
