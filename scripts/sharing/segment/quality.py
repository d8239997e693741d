"""The signs of what was segmented, and with a quality.json the number and the order in which to look at scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.classes import Classes
from scripts.core.predictions import write_made_by
from scripts.core.tables import write_csv
from scripts.experiments.quality.file import Quality, read_quality
from scripts.experiments.quality.order import look, look_first
from scripts.experiments.quality.signs import Signs, agreements, signs

# label value to mean and number of voxels
Entropy = Mapping[int, tuple[float, float]]


@dataclass
class SegmentedQuality:
    """Signs of scan after scan.

    Args:
        classes: name to label values.
        modality: of `CT` metal is looked for.
        quality: a fitted one, or None: signs and no number.
        networks: how many segment.
    """

    classes: Classes
    modality: str
    quality: Quality | None
    networks: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    _maps: dict[str, list[list[Signs]]] = field(default_factory=dict)
    _entropy: dict[str, Entropy] = field(default_factory=dict)
    _agreed: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def note(
        self,
        scan: str,
        image: np.ndarray,
        affine: np.ndarray,
        label: tuple[np.ndarray, Entropy],
        folds: Sequence[tuple[np.ndarray, Entropy]] = (),
    ) -> list[dict[str, Any]]:
        """Signs of one scan.

        Args:
            scan: its name.
            image: voxels (X, Y, Z).
            affine: 4x4 in RAS+ mm.
            label: label map on the image's grid, and the entropy of the network that found it.
            folds: the same of each fold by itself.

        Returns:
            A row per structure, for run.json.
        """
        ct = image if self.modality == "CT" else None
        usual = self.quality.usual if self.quality else None
        agreed = agreements([one for one, _ in folds], self.classes) if folds else {}
        known = {name: value for name, value in agreed.items() if value is not None}
        shown = signs(label[0], affine, self.classes, usual, ct, label[1], known)
        maps = [shown]
        if folds and self.quality is not None and self.quality.networks == 1:
            # a model of single networks is asked about single networks
            maps = [signs(one, affine, self.classes, usual, ct, entropy) for one, entropy in folds]
        self._maps[scan], self._entropy[scan], self._agreed[scan] = maps, label[1], agreed
        rows = []
        for index, one in enumerate(shown):
            row = one.row()
            if self.quality is not None:
                found = look(scan, [of[index] for of in maps], self.quality)
                row["probability"] = None if math.isnan(found.probability) else round(found.probability, 4)
                row["why"] = found.why
            rows.append(row)
        self.rows += [{"scan": scan, **row} for row in rows]
        return rows

    def order(self) -> list[dict[str, str]]:
        """Scans, the one to look at first first: rows of heading to text; empty without a fitted model."""
        return [one.row() for one in look_first(self._maps, self.quality)] if self.quality else []

    def write(self, folder: Path, weights: Sequence[str]) -> None:
        """Write signs.csv, and what `python -m scripts quality` asks of predictions."""
        write_csv(folder / "signs.csv", self.rows)
        write_made_by(folder, weights, self._entropy, self.networks, self._agreed)


def open_quality(
    file: str | None, weights: Sequence[str], classes: Classes, labels: Mapping[int, str], modality: str
) -> SegmentedQuality | None:
    """Prepare for scans.

    Args:
        file: quality.json, or None.
        weights: SHA-256 of the files of weights.
        classes: structures of the bundle, name to label values; those of the file count where there is one.
        labels: label value to name.
        modality: of the bundle.

    Returns:
        None where one network segments and nothing was fitted for it.

    Raises:
        CaseError: the file is none, or was fitted for other weights or labels.
    """
    if file is None:
        return SegmentedQuality(classes, modality, None, len(weights)) if len(weights) > 1 else None
    quality, where = read_quality(file), f"quality {file}"
    quality.bound(weights, where)
    if quality.networks > 1 and set(weights) != set(quality.weights):
        problem = f"it was fitted for the mean of {quality.networks} networks, not for {len(weights)} of them"
        raise CaseError(where, problem, "give --folds with all of them")
    unknown = sorted({value for values in quality.classes.values() for value in values} - set(labels))
    if unknown:
        raise CaseError(where, f"the bundle has no label {unknown[0]}", "give the file of this bundle")
    return SegmentedQuality(quality.classes, modality, quality, len(weights))
