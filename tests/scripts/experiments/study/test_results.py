"""Answers and tables of results that lack something; names that are no HTML."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from scripts.experiments.evaluate.measure import COLUMNS
from scripts.experiments.study.definition import Primary, read_study
from scripts.experiments.study.results import Results, answers, paper_tables, write_results
from scripts.experiments.study.trainings import plan_arm


def table(**scores: float) -> pd.DataFrame:
    rows = [
        dict.fromkeys(COLUMNS, 0.0)
        | {"case": case, "patient": case, "class": "organ", "dsc": score, "hd95_mm": math.nan, "outcome": "found"}
        for case, score in scores.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def results(written) -> Results:
    written.content |= {
        "name": "<b>study</b>",
        "stages": {},
        "arms": {"a": {"bundle": "organ_pocketnet"}, "<i>": {"bundle": "organ_pocketnet"}},
        "classes": {"organ": [1, 2]},
        "primary": {"class": "organ"},
        "tables": {"t": {"layout": "two_arms"}},
    }
    written.run("--dry_run")
    found = Results(read_study(str(written.file)), {"organ": (1, 2)})
    found.cases = {"out_of_fold": {"a": table(x=0.5, y=0.7), "<i>": table(x=0.6, y=0.9)}}
    return found


def test_the_answer_names_what_it_rests_on(results) -> None:
    comparisons = {"out_of_fold": results.comparison("out_of_fold")}
    (said,) = answers(results, comparisons)
    assert said == (
        "DSC of organ, out of fold: a against <i>: 0.600 and 0.750, difference -0.150 on 2 cases of 2 patients, p = 0.5000 "
        "(by patient)."
    )
    object.__setattr__(results.study, "primary", Primary("hd95_mm", "organ"))
    assert answers(results, comparisons) == [
        "HD95 (mm) of organ, out of fold: a against <i>: no answer, as an arm has no result there."
    ]


def test_names_are_escaped_and_an_arm_without_result_is_no_comparison(results, written, tmp_path) -> None:
    results.problems.append("<script>alert(1)</script>")
    planned = {name: plan_arm(results.study, arm, tmp_path / "w") for name, arm in results.study.arms.items()}
    write_results(results, planned, tmp_path / "w")
    page = (tmp_path / "w/report.html").read_text()
    assert "<script>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;study&lt;/b&gt;" in page
    del results.cases["out_of_fold"]["<i>"]
    assert results.comparison("out_of_fold") is None
    write_results(results, planned, tmp_path / "w")
    # what an earlier result left is gone
    assert not (tmp_path / "w/tables/out_of_fold_statistics.csv").exists()


def test_a_table_of_two_sets_is_two_files(results) -> None:
    results.cases["testing"] = results.cases["out_of_fold"]
    assert [suffix for suffix, _ in paper_tables(results, {}, {"layout": "two_arms"}, "t")] == [
        "_out_of_fold",
        "_testing",
    ]
    assert [suffix for suffix, _ in paper_tables(results, {}, {"layout": "by_data_set"}, "t")] == [""]
