"""Exported networks compute what eager ones do, at other sizes than the one they were exported with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from custom_networks import CaseError, GynBTNet, PocketNet, SparseMaskedAutoencoder, TwoStagePocketNet
from scripts.sharing.package.probe import compare, export_onnx, load_onnx


def pocket(channels: int = 1) -> PocketNet:
    anisotropic: dict[str, Any] = {
        "kernel_sizes": [[3, 3, 1], 3],
        "strides": [[2, 2, 1]],
        "act": ["relu", {"inplace": True}],
    }
    return PocketNet(in_channels=channels, levels=2, features=4, norm=("group", {"num_groups": 2}), **anisotropic)


def gynbtnet() -> GynBTNet:
    return GynBTNet(variant="tiny", strides=(2, (2, 1, 1)), deep_supervision=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "PocketNet": pocket,
    "TwoStagePocketNet": lambda: TwoStagePocketNet(pocket(), pocket(2)),
    "GynBTNet": gynbtnet,
}
SIZES = ((1, 1, 16, 12, 8), (2, 1, 12, 20, 6))


@pytest.fixture(autouse=True)
def quiet() -> None:
    # of torchvision, which nothing here needs
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def spread(network: nn.Module) -> nn.Module:
    """Several classes in noise, so that an argmax means something."""
    for name, weight in network.named_parameters():
        if "head." in name:
            nn.init.normal_(weight)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_and_torchscript_of_any_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = spread(NETWORKS[name]())
    export_onnx(network, torch.rand(1, 1, 16, 16, 8), tmp_path / "model.onnx")
    torch.jit.script(network).save(str(tmp_path / "model.ts"))
    for exported in (load_onnx(tmp_path / "model.onnx"), torch.jit.load(str(tmp_path / "model.ts"))):
        for size in SIZES:
            x = torch.randn(size)
            with torch.no_grad():
                labels = network(x).argmax(1)
                with torch.backends.mkldnn.flags(enabled=False):
                    scores, theirs = network(x), exported(x)
            assert len(labels.unique()) > 1
            assert float((scores - theirs).abs().max()) < 1e-4 * max(1.0, float(scores.abs().max()))
            assert torch.equal(theirs.argmax(1), labels)


def test_onnx_of_a_pocketnet_does_not_take_other_sizes_in_silence(tmp_path: Path) -> None:
    export_onnx(pocket().eval(), torch.rand(1, 1, 16, 16, 8), tmp_path / "model.onnx")
    with pytest.raises(Exception, match="node_"):
        load_onnx(tmp_path / "model.onnx")(torch.rand(1, 1, 15, 16, 8))


def test_the_masked_autoencoder_is_refused_with_the_reason(tmp_path: Path) -> None:
    network = SparseMaskedAutoencoder(variant="tiny", decoder_width=8).eval()
    with pytest.raises(Exception, match="number follows from the mask") as caught:
        export_onnx(network, torch.rand(1, 1, 16, 16, 16), tmp_path / "model.onnx")
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__
    assert isinstance(cause, CaseError)
    assert not (tmp_path / "model.onnx").exists()


def test_another_network_is_told() -> None:
    one = nn.Conv3d(1, 2, 1)

    def other(x: Tensor) -> Tensor:
        return one(x) + 1e-3

    x = torch.rand(1, 1, 4, 4, 4)
    compare(one, one, x, "model.ts")
    with pytest.raises(SystemExit, match=r"model\.ts differs from model\.pt by 0\.001"):
        compare(one, other, x, "model.ts")
