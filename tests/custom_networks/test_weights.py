from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from custom_networks import (
    CaseError,
    MeanEnsemble,
    PocketNet,
    TwoStagePocketNet,
    check_settings,
    check_weights,
    load_ensemble,
    load_weights,
)
from custom_networks.networks.gynbtnet import GynBTNet
from custom_networks.networks.masked_autoencoder import SparseMaskedAutoencoder
from custom_networks.weights import load_pretrained


def small(**options) -> PocketNet:
    return PocketNet(features=2, levels=2, **options)


def test_loads_and_says_what_does_not_fit(tmp_path):
    source, target = small(), small()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    load_weights(target, tmp_path / "model.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    with pytest.raises(CaseError, match=r"model\.pt: they belong to another architecture"):
        check_weights(PocketNet(features=4, levels=2), tmp_path / "model.pt")
    with pytest.raises(CaseError, match="another architecture"):
        check_weights(small(deep_supervision=0, in_channels=2), tmp_path / "model.pt")


def test_a_part_of_a_larger_network(tmp_path):
    both = TwoStagePocketNet(small(), small(in_channels=2))
    torch.save(both.state_dict(), tmp_path / "both.pt")
    organ = small()
    load_weights(organ, tmp_path / "both.pt", "organ")
    assert torch.equal(organ.head.weight, both.organ.head.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "damaged"), (b"not weights", "damaged"), ({"model": {}}, "not a flat state dict")],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    file = tmp_path / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CaseError, match=message):
        load_weights(small(), file)


def test_a_truncated_file(tmp_path):
    file = tmp_path / "model.pt"
    torch.save(small().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CaseError, match="damaged"):
        load_weights(small(), file)


def test_ensemble_of_both_stages(tmp_path):
    files = []
    for fold in range(2):
        files.append(tmp_path / f"{fold}.pt")
        torch.save(TwoStagePocketNet(small(), small(in_channels=2)).state_dict(), files[-1])
    network = TwoStagePocketNet(
        MeanEnsemble([small(), small()]), MeanEnsemble([small(in_channels=2) for _ in range(2)])
    )
    load_ensemble(network, files)
    second = torch.load(files[1])
    assert torch.equal(network.tumor.networks[1].head.weight, second["tumor.head.weight"])
    with pytest.raises(CaseError, match="1 files for 2 folds"):
        load_ensemble(network, files[:1])


def save(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "model.pt")
    return folder / "model.pt"


def pretrained(folder: Path, **arguments: object) -> tuple[SparseMaskedAutoencoder, Path]:
    torch.manual_seed(1)
    network = SparseMaskedAutoencoder(variant="small", decoder_width=16, **arguments)  # type: ignore[arg-type]
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network, save(network, folder)


@pytest.mark.parametrize("stages", [5, 6])
def test_encoder_of_pretraining(tmp_path: Path, stages: int, caplog: pytest.LogCaptureFixture) -> None:
    source, path = pretrained(tmp_path, pretrain_stages=stages)
    network = GynBTNet(variant="small", out_channels=105)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        report = load_pretrained(network, path)
    assert report is not None
    after, given = network.state_dict(), source.state_dict()
    expected = {n for n in start if n.startswith("encoder.") and int(n.split(".")[2]) < stages}
    assert set(report.loaded) == expected
    for name, value in start.items():
        assert torch.equal(after[name], given[name] if name in expected else value), name
    assert set(report.kept) == set(start) - expected
    assert {why for name, why in report.kept.items() if name.startswith("encoder.stages.5")} == (
        {"pretraining ended with stage 5"} if stages == 5 else set()
    )
    assert set(report.skipped) == set(given) - expected
    assert all("running" in report.skipped[name] for name in given if "running_" in name)
    assert "belongs to pretraining alone" in caplog.text
    assert f"{len(expected)} tensors loaded (encoder.stages.0, " in caplog.text


def test_sparse_and_dense_encoder_agree_after_transfer(tmp_path: Path) -> None:
    source, path = pretrained(tmp_path)
    network = GynBTNet(variant="small", norm="batch")
    load_pretrained(network, path)
    x = torch.randn(1, 1, 32, 32, 32)
    everything = torch.ones(1, 1, 2, 2, 2, dtype=torch.bool)
    for sparse, dense in zip(source.encoder(x, everything), network.encoder(x), strict=False):
        torch.testing.assert_close(sparse, dense, rtol=1e-2, atol=1e-2)


