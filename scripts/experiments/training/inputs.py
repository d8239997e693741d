"""What a training was made from, as digests that a later call compares: data, settings, code."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    merged: dict[str, Any] = {}
    for config in configs:
        merged.update(json.loads((bundle / config).read_text(encoding="utf-8")))
    merged.update(overrides)
    found = {key: value for key, value in merged.items() if key not in PLACES and key not in WEIGHTS}
    for key in WEIGHTS:
        if key in overrides:
            found[key] = file_digest(str(overrides[key]), key) if overrides[key] else None
    return {"bundle": bundle.name, **found}
