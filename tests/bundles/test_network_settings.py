"""What the bundles' files say of network, loss and grid, read as monai.bundle reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from custom_networks import GynBTNet, PocketNet, TwoStagePocketNet

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
POCKETS, GYNBTNETS = ("organ_pocketnet", "tumor_pocketnet"), ("gynbtnet_finetune", "gynbtnet_brachytherapy")
SMALL = {"features": 4, "variant": "tiny", "decoder_width": 16, "device": "cpu", "num_classes": 6}


def parser(bundle: str, *names: str, **values: Any) -> ConfigParser:
    found = ConfigParser()
    found.read_config([str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names])
    found.update({key: value for key, value in {**SMALL, **values}.items() if key in found.get() or key in values})
    return found


def trained(bundle: str, *names: str, **values: Any) -> PocketNet:
    network = parser(bundle, "train", *names, **values).get_parsed_content("network_def")
    return network.tumor if isinstance(network, TwoStagePocketNet) else network


@pytest.mark.parametrize("bundle", POCKETS)
def test_arms_of_the_pocketnet(bundle: str) -> None:
    plain = trained(bundle)
    assert {(block.dense, block.residual) for block in plain.encoder} == {(False, True)}
    assert {type(m) for m in plain.modules() if isinstance(m, nn.BatchNorm3d | nn.ReLU)} == {nn.BatchNorm3d, nn.ReLU}
    dense = trained(bundle, "dense")
    assert {(block.dense, block.residual) for block in [*dense.encoder, *dense.decoder]} == {(True, False)}
    # Table A1's default: without residual blocks, deep supervision, L2 and cosine
    default = parser(bundle, "train", "default_column")
    network = trained(bundle, "default_column")
    assert {(block.dense, block.residual) for block in [*network.encoder, *network.decoder]} == {(False, False)}
    assert len(network.extra) == 0
    assert default.get_parsed_content("l2_norm_weight") == 0
    assert default.get_parsed_content("learning_rate") == 3e-4
    assert default["lr_scheduler#_target_"].endswith("ConstantLR")
    toolkit = trained(bundle, "toolkit")
    assert any(isinstance(m, nn.InstanceNorm3d) for m in toolkit.modules())
    assert any(isinstance(m, nn.PReLU) for m in toolkit.modules())
    assert not any(isinstance(m, nn.BatchNorm3d | nn.ReLU) for m in toolkit.modules())
    for other in (dense, network, toolkit):
        other.train()(torch.rand(1, plain.encoder[0].conv1.parts[0].in_channels, 16, 16, 16))


@pytest.mark.parametrize("bundle", [*POCKETS, *GYNBTNETS])
def test_loss_is_the_papers(bundle: str) -> None:
    found = parser(bundle, "train")
    heads = found.get_parsed_content("deep_supervision") + 1
    weights = [2.0**-i for i in range(heads)]
    weights = [w / sum(weights) for w in weights]
    loss = found.get_parsed_content("loss")
    deep = loss.loss if bundle in POCKETS else loss
    assert isinstance(deep, DeepSupervisionLoss)
    assert deep.weights == pytest.approx(weights)
    classes = 2 if bundle in POCKETS else 6
    logits, label = torch.randn(2, classes, 8, 8, 8), torch.randint(0, classes, (2, 1, 8, 8, 8)).float()
    options: dict[str, Any] = {"include_background": False}
    if bundle in POCKETS:
        options = {"squared_pred": True, "lambda_dice": 0.5, "lambda_ce": 0.5}
    expected = DiceCELoss(to_onehot_y=True, softmax=True, **options)(logits, label)
    torch.testing.assert_close(deep.loss(logits, label), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bundle", POCKETS)
def test_loss_of_a_pocketnet_pulls_at_the_network_that_is_trained(bundle: str) -> None:
    found = parser(bundle, "train")
    network = found.get_parsed_content("network_def")
    own = getattr(network, "tumor", network)
    norms = sum(float(p.detach().norm()) for p in own.parameters())
    loss = found.get_parsed_content("loss")
    output, label = [torch.randn(1, 2, n, n, n) for n in (8, 4, 2)], torch.ones(1, 1, 8, 8, 8)
    assert (loss(output, label) - loss.loss(output, label)).item() == pytest.approx(1e-5 * norms, rel=1e-2)


@pytest.mark.parametrize("bundle", [*POCKETS, *GYNBTNETS, "gynbtnet_pretrain"])
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_orientation_layout_and_compilation_are_settings(bundle: str, kind: str) -> None:
    text = (BUNDLES / bundle / "configs" / f"{kind}.json").read_text()
    assert json.loads(text)["orientation"] == "$@settings.get('orientation', 'LPS')"
    assert '"axcodes": "LPS"' not in text
    assert '"axcodes": "@orientation"' in text
    found = parser(bundle, kind)
    network = found.get_parsed_content("network")
    assert not any(m._compiled_call_impl for m in network.modules())
    # the device as a word, as MONAI Label hands it over
    found = parser(bundle, kind, compile=True, memory_format="$torch.channels_last_3d")
    network = found.get_parsed_content("network")
    assert any(m._compiled_call_impl for m in network.modules())
    weight = next(p for p in network.parameters() if p.ndim == 5 and p.shape[1] > 1 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("bundle", GYNBTNETS)
def test_the_published_networks_strides_are_one_setting(bundle: str) -> None:
    for kind in ("train", "inference"):
        network = parser(bundle, kind, strides=[2, 2, 2, 2, [2, 1, 1]]).get_parsed_content("network_def")
        assert isinstance(network, GynBTNet)
        with torch.no_grad():
            deepest = network.eval().encoder(torch.rand(1, 1, 32, 32, 32))[-1]
        assert deepest.shape[2:] == (1, 2, 2)
