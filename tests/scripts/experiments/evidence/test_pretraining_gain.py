from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.experiments.evidence.pretraining_gain import ARMS, as_markdown, gain_table, read_scores, write_results


def scores(seeds: int = 2, gain: float = 0.1) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for case in range(12):
        for structure in ("PTV70", "Mandible"):
            base = rng.uniform(0.4, 0.6)
            for seed in range(seeds):
                for arm, more in zip(ARMS, (0.0, gain), strict=True):
                    dsc = base + more + 0.01 * seed
                    rows.append({"seed": seed, "arm": arm, "case": f"c{case}", "structure": structure, "dsc": dsc})
    return pd.DataFrame(rows)


def test_gain_is_paired_by_case_over_seeds_of_both_arms() -> None:
    found = scores()
    unpaired = pd.concat([found, found[found["arm"] == ARMS[0]].assign(seed=9, dsc=0.0)])
    for table in (gain_table(found), gain_table(unpaired)):
        assert list(table["structure"]) == ["PTV70", "Mandible", "mean of structures"]
        assert table["gain"].to_numpy() == pytest.approx([0.1] * 3)
        assert set(table["cases"]) == {12}
        assert set(table["seeds"]) == {2}
        assert (table["p"] < 0.01).all()
        assert table["pretrained_sd_seeds"].to_numpy() == pytest.approx([0.01 / math.sqrt(2)] * 3)
    assert (gain_table(scores(gain=0.0))["p"] == 1).all()


def test_cases_that_lack_a_structure_are_left_out_of_it() -> None:
    found = scores()
    found.loc[(found["case"] == "c0") & (found["structure"] == "PTV70") & (found["arm"] == ARMS[1]), "dsc"] = math.nan
    assert list(gain_table(found)["cases"]) == [11, 12, 12]


def test_scores_of_an_evaluation(tmp_path: Path) -> None:
    header = ",".join(["filename", *(f"class{i}" for i in range(5)), "mean"])
    (tmp_path / "raw.csv").write_text(f"{header}\n/x/pt_1.nii.gz,0.1,0.2,nan,0.4,0.5,0.3\n")
    found = read_scores(tmp_path / "raw.csv").set_index("structure")
    assert set(found["case"]) == {"pt_1"}
    assert found.loc["PTV70", "dsc"] == 0.1
    assert math.isnan(found.loc["SpinalCord", "dsc"])
    assert len(found) == 5


def test_tables_wait_for_both_arms(tmp_path: Path) -> None:
    write_results(scores()[lambda table: table["arm"] == ARMS[0]], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]
    write_results(scores(seeds=1), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| PTV70 | " in text
    assert "+0.100" in text
    assert "over 12 held-out cases, each averaged over 1 seed(s)" in text
    assert "nan" not in text
    assert "(seeds ±" in as_markdown(gain_table(scores()))
