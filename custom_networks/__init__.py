"""What the bundles' configurations name with `_target_` and MONAI does not have."""

from __future__ import annotations

from custom_networks.checks import check_case, check_cases, read_volume
from custom_networks.datalist import case_name, fold_split, read_datalist
from custom_networks.errors import CaseError
from custom_networks.metrics import SurfaceMetric, surface_metrics

__all__ = [
    "CaseError",
    "SurfaceMetric",
    "case_name",
    "check_case",
    "check_cases",
    "fold_split",
    "read_datalist",
    "read_volume",
    "surface_metrics",
]
