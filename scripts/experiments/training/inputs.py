"""What a training was made from, as digests that a later call compares: data, settings, code."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom_networks import CaseError, read_weights
from scripts.core.datalist import Case
from scripts.core.manifest import Inputs, file_digest, inputs

# ids that say where and how fast a training runs, not what comes out of it
PLACES = frozenset(
    [
        "bundle_root",
        "dataset_dir",
        "datalist",
        "fold",
        "ckpt_dir",
        "output_dir",
        "prepared_dir",
        "device",
        "num_workers",
        "tracker",
        "mlflow_uri",
        "imports",
        "check_data",
        "resume",
        "is_main",
        "checkpoint_epochs",
        "checkpoint_minutes",
    ]
)
# ids whose value is a file of weights that the training starts from
WEIGHTS = ("organ_weights", "pretrained")
READ = ("image", "label", "organ")


def training_inputs(cases: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Inputs:
    """What a training is made from: its cases, its settings, the code and the libraries that compute.

    Args:
        cases: that are trained on and validated on, with absolute paths and folds.
        settings: from `setting_inputs`.

    Raises:
        CaseError: a file is missing.
    """
    found = [Case.of(case) for case in cases]
    kept = [replace(case, files={key: path for key, path in case.files.items() if key in READ}) for case in found]
    made_from = inputs(kept, settings)
    made_from["code"] |= {name: importlib.metadata.version(name) for name in ("torch", "monai")}
    return made_from


def setting_inputs(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Identify the settings of one training: the ids of its files, later ones first, and what weights it starts from.

    Args:
        bundle: the bundle's folder.
        configs: files, relative to it or absolute.
        overrides: ids and values on top.

    Returns:
        Id to value.

    Raises:
        CaseError: a file of weights is missing.
    """
    merged = _merged(bundle, configs, overrides)
    found = {key: value for key, value in merged.items() if key not in PLACES and key not in WEIGHTS}
    for key in WEIGHTS:
        value = merged.get(key)
        if value is None:
            found[key] = None
        elif not _is_default(value):
            # the bundle runs in its own folder
            found[key] = file_digest(str(bundle / value), key)
    return {"bundle": bundle.name, **found}


def name_weights(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Make sure that it is said which weights a training starts from.

    A bundle on its own looks for its previous stage's weights in `ckpt_dir` and starts from scratch, with a warning, where
    there are none. The folds of a cross-validation have no weights yet: without a word all of them would be the arm
    without pretraining.

    Args:
        bundle: the bundle's folder.
        configs: files, relative to it or absolute.
        overrides: ids and values on top; weights relative to the current folder, or `none`.

    Returns:
        The overrides, with absolute paths of weights.

    Raises:
        CaseError: the bundle takes a previous stage's weights, and neither they nor a start from scratch are named; or a
            file is missing or damaged.
    """
    named = dict(overrides)
    for key in WEIGHTS:
        if isinstance(value := named.get(key), str):
            named[key] = None if value.lower() == "none" else str(Path(value).resolve())
        if named.get(key):
            read_weights(named[key])
    if _is_default(_merged(bundle, configs, named).get("pretrained")):
        raise CaseError(
            f"bundle {bundle.name}",
            "it starts from the previous stage's weights, and none are named",
            "pass --overrides pretrained=PATH, or --overrides pretrained=none to train from scratch",
        )
    return named


def _merged(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for config in configs:
        merged.update(json.loads((bundle / config).read_text(encoding="utf-8")))
    return merged | dict(overrides)


def _is_default(value: Any) -> bool:
    """Whether an id of weights is still the expression that looks for them beside the weights to be made."""
    return isinstance(value, str) and value.startswith("$")
