"""One case: values told by hand, both contours, no number where there is none."""

from typing import Any

import numpy as np
import pytest

from scripts.core.datalist import Datalist
from scripts.experiments.dose.case import NO_PREDICTION, Wanted, measure_case, rows_of
from scripts.experiments.dose.measures import parse_measures

CLASSES = {"HR-CTV": [1], "Rectum": [2]}


def wanted(**changes: Any) -> Wanted:
    base = {"measures": parse_measures(["D90", "D2cm3", "mean", "V100"]), "alpha_beta": {"HR-CTV": 10.0, "Rectum": 3.0}}
    return Wanted(**{"classes": CLASSES, "known": [0, 1, 2], "prescription": 7.0, **base, **changes})


def rows(cohort: Any, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    case = Datalist.read(cohort.datalist).cases[0]
    options = wanted(**{"predictions": cohort.folder / "pred", **changes})
    return {(row["structure"], row["measure"]): row for row in rows_of(measure_case(case, options), options)}


def at(x: float) -> float:
    """Gy at a coordinate of the first axis, in voxels."""
    return 10 - 0.25 * x


def test_values_of_boxes_in_a_linear_dose(cohort: Any) -> None:
    found = rows(cohort)
    # the target covers x from 1.5 to 13.5, the organ from 13.5 to 19.5 with 0.8 cm3 a layer
    assert found["HR-CTV", "D90"]["manual"] == pytest.approx(at(1.5 + 0.9 * 12), rel=0.005)
    assert found["HR-CTV", "mean"]["manual"] == pytest.approx(at(7.5), rel=0.005)
    assert found["Rectum", "D2cm3"]["manual"] == pytest.approx(at(13.5 + 2.5), rel=0.005)
    assert found["HR-CTV", "V100"]["manual"] == pytest.approx(100 * (12 - 1.5) / 12, abs=1.1)
    for row in found.values():
        if row["unit"] == "Gy":
            assert row["change"] == pytest.approx(-0.25, abs=0.01)
            assert row["change_percent"] == pytest.approx(100 * row["change"] / row["manual"])
        assert row["accuracy_percent"] <= 0.5
        assert row["remark"] == ""
    assert found["HR-CTV", "D90"]["dsc"] == pytest.approx(11 / 12)


def test_eqd2_of_two_fractions(cohort: Any) -> None:
    found = rows(cohort)
    target, organ = found["HR-CTV", "D90"], found["Rectum", "D2cm3"]
    assert target["eqd2_manual"] == pytest.approx(target["manual"] * (target["manual"] / 2 + 10) / 12)
    assert organ["eqd2_automatic"] == pytest.approx(organ["automatic"] * (organ["automatic"] / 2 + 3) / 5)
    assert organ["eqd2_change"] == pytest.approx(organ["eqd2_automatic"] - organ["eqd2_manual"])
    assert found["HR-CTV", "mean"]["eqd2_manual"] is None
    # the case's own number stands before the user's
    assert rows(cohort, fractions=5)["HR-CTV", "D90"]["fractions"] == 2
    cohort.edit(lambda content: content["testing"][0].pop("fractions"))
    # never from a sum of unknown fractions
    assert all(row["eqd2_manual"] is None for row in rows(cohort).values())
    assert rows(cohort, fractions=2)["HR-CTV", "D90"]["eqd2_manual"] == pytest.approx(target["eqd2_manual"])
    assert rows(cohort, fractions=2, alpha_beta={})["HR-CTV", "D90"]["eqd2_manual"] is None


def test_a_structure_that_leaves_the_dose_or_is_too_small_or_empty(cohort: Any) -> None:
    from tests.scripts.experiments.dose.conftest import label_map, save, slope

    cut, small = slope()[:17], label_map()
    small[15:] = 0
    small[small == 2] = 0
    small[14, 3:6, 4:7] = 2
    save(cohort.folder / "doses/a1.nii.gz", cut)
    found = rows(cohort)
    assert found["HR-CTV", "D90"]["remark"] == ""
    for name in ("D2cm3", "mean", "V100"):
        row = found["Rectum", name]
        assert (row["manual"], row["automatic"], row["change"], row["eqd2_manual"]) == (None, None, None, None)
        assert "manual: 50% of the structure lies outside the dose grid" in row["remark"]
    save(cohort.folder / "doses/a1.nii.gz", slope())
    save(cohort.folder / "pred/a1.nii.gz", small)
    row = rows(cohort)["Rectum", "D2cm3"]
    assert row["remark"] == "automatic: the structure has 0.072 cm3, less than 2 cm3"
    assert (row["automatic"], row["change"]) == (None, None)
    assert rows(cohort)["Rectum", "mean"]["automatic"] is not None
    save(cohort.folder / "pred/a1.nii.gz", np.minimum(label_map(), 1) * 0)
    assert rows(cohort)["Rectum", "D2cm3"]["remark"] == "automatic: the structure is empty"


def test_without_a_prediction(cohort: Any) -> None:
    (cohort.folder / "pred/a1.nii.gz").unlink()
    row = rows(cohort)["HR-CTV", "D90"]
    assert row["manual"] is not None
    assert row["remark"] == f"automatic: {NO_PREDICTION}"
    alone = rows(cohort, predictions=None)["HR-CTV", "D90"]
    assert (alone["automatic"], alone["change"], alone["remark"], alone["dsc"]) == (None, None, "", None)
