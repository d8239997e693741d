"""quality.json: whole after a round trip, and bound to its weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from custom_networks import CaseError
from scripts.experiments.quality.file import read_quality
from scripts.experiments.quality.signs import Signs


def test_written_and_read(cohort: Any, tmp_path: Path) -> None:
    cohort.run()
    quality = read_quality(cohort.folder / "out/quality.json")
    quality.write(tmp_path / "again.json")
    assert read_quality(tmp_path / "again.json") == quality
    assert quality.classes == {"box": [1]}
    assert math.isnan(quality.probability(Signs("box", 0.0)))
    assert math.isnan(quality.probability(Signs("unknown", 1.0)))


def test_weights_are_those_it_was_fitted_for(cohort: Any) -> None:
    cohort.run()
    quality = read_quality(cohort.folder / "out/quality.json")
    quality.bound(["b" * 64], "quality.json")
    with pytest.raises(
        CaseError, match=r"fitted for other weights \(aaaaaaaaaaaa, bbbbbbbbbbbb\) than .* \(cccccccccccc\)"
    ):
        quality.bound(["a" * 64, "c" * 64], "quality.json")
    quality.of(["c" * 64]).bound(["c" * 64], "quality.json")
    with pytest.raises(CaseError, match="does not say for which weights"):
        quality.of([]).bound(["c" * 64], "quality.json")
