from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from custom_networks.networks.encoder import GynBTEncoder, ResidualBlock
from custom_networks.networks.gynbtnet import VARIANTS, GynBTNet, UpBlock


def count(**arguments: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in GynBTNet(**arguments).parameters())  # type: ignore[arg-type]


def test_large_has_440_million_parameters() -> None:
    assert round(count() / 1e6, 2) == 440.11
    assert count(deep_supervision=0) == 440_094_150
    # the published figure of STU-Net-L, 105 classes: same layout
    assert round(count(out_channels=105) / 1e6, 2) == 440.30


def test_variants_scale_in_width_and_depth() -> None:
    counts = [count(variant=variant, deep_supervision=0) for variant in ("tiny", "small", "base", "large", "huge")]
    assert [round(c / 1e6, 2) for c in counts] == [3.64, 14.54, 58.16, 440.09, 1457.01]
    with torch.device("meta"):
        for variant, (first, depth) in VARIANTS.items():
            network = GynBTNet(variant=variant)
            assert network.encoder.widths == [first * k for k in (1, 2, 4, 8, 16, 16)]
            assert {len(stage) for stage in network.encoder.stages} == {depth}  # type: ignore[arg-type]
            assert {len(up.blocks) for up in network.decoder} == {depth}  # type: ignore[arg-type, union-attr]


def test_unknown_variant_norm_and_too_many_heads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"giant.*tiny, small, base, large, huge"):
        GynBTNet(variant="giant")
    with pytest.raises(ValueError, match="between 0 and 4"):
        GynBTNet(variant="small", deep_supervision=5)
    with pytest.raises(ValueError, match="'group'"):
        GynBTNet(variant="small", norm="group")


def test_residual_block_is_the_papers() -> None:
    block = ResidualBlock(3, 5, stride=2)
    nn.init.normal_(block.norm1.weight)
    nn.init.normal_(block.norm2.bias)
    x = torch.randn(2, 3, 8, 6, 4)
    h = F.instance_norm(block.conv1(x), weight=block.norm1.weight, bias=block.norm1.bias)
    h = F.leaky_relu(h, 0.01)
    h = F.instance_norm(block.conv2(h), weight=block.norm2.weight, bias=block.norm2.bias)
    assert block.shortcut is not None
    expected = F.leaky_relu(h + block.shortcut(x), 0.01)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert ResidualBlock(4, 4).shortcut is None


def test_up_block_upsamples_then_convolves() -> None:
    up = UpBlock(6, 4, stride=2, depth=1, norm="instance")
    x, skip = torch.randn(1, 6, 3, 3, 2), torch.randn(1, 4, 6, 5, 4)
    expected = up.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))[:, :, :6, :5, :4]
    expected = up.blocks[0](torch.cat([expected, skip], 1))
    torch.testing.assert_close(up(x, skip), expected, rtol=1e-4, atol=1e-5)


def test_training_gives_heads_eval_gives_one_tensor() -> None:
    network = GynBTNet(out_channels=3, variant="small")
    x = torch.randn(2, 1, 32, 32, 48)
    heads = network(x)
    sizes = [tuple(head.shape[2:]) for head in heads]
    assert sizes == [(32, 32, 48), (16, 16, 24), (8, 8, 12), (4, 4, 6), (2, 2, 3)]
    label = torch.randint(0, 3, (2, 1, 32, 32, 48)).float()
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))(heads, label)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    network.eval()
    assert network(x).shape == (2, 3, 32, 32, 48)
    assert torch.is_tensor(GynBTNet(variant="small", deep_supervision=0).train()(x))


@pytest.mark.parametrize("size", [(16, 16, 16), (19, 33, 7), (1, 24, 40)])
def test_any_size(size: tuple[int, int, int]) -> None:
    network = GynBTNet(out_channels=2, variant="small").eval()
    with torch.no_grad():
        out = network(torch.randn(1, 1, *size))
    assert out.shape == (1, 2, *size)
    assert torch.isfinite(out).all()


def test_script_equals_eager(tmp_path: Path) -> None:
    network = GynBTNet(variant="small").eval()
    torch.jit.script(network).save(str(tmp_path / "model.ts"))
    scripted = torch.jit.load(str(tmp_path / "model.ts"))
    x = torch.randn(1, 1, 20, 32, 16)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x))


def test_one_graph_under_torch_compile(graphs: Callable[[nn.Module, torch.Tensor], int]) -> None:
    network = GynBTNet(variant="tiny", out_channels=2, strides=(2, 2)).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert graphs(network, torch.rand(2, 1, 8, 8, 8)) == 1
    assert graphs(network.eval(), torch.rand(1, 1, 8, 8, 8)) == 1


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_checkpointing_changes_nothing_but_memory(norm: str) -> None:
    torch.manual_seed(0)
    plain = GynBTNet(variant="small", norm=norm)
    saving = GynBTNet(variant="small", norm=norm, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 16, 32, 16)
    for network in (plain, saving):
        sum(head.square().mean() for head in network(x)).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    for a, b in zip(plain.buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_encoder_keys_do_not_depend_on_norm_but_for_running_statistics() -> None:
    with torch.device("meta"):
        keys = {norm: set(GynBTEncoder(1, [4, 8], 2, (2,), norm).state_dict()) for norm in ("instance", "batch")}
    assert keys["instance"] < keys["batch"]
    assert all(key.rsplit(".")[-1].startswith("running_") for key in keys["batch"] - keys["instance"])


def test_strides_per_axis_are_those_of_the_published_network(tmp_path: Path) -> None:
    network = GynBTNet(variant="tiny", out_channels=3, strides=[2, 2, 2, 2, [2, 1, 1]]).eval()
    plain = GynBTNet(variant="tiny", out_channels=3)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    x = torch.randn(1, 1, 64, 48, 32)
    with torch.no_grad():
        assert [tuple(f.shape[2:]) for f in network.encoder(x)][-2:] == [(4, 3, 2), (2, 3, 2)]
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))
    assert [tuple(head.shape[2:]) for head in network.train()(x)][-1] == (4, 3, 2)
    for stride in ([2, 1], [2, 0, 1], 0):
        with pytest.raises(ValueError, match="neither a number nor three"):
            GynBTNet(variant="tiny", strides=[2, 2, 2, 2, stride])
    encoder = GynBTEncoder(1, [4, 8], 1, ([2, 1, 1],), "batch")
    with pytest.raises(ValueError, match="same along every axis"):
        encoder(torch.randn(1, 1, 4, 4, 4), torch.ones(1, 1, 2, 4, 4, dtype=torch.bool))


def test_strides_must_fit_widths() -> None:
    with pytest.raises(ValueError, match="3 stages need 2 strides"):
        GynBTEncoder(1, [4, 8, 8], 1, (2,))
