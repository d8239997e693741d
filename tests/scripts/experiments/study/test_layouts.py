"""The layouts reproduce the papers' tables from their typed means and deviations; the papers' stars do not follow from them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from scripts.experiments.study.layouts import Value, by_data_set, by_structure, stars_of, two_arms

# GynBTNet, Table 1, without stars
TABLE_1 = """\
Bladder	nnU-Net	0.900 ± 0.062	4.3 ± 2.5	1.5 ± 1.0
Bladder	Swin-UNetR	0.933 ± 0.055	3.6 ± 2.2	1.2 ± 0.60
Bladder	GynBTNet	0.940 ± 0.052	3.4 ± 1.9	0.92 ± 0.45
Rectum	nnU-Net	0.785 ± 0.110	10.2 ± 8.5	4.3 ± 4.5
Rectum	Swin-UNetR	0.820 ± 0.090	8.2 ± 7.5	3.7 ± 3.1
Rectum	GynBTNet	0.842 ± 0.070	7.5 ± 5.0	3.5 ± 3.1
HRCTV	nnU-Net	0.760 ± 0.145	9.3 ± 5.6	2.9 ± 1.7
HRCTV	Swin-UNetR	0.810 ± 0.110	8.8 ± 6.5	2.5 ± 1.8
HRCTV	GynBTNet	0.837 ± 0.068	7.3 ± 4.8	2.0 ± 1.3
Uterus	nnU-Net	0.845 ± 0.058	7.4 ± 5.1	2.7 ± 1.7
Uterus	Swin-UNetR	0.865 ± 0.050	7.3 ± 4.5	2.4 ± 1.2
Uterus	GynBTNet	0.871 ± 0.047	7.0 ± 4.5	2.0 ± 1.2
Sigmoid	nnU-Net	0.591 ± 0.085	22.5 ± 12.5	9.5 ± 3.8
Sigmoid	Swin-UNetR	0.610 ± 0.078	21.8 ± 11.5	8.3 ± 3.4
Sigmoid	GynBTNet	0.603 ± 0.075	21.5 ± 10.5	8.0 ± 3.2
"""
# GynBTNet, Table 2, its first two structures
TABLE_2 = """\
DSC	0.92 ± 0.06	0.94 ± 0.05	0.80 ± 0.11	0.84 ± 0.07
HD95	4.4 ± 2.6	3.4 ± 1.9	10.0 ± 8.3	7.5 ± 5.0
ASD	1.4 ± 1.1	0.9 ± 0.5	4.0 ± 4.2	3.5 ± 3.1
"""
METRICS = ("dsc", "hd95_mm", "asd_mm")


def typed(cell: str) -> Value:
    mean, sd = cell.split(" ± ")
    return Value(float(mean), float(sd), 29)


@pytest.fixture(scope="module")
def values() -> dict[tuple[str, str, str], Value]:
    rows = [line.split("\t") for line in TABLE_1.splitlines()]
    return {(arm, name, m): typed(c) for name, arm, *cells in rows for m, c in zip(METRICS, cells, strict=True)}


def names(values, index: int) -> list[str]:
    return list(dict.fromkeys(key[index] for key in values))


def test_table_1_of_gynbtnet(values) -> None:
    table = by_structure(values, names(values, 1), names(values, 0), "Table 1", "OAR/CTV")
    assert list(table.head) == ["OAR/CTV", "model", "DSC", "HD95 (mm)", "ASD (mm)"]
    assert table.csv().splitlines()[1:] == [line.replace("\t", ",") for line in TABLE_1.splitlines()]
    # bold is the best mean: Swin-UNETR's DSC of the sigmoid, and GynBTNet everywhere else
    best = {(row[0].text, row[1].text, i) for row in table.rows for i, cell in enumerate(row) if cell.best}
    expected = {(name, "GynBTNet", i) for name in names(values, 1) for i in (2, 3, 4)}
    assert best == expected - {("Sigmoid", "GynBTNet", 2)} | {("Sigmoid", "Swin-UNetR", 2)}
    # a structure is named once, as printed
    assert [row[0].text for row in table.shown[:4]] == ["Bladder", "", "", "Rectum"]


def test_table_2_of_gynbtnet() -> None:
    rows = [line.split("\t") for line in TABLE_2.splitlines()]
    columns = [("Bladder", "No"), ("Bladder", "Yes"), ("Rectum", "No"), ("Rectum", "Yes")]
    values = {
        (arm, name, metric): typed(cell)
        for metric, (_, *cells) in zip(METRICS, rows, strict=True)
        for (name, arm), cell in zip(columns, cells, strict=True)
    }
    table = two_arms(values, ["Bladder", "Rectum"], ["No", "Yes"], "Table 2", "OAR/CTV")
    assert list(table.head) == ["OAR/CTV", *(f"{name}: {arm}" for name, arm in columns)]
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [cells for _, *cells in rows]


def test_table_2_of_pocketnet() -> None:
    sets = {
        "MDACC": {
            ("net", "Organ", "dsc"): Value(0.8098, 0.1224, 102),
            ("net", "Organ", "hd95_mm"): Value(64.23, 65.85, 99),
        },
        "TCIA": {("net", "Organ", "dsc"): Value(0.8078, 0.106, 18)},
    }
    table = by_data_set(sets, ["Organ"], ["net"], "Table 2")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["MDACC", "Organ", "80.98%", "12.24%", "102", "64.23 mm", "65.85 mm", "99"],
        ["TCIA", "Organ", "80.78%", "10.60%", "18", "-", "-", "0"],
    ]


def comparison(**p: float) -> pd.DataFrame:
    rows = [("ours", "a", 0.1, p["a"]), ("b", "ours", -0.1, p["b"])]
    return pd.DataFrame(
        [
            {"class": "x", "metric": "dsc", "model_a": a, "model_b": b, "difference": d, "p_tukey": value}
            for a, b, d, value in rows
        ]
    )


@pytest.mark.parametrize(
    ("p", "stars"), [((0.001, 0.002), "†"), ((0.001, 0.02), "*"), ((0.001, 0.2), None), ((math.nan, 0.001), None)]
)
def test_stars_need_every_comparison(p, stars) -> None:
    found = stars_of(comparison(a=p[0], b=p[1]), "ours", ["a", "b", "ours"], "p_tukey")
    assert found.get(("ours", "x", "dsc")) == stars
    # the worse model gets none, however small its p, nor one that was not compared with all
    assert stars_of(comparison(a=p[0], b=p[1]), "a", ["a", "ours"], "p_tukey") == {}
    assert stars_of(comparison(a=p[0], b=p[1]), "ours", ["a", "b", "c", "ours"], "p_tukey") == {}


def test_a_lone_arm_is_not_the_best_and_what_is_missing_is_a_dash() -> None:
    table = by_structure({("a", "x", "dsc"): Value(0.5, math.nan, 1)}, ["x"], ["a"], "t")
    assert [cell.text for cell in table.rows[0]] == ["x", "a", "0.500 ± -", "-", "-"]
    assert not any(cell.best for cell in table.rows[0])
