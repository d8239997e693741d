"""Which cases are drawn, under which names, and what stands above them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scripts.core.datalist import Case, Datalist
from scripts.core.page.viewer import within
from scripts.experiments.evaluate import pictures
from scripts.experiments.evaluate.measure import measure
from scripts.experiments.evaluate.pictures import choose_cases, write_pictures


def test_best_median_and_worst(case_table: Any) -> None:
    scores = case_table([{"dsc": v, "case": f"c{i}"} for i, v in enumerate([0.5, 0.9, 0.1, 0.7, 0.3])])
    assert choose_cases(scores, "organ", 3) == [("best", "c1"), ("median", "c0"), ("worst", "c2")]
    assert len(choose_cases(scores, "organ", 4)) == 4
    assert choose_cases(scores, "organ", 1) == [("median", "c0")]
    assert [r for r, _ in choose_cases(scores, "organ", 9)] == ["best", "rank 2 of 5", "median", "rank 4 of 5", "worst"]
    assert choose_cases(scores, "organ", 0) == []
    assert len(choose_cases(scores[:1], "organ", 3)) == 1


def test_cases_without_a_prediction_or_the_class_are_not_chosen(case_table: Any) -> None:
    rows = [
        {"dsc": 0.5, "case": "a"},
        {"dsc": 0.0, "case": "b", "outcome": "no prediction"},
        {"dsc": math.nan, "case": "c", "outcome": "absent"},
        {"dsc": 0.0, "case": "d", "outcome": "missed"},
    ]
    assert [name for _, name in choose_cases(case_table(rows), "organ", 9)] == ["a", "d"]
    # a mean over classes does not know that there was no prediction
    means = [{"name": "mean", "dsc": 0.0, "case": case} for case in "abd"]
    assert [name for _, name in choose_cases(case_table(rows + means), "mean", 9)] == ["a", "d"]


def test_captions_scores_and_names(case_table: Any, tmp_path: Path, monkeypatch: Any) -> None:
    said: dict[str, dict[str, str]] = {}

    def overlay(volume: Any, classes: Any, target: str, modality: str, title: str, scores: Any, file: Path) -> None:
        said[title] = scores
        file.touch()

    monkeypatch.setattr(pictures, "overlay", overlay)
    monkeypatch.setattr(pictures, "load", lambda case, folder: None)
    rows = [
        {"name": "organ", "case": "a", "dsc": 0.91, "hd95_mm": 3.14, "asd_mm": 1.0, "label_ml": 50.0, "pred_ml": 40.0},
        {"name": "tumor", "case": "a", "dsc": 0.8, "hd95_mm": 2.0, "asd_mm": 0.5, "label_ml": 5.0, "pred_ml": 4.0},
        {"name": "organ", "case": "x" * 300, "dsc": 0.5},
        {"name": "tumor", "case": "x" * 300, "dsc": 0.0, "outcome": "missed"},
    ]
    cases = [Case(name, {"image": f"{name[:9]}.nii.gz"}) for name in ("a", "x" * 300)]
    (tmp_path / "best_old.png").touch()
    (tmp_path / "notes.txt").touch()
    classes = {"organ": [1, 2], "tumor": [2]}
    table = case_table(rows)
    chosen = choose_cases(table, "tumor", 3)
    written, failed = write_pictures({"m": table}, cases, tmp_path, classes, "MR", tmp_path, chosen, "tumor")
    assert not failed
    assert written[0] == ("a: best by DSC of tumor", tmp_path / "best_a.png")
    best = said["a: best by DSC of tumor"]
    assert best["organ"] == "DSC 0.91, HD95 3.1 mm, ASD 1.0 mm, 50.0 ml (predicted 40.0)"
    assert said[f"{'x' * 300}: worst by DSC of tumor"]["tumor"] == "missed"
    # what an earlier run drew is gone, what is none of ours stays
    assert sorted(p.name[:12] for p in tmp_path.iterdir()) == [
        "best_a.png",
        "boxplots.png",
        "notes.txt",
        "worst_xxxxxx",
    ]


def test_the_viewer_has_the_worst_first_and_what_a_page_can_hold(cohort: Any, monkeypatch: Any) -> None:
    datalist = Datalist.read(cohort.datalist)
    classes = {"organ": [1, 2], "tumor": [2]}
    (cohort.folder / "images/p1_t1.nii.gz").unlink()
    table, _ = measure(datalist.testing, cohort.folder / "pred", classes)

    def run(count: int) -> Any:
        return pictures.viewed(datalist.testing, cohort.folder / "pred", classes, "mr", table, "tumor", count)

    shown, left, failed = run(6)
    assert [case.caption.split(":")[0] for case in shown] == ["p2_t3", "p2_t2", "p0_t0"]
    assert shown[0].caption == "p2_t3: worst, DSC of tumor 0.000"
    assert (left, [error.case for error in failed]) == ([], ["p1_t1"])
    # where there is no room for all, the extremes stay
    monkeypatch.setattr(pictures, "within", lambda cases: within(cases, sum(case.size for case in cases[:2])))
    shown, left, _ = run(6)
    assert [case.caption.split(":")[0] for case in shown] == ["p2_t3", "p0_t0"]
    assert left == ["p2_t2: rank 3 of 4, DSC of tumor 0.500"]
    assert run(0) == ([], [], [])
