"""quality.json: what is usual in the training labels and a model per structure, bound to the weights they were fitted for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from custom_networks.data.datalist import read_json
from scripts.core.classes import Classes
from scripts.core.files import write_text
from scripts.core.manifest import versions
from scripts.experiments.quality.model import Model
from scripts.experiments.quality.places import Usual
from scripts.experiments.quality.signs import Signs

NAME = "quality.json"
REMEDY = "make it anew with `python -m scripts quality`"


@dataclass(frozen=True)
class Quality:
    """See `docs/quality.md`.

    Args:
        weights: SHA-256 of the files of the networks whose predictions it was fitted on.
        networks: how many predicted each of them: 1 out-of-fold, all folds of an ensemble.
        datalist: SHA-256 of the datalist.
        section: of the datalist.
        modality: `MR` or `CT`.
        classes: name of a structure to label values.
        usual: sizes and places of the training labels.
        models: by structure.
        without: structures that have no model, and why.
    """

    weights: tuple[str, ...]
    networks: int
    datalist: str
    section: str
    modality: str
    classes: Classes
    usual: Mapping[str, Usual]
    models: Mapping[str, Model]
    without: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: str | Path) -> Path:
        """Write it as JSON without executable content."""
        content = {
            "what": "probability that the DSC of an automatic contour is below a threshold; research only",
            "weights_sha256": list(self.weights),
            "networks": self.networks,
            "datalist_sha256": self.datalist,
            "section": self.section,
            "modality": self.modality,
            "classes": self.classes,
            "usual": {name: one.written() for name, one in self.usual.items()},
            "models": {name: one.written() for name, one in self.models.items()},
            "without": dict(self.without),
            "versions": versions(),
        }
        return write_text(path, json.dumps(_plain(content), indent=4, ensure_ascii=False, allow_nan=False) + "\n")

    def bound(self, weights: Sequence[str], where: str) -> None:
        """Refuse it for other weights.

        Args:
            weights: SHA-256 of those in use.
            where: the file, for the message.

        Raises:
            CaseError: one of them is not among those that it was fitted for.
        """
        if not self.weights:
            raise CaseError(where, "it does not say for which weights it was fitted", REMEDY)
        if not set(weights) <= set(self.weights):
            shown = next(one for one in weights if one not in self.weights)[:12]
            known = ", ".join(one[:12] for one in self.weights)
            raise CaseError(
                where,
                f"it was fitted for other weights ({known}) than those in use ({shown})",
                "give that of these weights",
            )

    def of(self, weights: Sequence[str]) -> Quality:
        """The same for copies of its weights, such as a release's."""
        return replace(self, weights=tuple(weights))

    def probability(self, signs: Signs) -> float:
        """Of one structure; NaN where it has no model, nothing was found, or a sign is unknown."""
        model = self.models.get(signs.structure)
        return math.nan if model is None or signs.empty else model.probability(signs)


def read_quality(path: str | Path) -> Quality:
    """Read quality.json.

    Raises:
        CaseError: it is missing or none.
    """
    where = f"quality {path}"
    content = read_json(path, where, REMEDY)
    try:
        return Quality(
            weights=tuple(map(str, content["weights_sha256"])),
            networks=int(content["networks"]),
            datalist=str(content["datalist_sha256"]),
            section=str(content["section"]),
            modality=str(content["modality"]),
            classes={str(name): [int(v) for v in values] for name, values in content["classes"].items()},
            usual={str(name): Usual.of(entry) for name, entry in content["usual"].items()},
            models={str(name): Model.of(entry) for name, entry in content["models"].items()},
            without={str(name): str(text) for name, text in content["without"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CaseError(where, f"it is not one ({type(error).__name__}: {error})", REMEDY) from error


def _plain(value: Any) -> Any:
    """NaN as null: JSON knows none."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
