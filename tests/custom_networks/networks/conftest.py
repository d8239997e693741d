"""How many graphs torch.compile makes of a network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn


@pytest.fixture
def graphs() -> Callable[[nn.Module, Tensor], int]:
    """Counts the graphs of a call with a `MetaTensor`, which is what MONAI's trainers and inferers hand over."""

    def count(network: nn.Module, image: Tensor) -> int:
        torch._dynamo.reset()
        meta = MetaTensor(image, affine=torch.eye(4), meta={"filename_or_obj": "a.nii.gz"})
        return int(torch._dynamo.explain(network)(meta).graph_count)

    return count
