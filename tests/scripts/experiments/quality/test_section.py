"""`evaluate --quality`: the order, how right it was, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from scripts.__main__ import main
from scripts.core.predictions import MADE_BY, write_made_by


@pytest.fixture
def evaluate(cohort: Any) -> Any:
    """The fitted cohort's last eight cases held out, and the verb on them."""
    content = json.loads(cohort.datalist.read_text())
    entries = content["training"]
    held_out = [{key: value for key, value in entry.items() if key != "fold"} for entry in entries[32:]]
    cohort.datalist.write_text(json.dumps(content | {"training": entries[:32], "testing": held_out}))
    assert cohort.run() == 0
    given = {
        "--datalist": cohort.datalist,
        "--predictions": cohort.folder / "pred",
        "--output": cohort.folder / "report",
    }
    given |= {"--quality": cohort.folder / "out/quality.json", "--pictures": 0, "--workers": 1}

    def call(*more: str) -> int:
        return main(["evaluate", *(str(word) for pair in given.items() for word in pair), *more])

    return call


def test_the_report_says_where_to_look_first(cohort: Any, evaluate: Any, capsys: Any) -> None:
    assert evaluate() == 0
    table = pd.read_csv(cohort.folder / "report/look_first.csv")
    assert len(table) == 8
    # two of eight are bad
    assert set(table["case"][:2]) == {"c32", "c36"}
    assert table["DSC"][:2].max() < 0.5 < table["DSC"][2:].min()
    page = (cohort.folder / "report/report.html").read_text()
    assert "Look here first" in page
    assert "fitted on these very cases" not in page
    out = capsys.readouterr().out
    assert "look here first:" in out
    assert "1.00 (1.00 to 1.00)" in out
    assert evaluate("--section", "training") == 0
    assert "fitted on these very cases" in (cohort.folder / "report/report.html").read_text()


def test_predictions_of_other_networks_are_refused(cohort: Any, evaluate: Any, capsys: Any) -> None:
    write_made_by(cohort.folder / "pred", ["c" * 64], {})
    assert evaluate() == 2
    assert "it was fitted for other weights" in capsys.readouterr().err
    write_made_by(cohort.folder / "pred", ["a" * 64, "b" * 64], {}, 2)
    assert evaluate() == 2
    assert "on predictions of one network, not of the mean of 2 networks" in capsys.readouterr().err
    # of another program's predictions nobody knows; without the entropy that the model needs there is no number
    (cohort.folder / "pred" / MADE_BY).unlink()
    assert evaluate() == 0
    assert "a sign that its model needs is unknown" in capsys.readouterr().out
    assert "Which weights predicted is not known" in (cohort.folder / "report/report.html").read_text()
