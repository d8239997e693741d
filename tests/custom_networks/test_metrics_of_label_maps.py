"""`SurfaceMetric` on label maps answers what it answers on one-hot masks."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.utils import one_hot

from custom_networks.metrics import METRICS, SurfaceMetric


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth (1, 9, 8, 7) of five classes: 3 is missed, 2 a false positive, 4 in neither."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (1, 9, 8, 7), generator=generator, dtype=torch.uint8)
    pred = torch.randint(0, 3, (1, 9, 8, 7), generator=generator, dtype=torch.uint8)
    label[:, :2] = 3
    return pred, label


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_label_maps_equal_masks(metric: str, dtype: torch.dtype, maps: tuple[torch.Tensor, torch.Tensor]) -> None:
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    pred, label = (MetaTensor(m.to(dtype), affine=affine) for m in maps)
    of_maps = SurfaceMetric(metric, num_classes=5)
    of_maps([pred], [label])
    of_masks = SurfaceMetric(metric)
    of_masks(*([MetaTensor(one_hot(m.as_tensor(), 5, dim=0), affine=affine)] for m in (pred, label)))
    found = of_maps.aggregate("none")
    torch.testing.assert_close(found, of_masks.aggregate("none"), equal_nan=True)
    assert found.shape == (1, 4)
    if metric == "dsc":
        assert found[0, 1:3].tolist() == [0.0, 0.0]
        assert math.isnan(found[0, 3])


def test_background_counts_on_request(maps: tuple[torch.Tensor, torch.Tensor]) -> None:
    metric = SurfaceMetric("dsc", include_background=True, num_classes=5)
    metric([maps[0]], [maps[1]])
    pred, label = (m == 0 for m in maps)
    expected = 2 * (pred & label).sum() / (pred.sum() + label.sum())
    assert metric.aggregate("none")[0, 0] == pytest.approx(expected.item())


def test_what_is_no_label_map_is_refused(maps: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="value 3, num_classes is 3"):
        SurfaceMetric("dsc", num_classes=3)([maps[0]], [maps[1]])
    with pytest.raises(ValueError, match="one channel, got 2"):
        SurfaceMetric("dsc", num_classes=2)([torch.zeros(2, 4, 4, 4)], [torch.zeros(2, 4, 4, 4)])
