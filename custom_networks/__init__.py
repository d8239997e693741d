"""What the bundles' configurations name with `_target_` and MONAI does not have."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from custom_networks.data.cases import distinct_cases, fold_split, inference_cases, read_datalist
    from custom_networks.data.checks import check_case, check_cases, check_ranks
    from custom_networks.data.datalist import (
        Case,
        Datalist,
        case_name,
        safe_name,
    )
    from custom_networks.data.datasets import PreparedDataset, SeededDataset, SeededSampler, prepare_datasets
    from custom_networks.data.volumes import read_label, read_volume
    from custom_networks.engines import (
        MixedPrecisionEvaluator,
        MixedPrecisionTrainer,
        choose_fastest_kernels,
        mixed_precision_dtype,
        share_batch,
        validation_subset,
    )
    from custom_networks.errors import CaseError
    from custom_networks.handlers.entropy import EntropyHandler
    from custom_networks.handlers.provenance import RecordTrainingCases, check_evaluation, check_unseen_cases
    from custom_networks.handlers.resume import ResumeTraining
    from custom_networks.handlers.training import BestModelSaver, ClipGradient, StopAtNaN, ValidateRegularly
    from custom_networks.inferers import LabelMapInferer, TwoStageInferer
    from custom_networks.losses import ChunkedDiceCELoss, MaskedReconstructionLoss, ParameterNormLoss
    from custom_networks.metrics import SurfaceMetric, surface_metrics
    from custom_networks.networks.base import place
    from custom_networks.networks.encoder import GynBTEncoder
    from custom_networks.networks.ensemble import ensemble_of
    from custom_networks.networks.gynbtnet import GynBTNet
    from custom_networks.networks.masked_autoencoder import SparseMaskedAutoencoder
    from custom_networks.networks.norms import convert_sync_batchnorm
    from custom_networks.networks.pocketnet import PocketNet
    from custom_networks.networks.two_stage import MeanEnsemble, TwoStagePocketNet
    from custom_networks.options import check_options, report_case_errors
    from custom_networks.settings import check_part, check_settings, read_settings
    from custom_networks.transforms.crops import ClassPositionsd, RandPatchCropd
    from custom_networks.transforms.organ import TakeOrgand, check_organ_source
    from custom_networks.transforms.spacing import SeparableSpacingd
    from custom_networks.weights import (
        check_weights,
        load_ensemble,
        load_pretrained,
        load_weights,
        read_weights,
        weights_if_present,
    )

# imported when first asked for: torch and MONAI take many seconds, and most of the scripts need neither
_HOME = {
    "Case": "data.datalist",
    "Datalist": "data.datalist",
    "case_name": "data.datalist",
    "check_case": "data.checks",
    "check_cases": "data.checks",
    "check_ranks": "data.checks",
    "distinct_cases": "data.cases",
    "fold_split": "data.cases",
    "inference_cases": "data.cases",
    "read_datalist": "data.cases",
    "safe_name": "data.datalist",
    "PreparedDataset": "data.datasets",
    "SeededDataset": "data.datasets",
    "SeededSampler": "data.datasets",
    "prepare_datasets": "data.datasets",
    "CaseError": "errors",
    "report_case_errors": "options",
    "MixedPrecisionEvaluator": "engines",
    "MixedPrecisionTrainer": "engines",
    "choose_fastest_kernels": "engines",
    "mixed_precision_dtype": "engines",
    "share_batch": "engines",
    "validation_subset": "engines",
    "BestModelSaver": "handlers.training",
    "ClipGradient": "handlers.training",
    "StopAtNaN": "handlers.training",
    "ValidateRegularly": "handlers.training",
    "ResumeTraining": "handlers.resume",
    "LabelMapInferer": "inferers",
    "TwoStageInferer": "inferers",
    "ChunkedDiceCELoss": "losses",
    "ParameterNormLoss": "losses",
    "SurfaceMetric": "metrics",
    "surface_metrics": "metrics",
    "read_label": "data.volumes",
    "read_volume": "data.volumes",
    "check_options": "options",
    "check_weights": "weights",
    "load_ensemble": "weights",
    "load_pretrained": "weights",
    "load_weights": "weights",
    "read_weights": "weights",
    "weights_if_present": "weights",
    "place": "networks.base",
    "GynBTEncoder": "networks.encoder",
    "ensemble_of": "networks.ensemble",
    "GynBTNet": "networks.gynbtnet",
    "MaskedReconstructionLoss": "losses",
    "SparseMaskedAutoencoder": "networks.masked_autoencoder",
    "convert_sync_batchnorm": "networks.norms",
    "PocketNet": "networks.pocketnet",
    "MeanEnsemble": "networks.two_stage",
    "TwoStagePocketNet": "networks.two_stage",
    "EntropyHandler": "handlers.entropy",
    "RecordTrainingCases": "handlers.provenance",
    "check_evaluation": "handlers.provenance",
    "check_unseen_cases": "handlers.provenance",
    "check_part": "settings",
    "check_settings": "settings",
    "read_settings": "settings",
    "TakeOrgand": "transforms.organ",
    "check_organ_source": "transforms.organ",
    "ClassPositionsd": "transforms.crops",
    "RandPatchCropd": "transforms.crops",
    "SeparableSpacingd": "transforms.spacing",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  (derived, so that a name is written once)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
