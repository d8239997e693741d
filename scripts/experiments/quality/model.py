"""One number from the signs of a contour: the probability that its DSC is below a threshold, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.experiments.quality.signs import BORDER_MM, Signs

# signs of a contour that was found, its true DSC, its patient
Row = tuple[Signs, float, str]
# what a model may use; a sign that is unknown for some case, or the same for all, is left out of it
FEATURES: dict[str, Callable[[Signs], float]] = {
    "volume_z": lambda s: s.volume_z,
    "abs_volume_z": lambda s: abs(s.volume_z),
    "position_z": lambda s: s.position_z,
    "border_mm": lambda s: min(s.border_mm, BORDER_MM),
    "log_metal_ml": lambda s: math.log1p(s.metal_ml),
    "entropy": lambda s: s.entropy,
    "fold_agreement": lambda s: s.fold_agreement,
}
# fewer do not tell a good contour from a bad one, whatever a fit says
LEAST_CASES = 20
LEAST_OF_A_KIND = 5
SPLITS = 5
BINS = 5
DRAWS = 1000
QUARTILE = 25.0


@dataclass(frozen=True)
class Reliability:
    """How well the number was right on cases that it was not fitted on.

    Args:
        auroc: chance that of a bad and a good contour the bad one has the higher number.
        auroc_low: of its 95 % interval, by drawing patients anew.
        auroc_high: see `auroc_low`.
        brier: mean squared difference between number and outcome.
        brier_of_share: the same of always saying the share of bad contours: what a useless number has.
        calibration_error: mean difference between number and share of bad contours over bins (MONAI's
            `CalibrationErrorMetric`, expected).
        bins: mean number, share of bad contours and count of each bin that has a case.
        spearman: rank correlation of number and DSC; negative is right.
    """

    auroc: float
    auroc_low: float
    auroc_high: float
    brier: float
    brier_of_share: float
    calibration_error: float
    bins: tuple[tuple[float, float, int], ...]
    spearman: float

    def row(self) -> dict[str, str]:
        """Heading to text, for tables."""
        return {
            "AUROC": f"{self.auroc:.2f} ({self.auroc_low:.2f} to {self.auroc_high:.2f})",
            "Brier": f"{self.brier:.3f} ({self.brier_of_share:.3f})",
            "calibration error": f"{self.calibration_error:.3f}",
            "Spearman": f"{self.spearman:.2f}",
        }


@dataclass(frozen=True)
class Model:
    """A logistic regression of one structure.

    Args:
        threshold: of the DSC.
        given: whether the user gave it; else it is the lower quartile.
        features: names from `FEATURES`.
        means: of the features.
        scales: their standard deviations.
        coefficients: of the standardised features.
        intercept: of the regression.
        cases: it was fitted on.
        patients: of these cases.
        below: of these cases, those with a DSC below the threshold.
        reliability: on cases of other patients, by cross-validation.
    """

    threshold: float
    given: bool
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    cases: int
    patients: int
    below: int
    reliability: Reliability | None = field(default=None)

    def probability(self, signs: Signs) -> float:
        """That the DSC is below the threshold; NaN where a sign that the model needs is unknown, or nothing was found."""
        x = np.array([FEATURES[name](signs) for name in self.features])
        score = self.intercept + float(np.sum((x - self.means) / self.scales * self.coefficients))
        return 1 / (1 + math.exp(-min(max(score, -700.0), 700.0))) if math.isfinite(score) else math.nan

    def reason(self, signs: Signs) -> str:
        """The feature that raises the number most, with its value; empty where none does."""
        raised = {
            name: (FEATURES[name](signs) - mean) / scale * weight
            for name, mean, scale, weight in zip(self.features, self.means, self.scales, self.coefficients, strict=True)
        }
        name = max(raised, key=lambda one: raised[one])
        return f"{name} {FEATURES[name](signs):.2g}" if raised[name] > 0 else ""

    def written(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Model:
        """From JSON.

        Raises:
            ValueError: lengths differ or a number is not finite.
        """
        means, scales, weights = (tuple(map(float, entry[name])) for name in ("means", "scales", "coefficients"))
        features = tuple(map(str, entry["features"]))
        numbers = [*means, *scales, *weights, entry["intercept"], entry["threshold"]]
        if {len(means), len(scales), len(weights)} != {len(features)} or set(features) - set(FEATURES):
            raise ValueError("its features do not fit its coefficients")
        if not all(math.isfinite(v) for v in numbers) or any(v <= 0 for v in scales):
            raise ValueError("it holds a number that is not finite")
        told = entry.get("reliability")
        known = None
        if told is not None:
            bins = tuple((float(p), float(share), int(count)) for p, share, count in told["bins"])
            scores: dict[str, Any] = {n: math.nan if v is None else float(v) for n, v in told.items() if n != "bins"}
            known = Reliability(**scores, bins=bins)
        return Model(
            threshold=float(entry["threshold"]),
            given=bool(entry["given"]),
            features=features,
            means=means,
            scales=scales,
            coefficients=weights,
            intercept=float(entry["intercept"]),
            cases=int(entry["cases"]),
            patients=int(entry["patients"]),
            below=int(entry["below"]),
            reliability=known,
        )


def fit(
    structure: str,
    rows: Sequence[Row],
    threshold: float | None = None,
    seed: int = 0,
) -> tuple[Model, np.ndarray]:
    """Fit one structure, and tell how right it is by cross-validation over patients.

    Args:
        structure: its name, for messages.
        rows: signs, true DSC and patient of each case in which something was found.
        threshold: of the DSC; None takes the lower quartile, in cross-validation that of the training part.
        seed: of the splits and of the interval.

    Returns:
        The model, and for each row its probability by models that have not seen its patient.

    Raises:
        CaseError: too few cases or patients, contours of one kind alone, or no sign that differs between cases.
    """
    where = f"structure {structure}"
    dsc = np.array([row[1] for row in rows])
    _, patients = np.unique(np.array([row[2] for row in rows], dtype=str), return_inverse=True)
    if len(rows) < LEAST_CASES:
        problem = f"{len(rows)} cases in which it was found and drawn are too few for a number"
        raise CaseError(where, problem, f"give at least {LEAST_CASES}")
    limit = _limit(dsc, threshold)
    bad = dsc < limit
    kinds = sorted([int(bad.sum()), int((~bad).sum())])
    if kinds[0] < LEAST_OF_A_KIND:
        problem = f"{int(bad.sum())} of {len(rows)} cases have a DSC below {limit:.3f}"
        raise CaseError(where, problem, f"at least {LEAST_OF_A_KIND} of either kind are needed: change --thresholds")
    names = _usable([row[0] for row in rows])
    if not names:
        raise CaseError(where, "no sign differs between its cases", "predict anew, so that signs are noted")
    x = np.array([[FEATURES[name](row[0]) for name in names] for row in rows])
    found, seen = _cross_validated(where, x, dsc, patients, threshold, seed)
    pipeline = _fitted(x, bad)
    scaler, regression = pipeline[0], pipeline[1]
    model = Model(
        threshold=limit,
        given=threshold is not None,
        features=tuple(names),
        means=tuple(map(float, scaler.mean_)),
        scales=tuple(map(float, scaler.scale_)),
        coefficients=tuple(map(float, regression.coef_[0])),
        intercept=float(regression.intercept_[0]),
        cases=len(rows),
        patients=int(patients.max()) + 1,
        below=int(bad.sum()),
        reliability=reliability(found, seen, dsc, patients, seed),
    )
    return model, found


def reliability(
    probability: np.ndarray, bad: np.ndarray, dsc: np.ndarray, patients: np.ndarray, seed: int = 0
) -> Reliability:
    """How right probabilities were.

    Args:
        probability: one per case.
        bad: whether its DSC was below the threshold; both kinds must occur.
        dsc: its DSC.
        patients: a number per patient, one per case.
        seed: of the draws for the interval.
    """
    import torch
    from monai.metrics.calibration import CalibrationErrorMetric, calibration_binning
    from scipy import stats

    # of each bad and each good case: 1 where the bad one has the higher number, a half where they are equal
    ahead = np.sign(probability[bad][:, None] - probability[~bad]) / 2 + 0.5
    people = int(patients.max()) + 1
    times = np.random.default_rng(seed).multinomial(people, [1 / people] * people, size=DRAWS)[:, patients]
    pairs = times[:, bad].sum(axis=1) * times[:, ~bad].sum(axis=1)
    drawn = ((times[:, bad] @ ahead) * times[:, ~bad]).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    low, high = (float(v) for v in np.percentile(drawn, [2.5, 97.5]))
    # cases stand where the metric expects voxels
    told, truth = (torch.from_numpy(v.astype(np.float32))[None, None] for v in (probability, bad))
    metric = CalibrationErrorMetric(num_bins=BINS, calibration_reduction="expected")
    metric(told, truth)
    mean, share, count = (v[0, 0].tolist() for v in calibration_binning(told, truth, BINS))
    base = float(bad.mean())
    return Reliability(
        auroc=float(ahead.mean()),
        auroc_low=low,
        auroc_high=high,
        brier=float(np.mean((probability - bad) ** 2)),
        brier_of_share=base * (1 - base),
        calibration_error=float(torch.as_tensor(metric.aggregate())),
        bins=tuple((m, s, int(c)) for m, s, c in zip(mean, share, count, strict=True) if c),
        spearman=float(stats.spearmanr(probability, dsc).statistic) if np.ptp(probability) else math.nan,
    )


def _limit(dsc: np.ndarray, threshold: float | None) -> float:
    return float(np.percentile(dsc, QUARTILE)) if threshold is None else threshold


def _usable(signs: Sequence[Signs]) -> list[str]:
    names = []
    for name, feature in FEATURES.items():
        values = np.array([feature(one) for one in signs])
        if np.isfinite(values).all() and np.ptp(values) > 1e-9:
            names.append(name)
    return names


def _fitted(x: np.ndarray, bad: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # the default penalty (C = 1) keeps a few dozen cases from being separated by chance
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, bad)


def _cross_validated(
    where: str, x: np.ndarray, dsc: np.ndarray, patients: np.ndarray, threshold: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each case by a model of other patients, and whether its DSC is below the threshold of that model."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(SPLITS, int(patients.max()) + 1)
    found, seen = np.full(len(x), math.nan), np.zeros(len(x), dtype=bool)
    if count > 1:
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        for train, test in splits.split(x, dsc < _limit(dsc, threshold), patients):
            limit = _limit(dsc[train], threshold)
            bad = dsc[train] < limit
            if 0 < bad.sum() < len(bad):
                found[test] = _fitted(x[train], bad).predict_proba(x[test])[:, 1]
                seen[test] = dsc[test] < limit
    if np.isnan(found).any() or not 0 < seen.sum() < len(seen):
        problem = "contours below the threshold are those of too few patients to try it on others"
        raise CaseError(where, problem, "give cases of more patients, or change --thresholds")
    return found, seen
