"""What the bundles' configurations name with `_target_` and MONAI does not have."""

from __future__ import annotations

import importlib
from typing import Any

# imported when first asked for: torch and MONAI take many seconds, and most of the scripts need neither
_MODULES = {
    "checks": (
        "check_case",
        "check_cases",
        "check_ranks",
        "check_switches",
        "read_volume",
    ),
    "chunked_dice_ce": ("ChunkedDiceCELoss",),
    "datalist": (
        "case_name",
        "distinct_cases",
        "fold_split",
        "inference_cases",
        "read_datalist",
    ),
    "errors": (
        "CaseError",
        "report_case_errors",
    ),
    "gynbt_encoder": ("GynBTEncoder",),
    "gynbtnet": ("GynBTNet",),
    "label_inferer": ("LabelMapInferer",),
    "losses": ("ParameterNormLoss",),
    "mapped": ("LoadMappedCropd", "LoadMappedd"),
    "mapped_pipeline": ("deterministic_part", "mapped_transforms"),
    "masked_autoencoder": (
        "MaskedReconstructionLoss",
        "SparseMaskedAutoencoder",
    ),
    "metrics": (
        "SurfaceMetric",
        "surface_metrics",
    ),
    "pocketnet": ("PocketNet",),
    "resume": ("ResumeTraining",),
    "spacing": ("SeparableSpacingd",),
    "sync_norm": ("convert_sync_batchnorm",),
    "transfer": ("load_pretrained",),
    "two_stage": (
        "MeanEnsemble",
        "TwoStagePocketNet",
    ),
    "two_stage_inferer": ("TwoStageInferer",),
    "weights": (
        "check_weights",
        "load_ensemble",
        "load_weights",
        "read_weights",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (derived, so that a name is written once)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