def test_105_to_6_classes_skips_the_heads(tmp_path: Path) -> None:
    source, network = GynBTNet(variant="small", out_channels=105), GynBTNet(variant="small", out_channels=6)
    head = network.head.weight.clone()
    report = load_pretrained(network, save(source, tmp_path))
    assert report is not None
    assert {name.split(".")[0] for name in report.skipped} == {"head", "extra_heads"}
    assert set(report.skipped.values()) == {"head of 105 classes, not 6"}
    assert torch.equal(network.head.weight, head)
    for name, value in network.state_dict().items():
        if "head" not in name:
            assert torch.equal(value, source.state_dict()[name]), name
    with torch.no_grad():
        network.eval()(torch.randn(1, 1, 16, 16, 32))


def test_same_classes_take_the_heads_and_wrappers_names_fall_away(tmp_path: Path) -> None:
    source = GynBTNet(variant="small", deep_supervision=2)
    path = tmp_path / "model.pt"
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, path)
    network = GynBTNet(variant="small", deep_supervision=1)
    report = load_pretrained(network, path)
    assert report is not None
    assert torch.equal(network.head.weight, source.head.weight)
    assert set(report.skipped) == {"extra_heads.1.weight", "extra_heads.1.bias"}
    assert report.kept == {}


def test_only_the_encoder(tmp_path: Path) -> None:
    source, network = GynBTNet(variant="small"), GynBTNet(variant="small")
    report = load_pretrained(network, save(source, tmp_path), parts=("encoder.",))
    assert report is not None
    assert all(name.startswith("encoder.") for name in report.loaded)
    assert not torch.equal(network.decoder[0].conv.weight, source.decoder[0].conv.weight)  # type: ignore[union-attr, arg-type]


def test_not_enabled_changes_nothing() -> None:
    network = GynBTNet(variant="small")
    assert load_pretrained(network, "nowhere.pt", enabled=False) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"variant": "base"}, r"16 x 1 x 3 x 3 x 3|32 x 1 x 3 x 3 x 3 in the file"),
        ({"variant": "small", "in_channels": 2}, "another architecture"),
        ({"variant": "small", "strides": (2, 2, 2, 2)}, "another architecture"),
        ({"variant": "small", "strides": (2, 2, 2, 2, 1, 1)}, "another architecture"),
    ],
)
def test_another_architecture_is_an_error(tmp_path: Path, source: dict[str, object], message: str) -> None:
    path = save(GynBTNet(**source), tmp_path)  # type: ignore[arg-type]
    network = GynBTNet(variant="small")
    start = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CaseError, match=message):
        load_pretrained(network, path)
    assert all(torch.equal(start[name], value) for name, value in network.state_dict().items())


def test_missing_and_truncated_stages_are_errors(tmp_path: Path) -> None:
    network = GynBTNet(variant="small")
    with pytest.raises(CaseError, match="does not exist"):
        load_pretrained(network, tmp_path / "absent.pt")
    source, path = pretrained(tmp_path)
    weights = {n: v for n, v in source.state_dict().items() if not n.startswith("encoder.stages.2")}
    torch.save(weights, path)
    with pytest.raises(CaseError, match=r"encoder\.stages\.2\.\S+ is missing in the file"):
        load_pretrained(network, path)
    torch.save({"tokens.0": torch.zeros(3)}, path)
    with pytest.raises(CaseError, match="nothing of this network's encoder"):
        load_pretrained(network, path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CaseError, match="the network has no weight"):
        load_pretrained(network, path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"orientation": "LPS"}, r'trained with orientation RAS, not LPS; pass --orientation "RAS"'),
        (
            {"strides": [2, 2, 2, 2, 1]},
            r'strides \[2,2,2,2,\[2,1,1\]\], not \[2,2,2,2,1\]; pass --strides "\[2,2,2,2,\[2,1,1\]\]"',
        ),
        ({"deep_supervision": 3}, None),
    ],
    ids=["orientation", "strides", "neither"],
)
def test_pretrained_of_other_axes_are_refused(tmp_path: Path, changed: dict, message: str | None) -> None:
    """Their tensors fit in shape, so nothing but the settings can tell."""
    settings = {"orientation": "RAS", "strides": [2, 2, 2, 2, [2, 1, 1]], "deep_supervision": 4}

    def network(values: dict) -> GynBTNet:
        return GynBTNet(variant="tiny", strides=values["strides"], settings=check_settings({}, **values))

    path, target = save(network(settings), tmp_path), network({**settings, **changed})
    if message:
        with pytest.raises(CaseError, match=message):
            load_pretrained(target, path)
    else:
        assert load_pretrained(target, path) is not None
