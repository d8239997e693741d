from __future__ import annotations

from pathlib import Path

import pytest
import torch

from custom_networks import GynBTNet, check_settings, read_settings
from custom_networks.settings import decoded
from scripts.data.cohorts.totalsegmentator import CLASSES_V1
from scripts.sharing.import_weights.stunet import SETTINGS, convert_stunet, read_checkpoint, rows_by_our_classes
from tests.scripts.sharing.import_weights.conftest import PeerSTUNet


def test_class_rows() -> None:
    """Values as STU-Net publishes them, ours as the data set's table has them."""
    rows = rows_by_our_classes()
    published = {
        "adrenal_gland_left": 1,
        "rib_left_1": 49,
        "rib_left_10": 50,
        "rib_left_2": 53,
        "urinary_bladder": 80,
        "vertebrae_C1": 81,
        "vertebrae_L5": 92,
        "vertebrae_T10": 94,
        "vertebrae_T9": 104,
    }
    assert rows[0] == 0
    assert {name: rows[CLASSES_V1.index(name) + 1] for name in published} == published
    assert sorted(rows) == list(range(105))


@pytest.mark.parametrize("version", [1, 2])
def test_same_output_at_every_head(peer, checkpoint, version: int) -> None:
    weights = convert_stunet(read_checkpoint(checkpoint(peer, version)), "file")
    settings = decoded(weights["settings"])
    network = GynBTNet(
        1, 105, settings["variant"], strides=settings["strides"], settings=check_settings(settings, **settings)
    )
    network.load_state_dict(weights)
    # in x it halves five times, and the last level must keep more than one voxel for its norm
    image = torch.randn(1, 1, 64, 32, 48)
    with torch.no_grad():
        expected = peer(image.permute(0, 1, 4, 3, 2))
        found = network.train()(image)
        assert torch.equal(network.eval()(image), found[0])
    assert len(found) == len(expected) == 5
    rows = rows_by_our_classes()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs[:, rows].permute(0, 1, 4, 3, 2), rtol=0, atol=1e-4)
    assert found[0].std() > 0.01


@pytest.mark.parametrize(
    ("first", "depth", "variant"), [(16, 1, "small"), (32, 1, "base"), (64, 2, "large"), (96, 3, "huge")]
)
def test_variant_is_read_from_the_tensors(first: int, depth: int, variant: str) -> None:
    with torch.device("meta"):
        weights = PeerSTUNet(first, depth, 105).state_dict()
    found = convert_stunet(weights, "file")
    assert decoded(found["settings"])["variant"] == variant
    assert found["encoder.stages.5.0.conv2.weight"].shape[0] == 16 * first


def test_settings_are_those_of_the_bundle(tmp_path: Path, peer, checkpoint) -> None:
    from monai.bundle import ConfigParser

    torch.save(convert_stunet(read_checkpoint(checkpoint(peer)), "file"), tmp_path / "model.pt")
    bundle = Path(__file__).resolve().parents[4] / "bundles/gynbtnet_finetune/configs"
    for name, where in (("train", "ckpt_dir"), ("inference", "ckpt_dir"), ("inference", "ckpt_path")):
        parser = ConfigParser()
        parser.read_config(str(bundle / f"{name}.json"))
        parser[where] = str(tmp_path / "model.pt" if where == "ckpt_path" else tmp_path)
        used = parser.get_parsed_content("used_settings")
        assert used == {**SETTINGS, "variant": "tiny"} == read_settings(tmp_path / "model.pt")
