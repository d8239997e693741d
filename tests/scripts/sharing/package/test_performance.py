"""Numbers of a report as a table and as eval_metrics; what was not measured is said, never 0."""

from pathlib import Path

import pytest

from custom_networks.errors import CaseError
from scripts.sharing.package.performance import eval_metrics, performance_table, read_report

REPORT = """class,metric,n,cases,mean,sd,missed
HR-CTV,dsc,6,6,0.8371,0.0512,1
HR-CTV,hd95_mm,5,6,7.25,2.5,1
HR-CTV,volume_error_ml,6,6,1.5,2.0,1
bladder,dsc,1,1,0.95,nan,0
bladder,asd_mm,0,1,,,0
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "summary.csv").write_text(REPORT)
    return tmp_path


def test_table(report: Path) -> None:
    assert performance_table(read_report(report)).splitlines() == [
        "| class | cases | missed | DSC | NSD | HD95 (mm) | ASD (mm) |",
        "|---|---|---|---|---|---|---|",
        "| HR-CTV | 6 | 1 | 0.837 ± 0.051 | not measured | 7.2 ± 2.5 (n = 5) | not measured |",
        "| bladder | 1 | 0 | 0.950 | not measured | not measured | not measured |",
    ]


def test_metrics_for_programs(report: Path) -> None:
    assert eval_metrics(read_report(report)) == {"dsc_hr_ctv": 0.8371, "hd95_mm_hr_ctv": 7.25, "dsc_bladder": 0.95}


def test_what_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"summary\.csv cannot be read"):
        read_report(tmp_path)
    (tmp_path / "summary.csv").write_text("class,mean\na,1\n")
    with pytest.raises(CaseError, match="not one of `evaluate`"):
        read_report(tmp_path)
