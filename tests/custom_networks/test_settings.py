"""Settings inside weights: read, compared, refused, forced, and never lost."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from custom_networks.errors import CaseError
from custom_networks.settings import carry_settings, check_scriptable, check_settings, read_settings

USED: dict[str, Any] = {"spacing": [3.0, 3.0, 5.0], "norm": "batch", "orientation": "LPS", "range": None}


class Net(nn.Module):
    def __init__(self, settings: Any = None, width: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)
        carry_settings(self, settings)

    def __prepare_scriptable__(self) -> "Net":
        check_scriptable(self)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(Net(check_settings({}, **USED)).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_a_file_tells_its_settings(weights: Path, tmp_path: Path) -> None:
    assert read_settings(weights) == USED
    assert read_settings([weights, str(weights)]) == USED
    assert read_settings(None) == read_settings(tmp_path / "none.pt") == read_settings([]) == {}
    torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "old.pt")
    assert read_settings(tmp_path / "old.pt") == {}
    (tmp_path / "cut.pt").write_bytes(weights.read_bytes()[:200])
    assert read_settings(tmp_path / "cut.pt") == {}


def test_the_file_is_a_flat_dict_of_tensors(weights: Path) -> None:
    content = torch.load(weights, weights_only=True)
    assert set(content) == {"layer.weight", "layer.bias", "settings"}
    assert content["settings"].dtype == torch.uint8


def test_folds_of_two_trainings_are_refused(weights: Path, tmp_path: Path) -> None:
    torch.save(Net(check_settings({}, **{**USED, "norm": "instance"})).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CaseError, match="another norm than"):
        read_settings([weights, tmp_path / "other.pt"])


def test_damaged_settings_are_told(weights: Path) -> None:
    content = torch.load(weights, weights_only=True)
    content["settings"] = content["settings"][:-3]
    torch.save(content, weights)
    with pytest.raises(CaseError, match="settings are damaged"):
        read_settings(weights)


def test_a_contradiction_names_both_values_and_the_way_out(caplog: Any) -> None:
    with pytest.raises(CaseError, match=r"spacing \[1, 1, 5\] for \[3.0, 3.0, 5.0\].*--force_settings True"):
        check_settings(USED, spacing=(1, 1, 5), norm="batch")
    with caplog.at_level(logging.WARNING):
        forced = check_settings(USED, True, spacing=(1, 1, 5), norm="batch")
    assert forced == {"spacing": [1, 1, 5], "norm": "batch"}
    assert "spacing [1, 1, 5] for [3.0, 3.0, 5.0]" in caplog.text


def test_equal_values_of_other_types_are_equal() -> None:
    used = check_settings(USED, spacing=np.array([3, 3, 5]), norm="batch", orientation="LPS", range=None)
    assert used["spacing"] == [3, 3, 5]
    with pytest.raises(CaseError, match="no plain value"):
        check_settings({}, norm=nn.Linear)


@pytest.mark.parametrize("strict", [True, False])
def test_loading_refuses_other_settings_whatever_strict_says(weights: Path, strict: bool) -> None:
    network = Net(check_settings({}, **{**USED, "spacing": [1.0, 1.0, 5.0]}))
    before = network.layer.weight.clone()
    with pytest.raises(CaseError, match="spacing"):
        network.load_state_dict(torch.load(weights, weights_only=True), strict=strict)
    assert torch.equal(network.layer.weight, before)
    Net(check_settings({}, **USED)).load_state_dict(torch.load(weights, weights_only=True), strict=strict)


@pytest.mark.parametrize("name", ["layer.weight", "extra"])
def test_loading_refuses_missing_and_surplus_tensors(weights: Path, name: str) -> None:
    content = torch.load(weights, weights_only=True)
    content.pop(name) if name in content else content.update({name: torch.zeros(1)})
    with pytest.raises(CaseError, match=f"first {name}"):
        Net(check_settings({}, **USED)).load_state_dict(content, strict=False)


def test_weights_without_settings_load_with_a_warning(caplog: Any) -> None:
    network = Net(check_settings({}, **USED))
    with caplog.at_level(logging.WARNING):
        network.load_state_dict({"layer.weight": torch.ones(1, 2), "layer.bias": torch.zeros(1)})
    assert "carry no settings" in caplog.text
    assert network.layer.weight.tolist() == [[1.0, 1.0]]
    assert read_back(network) == USED


def test_forced_settings_replace_those_of_the_file(weights: Path) -> None:
    network = Net(check_settings(read_settings(weights), True, **{**USED, "spacing": [1.0, 1.0, 5.0]}))
    network.load_state_dict(torch.load(weights, weights_only=True))
    assert read_back(network)["spacing"] == [1.0, 1.0, 5.0]


def test_as_part_of_another_network(weights: Path) -> None:
    outer = nn.ModuleDict({"a": Net(check_settings({}, **USED)), "b": Net()})
    state = outer.state_dict()
    outer.load_state_dict(state)
    state["a.settings"] = torch.frombuffer(bytearray(b'{"norm": "instance"}'), dtype=torch.uint8)
    with pytest.raises(CaseError, match="norm"):
        outer.load_state_dict(state, strict=False)


def test_a_network_without_settings_stays_as_it_was(weights: Path) -> None:
    assert set(Net().state_dict()) == {"layer.weight", "layer.bias"}


def test_export_with_settings_that_only_the_weights_know_is_refused(weights: Path) -> None:
    with pytest.raises(CaseError, match="scripts package"):
        torch.jit.script(Net(check_settings(read_settings(weights), **USED)))
    scripted = torch.jit.script(Net(check_settings({}, **USED)))
    assert scripted(torch.zeros(1, 2)).shape == (1, 1)


def read_back(network: nn.Module) -> dict[str, Any]:
    import json

    return dict(json.loads(bytes(network.state_dict()["settings"].tolist())))
