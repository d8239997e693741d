from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.benchmarks.peers import ANISOTROPIC, NETWORKS, _plan


def largest_kernel_and_stride(network: nn.Module) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    return {tuple(m.kernel_size) for m in convolutions}, {tuple(m.stride) for m in convolutions}


def test_plan_halves_the_fine_axes_until_spacings_meet() -> None:
    """0.469 x 0.469 x 5 mm: three halvings in plane bring 3.75 mm, and only then does the third axis take part."""
    strides, kernels = _plan((128, 128, 32))
    assert strides[:5] == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2]]
    assert kernels[:4] == [[3, 3, 1], [3, 3, 1], [3, 3, 1], [3, 3, 3]]
    assert len(kernels) == len(strides)
    # no level of the deepest features is below the smallest edge
    deepest = [n // max(1, torch.tensor(strides).prod(0)[axis].item()) for axis, n in enumerate((128, 128, 32))]
    assert min(deepest) >= 4


def test_rows_differ_as_their_titles_say() -> None:
    size = (32, 32, 16)
    rows = {key: NETWORKS[key].build(size) for key in ("pocket", "pocket_anisotropic", "doubling")}
    assert (3, 3, 1) in largest_kernel_and_stride(rows["pocket_anisotropic"])[0]
    assert (3, 3, 1) not in largest_kernel_and_stride(rows["pocket"])[0]
    assert len(ANISOTROPIC["kernel_sizes"]) == len(ANISOTROPIC["strides"]) + 1
    count = {key: sum(p.numel() for p in network.parameters()) for key, network in rows.items()}
    assert count["doubling"] > 10 * count["pocket"]


@pytest.mark.parametrize("name", ["dynunet", "basicunet"])
def test_monais_networks_take_an_image_to_two_classes(name: str) -> None:
    with torch.no_grad():
        assert NETWORKS[name].build((32, 32, 16)).eval()(torch.zeros(1, 1, 32, 32, 16)).shape == (1, 2, 32, 32, 16)
