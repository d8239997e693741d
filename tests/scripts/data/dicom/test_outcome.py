from __future__ import annotations

from pathlib import Path

from scripts.data.dicom.outcome import IMPORTED, LEFT_OUT, ImportOutcome, refused, summary, write_report

OUTCOMES = [
    ImportOutcome("", "", LEFT_OUT, "2 series, because it is a scout"),
    ImportOutcome(
        "p1_t1",
        "p1",
        IMPORTED,
        notes=["first, with a comma", "second"],
        size=(24, 18, 10),
        spacing=(0.46875, 0.46875, 5.0),
        orientation="LPS",
        volumes={"organ": 61.7349, "tumor": 0.0},
    ),
    refused("p2_t1", "p2", "its image is constant", "export it again or leave it out"),
]
REPORT = """case,patient,outcome,finding,remedy,notes,size,spacing_mm,orientation,labels_ml
,,left out,"2 series, because it is a scout",,,,,,
p1_t1,p1,imported,,,"first, with a comma; second",24x18x10,0.4688x0.4688x5,LPS,organ 61.73; tumor 0.00
p2_t1,p2,refused,its image is constant,export it again or leave it out,,,,,
"""
SCREEN = """p2_t1: its image is constant; export it again or leave it out.
p1_t1: first, with a comma.
p1_t1: second.
left out: 2 series, because it is a scout.
1 cases of 1 patients imported, 1 refused; details in report.csv"""


def test_report_and_screen(tmp_path: Path) -> None:
    assert write_report(tmp_path / "report.csv", OUTCOMES).read_text() == REPORT
    assert summary(OUTCOMES, Path("report.csv")) == SCREEN
