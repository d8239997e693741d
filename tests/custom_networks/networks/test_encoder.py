from __future__ import annotations

import pytest
import torch

from custom_networks.networks.encoder import GynBTEncoder, ResidualBlock, per_axis


def encoder(**options) -> GynBTEncoder:
    torch.manual_seed(0)
    return GynBTEncoder(1, [2, 4, 6], 2, **{"strides": (2, 1), **options})


def test_strides_per_axis() -> None:
    assert per_axis(2) == (2, 2, 2)
    assert per_axis([2, 1, 1]) == (2, 1, 1)
    for wrong in (0, [2, 2], [2, 0, 1]):
        with pytest.raises(ValueError, match="neither a number nor three"):
            per_axis(wrong)


def test_stages_have_their_widths_and_sizes_rounded_up() -> None:
    features = encoder(strides=([2, 1, 1], 2))(torch.randn(1, 1, 9, 6, 4))
    assert [tuple(x.shape) for x in features] == [(1, 2, 9, 6, 4), (1, 4, 5, 6, 4), (1, 6, 3, 3, 2)]


def test_a_stride_acts_on_its_own_axis() -> None:
    """Turning image, kernels and strides together turns the result; turning the stride alone does not."""
    a, b = ResidualBlock(1, 2, [2, 1, 1]).eval(), ResidualBlock(1, 2, [1, 1, 2]).eval()
    b.load_state_dict({k: v.permute(0, 1, 4, 3, 2) if v.dim() == 5 else v for k, v in a.state_dict().items()})
    x = torch.randn(1, 1, 8, 6, 4)
    torch.testing.assert_close(b(x.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2), a(x), rtol=1e-4, atol=1e-5)


def test_with_a_mask_hidden_voxels_are_never_read() -> None:
    network = encoder(norm="batch").train()
    active = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    active[..., :2, 1:] = True
    x = torch.randn(1, 1, 8, 8, 8)
    visible = active.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    found, other = (network(torch.where(visible, x, fill), active) for fill in (x, torch.full_like(x, 1e6)))
    for a, b in zip(found, other, strict=True):
        assert torch.equal(a, b)
        assert a.abs().sum() > 0
    assert not found[0][~visible.expand_as(found[0])].any()


def test_with_everything_active_it_is_the_dense_network() -> None:
    network = encoder(norm="batch").train()
    x = torch.randn(2, 1, 8, 8, 8)
    sparse = network(x, torch.ones(2, 1, 4, 4, 4, dtype=torch.bool))
    # at the borders both pad with zeros
    for a, b in zip(sparse, network(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    x, active = torch.zeros(1, 1, 8, 8, 8), torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="3 stages need 2 strides, not 1"):
        encoder(strides=(2,))
    with pytest.raises(ValueError, match="backend 'x' is neither"):
        encoder(backend="x")
    with pytest.raises(ValueError, match="needs norm='batch'"):
        encoder()(x, active)
    with pytest.raises(ValueError, match="the same along every axis"):
        encoder(norm="batch", strides=([2, 1, 1], 1))(x, active)
    with pytest.raises(ValueError, match="is not 2 times the mask"):
        encoder(norm="batch")(x, active[..., :3])
