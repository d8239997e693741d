"""The published spread between experts: that it has sources, is matched with its structure, and can be replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.evaluate.yardstick import experts, read_yardstick


def test_every_shipped_figure_names_its_source() -> None:
    figures = read_yardstick()
    assert len(figures) >= 8
    for figure in figures:
        assert figure.source
        assert any(c.isdigit() for c in figure.source), "a year"
        assert figure.sentence.endswith(f"({figure.source})")


def test_figures_stand_beside_their_structure_and_modality_only() -> None:
    figures = read_yardstick()
    column, notes = experts(figures, ["hr-ctv", "Bladder", "liver"], "ct")
    assert column == {("hr-ctv", "dsc"): "0.730 [1]", ("hr-ctv", "hd95_mm"): "5.0 [2]"}
    assert notes == [
        "HR-CTV on CT, between experts: DSC 0.73 (Elmali 2023, doi 10.5114/jcb.2023.131242)",
        "HR-CTV on CT, between experts: HD95 (mm) 5 (Elmali 2023, doi 10.5114/jcb.2023.131242)",
        "bladder in brachytherapy, between experts: coefficient of variation of D2cm3 (%) 13 (Brachytherapy 2014;13:210)",
    ]
    column, notes = experts(figures, ["organ", "tumour"], "MR")
    assert column == {("tumour", "dsc"): "0.780 [1]"}
    assert len(notes) == 1
    assert experts(figures, ["tumor"], "CT") == ({}, [])


def test_a_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    entry = {"classes": ["organ"], "modality": "", "metric": "dsc", "value": 0.9, "what": "us", "source": "here, 2026"}
    file.write_text("\ufeff" + json.dumps([entry, entry | {"value": 0.8, "what": "them"}]))
    assert experts(read_yardstick(file), ["organ"], "CT")[0] == {("organ", "dsc"): "0.900 [1], 0.800 [2]"}
    for broken, said in (
        ([{k: v for k, v in entry.items() if k != "source"}], "entry 1 is not complete"),
        ([entry, entry | {"value": "high"}], "entry 2 is not complete"),
        ([entry | {"source": " "}], "entry 1 names no source"),
        ({"organ": 1}, "it is no list"),
    ):
        file.write_text(json.dumps(broken))
        with pytest.raises(CaseError, match=said):
            read_yardstick(file)
    file.write_text("{")
    with pytest.raises(CaseError, match="not valid JSON"):
        read_yardstick(file)
