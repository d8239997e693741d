"""Results by entries of the datalist."""

from __future__ import annotations

from typing import Any

import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.experiments.evaluate.strata import strata_of, summarise_by


def test_cases_are_told_apart_by_all_keys_together() -> None:
    entries = [{"applicator": True, "scanner": "A"}, {"applicator": False, "scanner": "A"}, {"applicator": True}]
    cases = [Case(f"c{i}", f"p{i}", more=entry) for i, entry in enumerate(entries)]
    assert list(strata_of(cases, ["applicator"]).values()) == ["applicator true", "applicator false", "applicator true"]
    assert strata_of(cases, ["applicator", "scanner"]) == {
        "c0": "applicator true, scanner A",
        "c1": "applicator false, scanner A",
        "c2": "applicator true, scanner not given",
    }
    with pytest.raises(CaseError, match=r"--by: no case has an entry 'aplicator'; did you mean 'applicator'"):
        strata_of(cases, ["aplicator"])


def test_each_stratum_has_its_own_cases(case_table: Any) -> None:
    table = case_table([{"case": f"c{i}", "patient": f"p{i}", "dsc": i / 10} for i in range(5)])
    found = summarise_by(table, {"c0": "b", "c1": "a", "c2": "b", "c3": "a", "c4": "b"})
    dsc = found[found["metric"] == "dsc"].set_index("stratum")
    assert dsc.index.tolist() == ["a", "b"]
    assert dsc["n"].tolist() == [2, 3]
    assert dsc["mean"].tolist() == pytest.approx([0.2, 0.2])
    assert dsc["max"].tolist() == pytest.approx([0.3, 0.4])


def test_the_verb_writes_and_shows_them(cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cases = cohort.cases()
    cohort.edit(testing=[case | {"applicator": i < 2} for i, case in enumerate(cases)])
    assert cohort.run("--pictures", "0", "--by", "applicator") == 0
    single, strata = cohort.table(), cohort.table("by.csv", "stratum", "class", "metric")
    for stratum, part in (("applicator true", cases[:2]), ("applicator false", cases[2:])):
        expected = single.loc[[(case["case"], "organ") for case in part], "dsc"].mean()
        assert strata.loc[(stratum, "organ", "dsc"), "mean"] == pytest.approx(expected)
    assert (
        strata.loc[("applicator true", "organ", "dsc"), "mean"]
        != strata.loc[("applicator false", "organ", "dsc"), "mean"]
    )
    assert "applicator false" in capsys.readouterr().out
    page = (cohort.folder / "out/report.html").read_text()
    assert "By applicator" in page
    assert "applicator true" in page
    # the run after it asks for none
    assert cohort.run("--pictures", "0") == 0
    assert not (cohort.folder / "out/by.csv").exists()
    assert cohort.run("--by", "scanner") == 2
    assert "there are applicator" in capsys.readouterr().err
