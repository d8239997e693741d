"""What the bundles' configurations name with `_target_` and MONAI does not have."""

from __future__ import annotations

from custom_networks.checks import check_case, check_cases, read_volume
from custom_networks.chunked_dice_ce import ChunkedDiceCELoss
from custom_networks.datalist import case_name, fold_split, inference_cases, read_datalist
from custom_networks.errors import CaseError
from custom_networks.gynbt_encoder import GynBTEncoder
from custom_networks.gynbtnet import GynBTNet
from custom_networks.label_inferer import LabelMapInferer
from custom_networks.losses import ParameterNormLoss
from custom_networks.mapped import LoadMappedCropd, LoadMappedd, mapped_transforms
from custom_networks.masked_autoencoder import MaskedReconstructionLoss, SparseMaskedAutoencoder
from custom_networks.metrics import SurfaceMetric, surface_metrics
from custom_networks.pocketnet import PocketNet
from custom_networks.resume import ResumeTraining
from custom_networks.sync_norm import convert_sync_batchnorm
from custom_networks.transfer import load_pretrained
from custom_networks.two_stage import MeanEnsemble, TwoStagePocketNet
from custom_networks.two_stage_inferer import TwoStageInferer
from custom_networks.weights import check_weights, load_ensemble, load_weights, read_weights

__all__ = [
    "CaseError",
    "ChunkedDiceCELoss",
    "GynBTEncoder",
    "GynBTNet",
    "LabelMapInferer",
    "LoadMappedCropd",
    "LoadMappedd",
    "MaskedReconstructionLoss",
    "MeanEnsemble",
    "ParameterNormLoss",
    "PocketNet",
    "ResumeTraining",
    "SparseMaskedAutoencoder",
    "SurfaceMetric",
    "TwoStageInferer",
    "TwoStagePocketNet",
    "case_name",
    "check_case",
    "check_cases",
    "check_weights",
    "convert_sync_batchnorm",
    "fold_split",
    "inference_cases",
    "load_ensemble",
    "load_pretrained",
    "load_weights",
    "mapped_transforms",
    "read_datalist",
    "read_volume",
    "read_weights",
    "surface_metrics",
]
