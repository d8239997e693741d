"""The number: what it is made of, what it is worth on noise, and that it is the library's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from scripts.experiments.quality.model import FEATURES, Model, Row, fit, reliability
from scripts.experiments.quality.signs import Signs


def rows(count: int, told: float, seed: int = 0, per_patient: int = 2) -> list[Row]:
    """DSC falls with the entropy as far as `told`; the rest is noise."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        unsure = rng.uniform(0, 1)
        dsc = float(np.clip(0.9 - 0.5 * (told * unsure + (1 - told) * rng.uniform(0, 1)), 0, 1))
        sign = Signs("a", 10.0, volume_z=rng.normal(), position_z=abs(rng.normal()), border_mm=80.0, entropy=unsure)
        found.append((sign, dsc, f"p{i // per_patient}"))
    return found


def test_a_sign_that_tells_is_found_and_noise_is_not() -> None:
    model, numbers = fit("a", rows(80, 1.0))
    assert model.reliability is not None
    assert model.reliability.auroc > 0.95
    assert model.reliability.auroc_low > 0.85
    assert model.reliability.brier < 0.7 * model.reliability.brier_of_share
    assert model.reliability.spearman < -0.9
    assert len(numbers) == 80
    assert (model.cases, model.patients, model.below, model.given) == (80, 40, 20, False)
    # the border is 50 mm and more away in every case and metal unknown: neither can tell anything
    assert model.features == ("volume_z", "abs_volume_z", "position_z", "entropy")
    noise = [fit("a", rows(80, 0.0, seed=seed))[0].reliability for seed in range(8)]
    assert np.mean([one.auroc for one in noise if one]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([one.brier / one.brier_of_share for one in noise if one]) > 1


def test_the_number_is_that_of_the_library_and_survives_json() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    data = rows(60, 0.7)
    model, _ = fit("a", data, threshold=0.65)
    x = np.array([[FEATURES[name](sign) for name in model.features] for sign, _, _ in data])
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression().fit(scaler.transform(x), [dsc < 0.65 for _, dsc, _ in data])
    again = Model.of(json.loads(json.dumps(model.written())))
    assert again == model
    for (sign, _, _), p in zip(data, expected.predict_proba(scaler.transform(x))[:, 1], strict=True):
        assert again.probability(sign) == pytest.approx(p, abs=1e-4)


def test_patients_are_never_on_both_sides() -> None:
    """Copies of one patient's case, with a sign that names the patient: learning it by heart must not help."""
    rng = np.random.default_rng(3)
    data = []
    for patient in range(12):
        sign, dsc = Signs("a", 1.0, volume_z=rng.normal(), entropy=rng.uniform()), float(rng.uniform(0.4, 0.9))
        data += [(sign, dsc, str(patient))] * 8
    shuffled = [(sign, dsc, str(i)) for i, (sign, dsc, _) in enumerate(data)]
    honest, told = fit("a", data)[0].reliability, fit("a", shuffled)[0].reliability
    assert honest is not None
    assert told is not None
    assert honest.auroc < told.auroc
    assert honest.auroc_high - honest.auroc_low > 1.5 * (told.auroc_high - told.auroc_low)


def test_the_quartile_of_a_split_is_that_of_its_training_part() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = rows(60, 0.7)
    model, numbers = fit("a", data)
    x = np.array([[FEATURES[name](sign) for name in model.features] for sign, _, _ in data])
    dsc, patients = np.array([row[1] for row in data]), np.unique([row[2] for row in data], return_inverse=True)[1]
    whole = dsc < np.percentile(dsc, 25)
    told, seen, differ = np.zeros(60), np.zeros(60, bool), 0
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, whole, patients):
        limit = np.percentile(dsc[train], 25)
        differ += int(((dsc[train] < limit) != whole[train]).any())
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[train], dsc[train] < limit)
        told[test], seen[test] = fitted.predict_proba(x[test])[:, 1], dsc[test] < limit
    assert differ
    assert numbers == pytest.approx(told, abs=1e-4)
    assert model.reliability is not None
    assert model.reliability.brier == pytest.approx(np.mean((told - seen) ** 2), abs=1e-4)


def test_area_and_interval_are_those_of_drawing_patients_anew() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    probability, bad, patients = rng.uniform(0, 1, 40).round(1), rng.uniform(0, 1, 40) < 0.4, np.arange(40) // 4
    found = reliability(probability, bad, rng.uniform(0, 1, 40), patients)
    assert found.auroc == pytest.approx(roc_auc_score(bad, probability))
    drawn = []
    for _ in range(400):
        index = np.concatenate([np.flatnonzero(patients == one) for one in rng.integers(0, 10, 10)])
        drawn.append(roc_auc_score(bad[index], probability[index]))
    assert [found.auroc_low, found.auroc_high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)
    # by hand: shares and means of the bins
    error = sum(count * abs(said - share) for said, share, count in found.bins) / 40
    assert found.calibration_error == pytest.approx(error, abs=1e-6)
    assert sum(count for _, _, count in found.bins) == 40


def test_unknown_signs_give_no_number() -> None:
    model, _ = fit("a", rows(60, 1.0))
    sign = rows(1, 1.0)[0][0]
    assert 0 < model.probability(sign) < 1
    assert math.isnan(model.probability(Signs("a", 10.0, volume_z=0.0, position_z=0.0, border_mm=80.0)))
    unsure = Signs("a", 10.0, volume_z=0.0, position_z=0.0, border_mm=80.0, entropy=0.99)
    assert model.reason(unsure) == "entropy 0.99"


def test_extreme_signs_end_in_a_probability() -> None:
    model, _ = fit("a", rows(60, 1.0))
    for value in (1e9, -1e9):
        sign = Signs("a", 10.0, volume_z=value, position_z=1e9, border_mm=0.0, entropy=1.0)
        assert 0 <= model.probability(sign) <= 1
