"""Files that are refused, each with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from custom_networks import CaseError
from scripts.sharing.import_weights.import_weights import import_weights
from scripts.sharing.import_weights.stunet import convert_stunet, read_checkpoint
from tests.scripts.sharing.import_weights.conftest import PeerSTUNet


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "owned")


class TorchObject(nn.Linear):
    """A whole module, not its tensors."""


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, new_format: bool) -> None:
    content = {"state_dict": {"w": torch.zeros(1)}, "plot_stuff": Malicious(tmp_path / "owned")}
    torch.save(content, tmp_path / "a.model", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CaseError, match=r"a\.model: it holds more than weights .* and was not opened; pass small_ep4k"):
        import_weights("stunet", str(tmp_path / "a.model"), str(tmp_path / "out"))
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="does not exist"):
        read_checkpoint(tmp_path / "none.model")
    (tmp_path / "text.model").write_bytes(b"no checkpoint")
    with pytest.raises(CaseError, match="damaged"):
        read_checkpoint(tmp_path / "text.model")
    torch.save(TorchObject(1, 1), tmp_path / "module.model")
    with pytest.raises(CaseError, match="more than weights"):
        read_checkpoint(tmp_path / "module.model")
    torch.save({"a": torch.zeros(1)}, tmp_path / "flat.model")
    with pytest.raises(CaseError, match="neither state_dict nor network_weights"):
        read_checkpoint(tmp_path / "flat.model")


def test_other_networks(peer: PeerSTUNet) -> None:
    weights = peer.state_dict()
    with pytest.raises(CaseError, match=r"weights f: its tensors do not have the names of STU-Net"):
        convert_stunet({"encoder.weight": torch.zeros(1)}, "f")
    with torch.device("meta"):
        others = [PeerSTUNet(8, 1, 25).state_dict(), PeerSTUNet(24, 1, 105).state_dict()]
    with pytest.raises(CaseError, match="its heads have 25 classes, not the 105 of TotalSegmentator v1"):
        convert_stunet(others[0], "f")
    with pytest.raises(CaseError, match="no variant begins with 24 features and 1 blocks a stage"):
        convert_stunet(others[1], "f")
    with pytest.raises(CaseError, match=r"1 of its tensors .* STU-Net tiny \(first extra\)"):
        convert_stunet(weights | {"extra": torch.zeros(1)}, "f")
    del weights["upsample_layers.2.conv.bias"]
    with pytest.raises(CaseError, match=r"1 of its tensors .* \(first decoder\.2\.conv\.bias\)"):
        convert_stunet(weights, "f")


def test_source_and_place(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"source swin: it is not known; choose from stunet"):
        import_weights("swin", "f", str(tmp_path))
    (tmp_path / "model.pt").touch()
    with pytest.raises(CaseError, match="they are there already"):
        import_weights("stunet", "f", str(tmp_path))
