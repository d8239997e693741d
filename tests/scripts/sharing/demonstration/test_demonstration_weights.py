"""Demonstration weights: what is evaluated is what is shipped, and the command goes from phantoms to a release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from custom_networks import CaseError
from scripts.sharing.demonstration import demonstration_weights as verb
from scripts.sharing.demonstration.demonstration_weights import (
    BUNDLES,
    CONFIG,
    DEMONSTRATIONS,
    Cohort,
    Demonstration,
    demonstration_weights,
)


def test_a_bundle_without_demonstration(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="gynbtnet_pretrain has no demonstration; choose from organ_pocketnet"):
        demonstration_weights(str(tmp_path / "out"), ["gynbtnet_pretrain"])
    assert not (tmp_path / "out").exists()


def test_rounded_weights_are_what_sixteen_bits_hold(tmp_path: Path) -> None:
    weights = {"a": torch.randn(100), "settings": torch.tensor([200], dtype=torch.uint8)}
    torch.save(weights, tmp_path / "final.pt")
    (tmp_path / "training_cases.json").write_text("{}")
    found = torch.load(verb._rounded(tmp_path / "final.pt"), weights_only=True)
    assert not torch.equal(found["a"], weights["a"])
    assert torch.equal(found["a"].half().float(), found["a"])
    torch.testing.assert_close(found["a"], weights["a"], rtol=1e-3, atol=1e-6)
    assert torch.equal(found["settings"], weights["settings"])
    assert (tmp_path / "rounded/training_cases.json").is_file()


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_finer_than_the_demo(name: str) -> None:
    config = json.loads((BUNDLES / name / CONFIG).read_text())
    most = [3.0, 3.0, 3.0] if name == "gynbtnet_brachytherapy" else [1.5, 1.5, 4.0]
    assert all(mm <= limit for mm, limit in zip(config["spacing"], most, strict=True))
    small = json.loads((BUNDLES / name / "configs/small.json").read_text())
    steps = config["epochs"] * config.get("iterations", DEMONSTRATIONS[name].cohort.cases)
    assert steps > small["epochs"] * small.get("iterations", 29)
    # the pocket networks as they are shipped
    assert "features" not in config
    assert config.get("variant", "tiny") == "tiny"


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_flips_that_phantoms_do_not_have(name: str) -> None:
    """Patients lie on their backs with the head up: only left and right are exchanged."""
    train = json.loads((BUNDLES / name / "configs/train.json").read_text())
    config = json.loads((BUNDLES / name / CONFIG).read_text())
    flips = [i for i, one in enumerate(train["train"]["random_transforms"]) if one["_target_"] == "RandFlipd"]
    assert [train["train"]["random_transforms"][i]["spatial_axis"] for i in flips] == [0, 1, 2]
    own = config.get("flip_probability") or [
        config.get(f"train#random_transforms#{i}#prob", train["train"]["random_transforms"][i]["prob"]) for i in flips
    ]
    assert own == [0.5, 0.0, 0.0]


@pytest.mark.slow
def test_from_phantoms_to_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Cohort("mr", 6, {"matrix": 96, "thickness": 5.0, "tumor_mm": (25, 60)})
    made = {"organ_pocketnet": Demonstration(few, {"organ": [1, 2]}), "tumor_pocketnet": Demonstration(few, organ=True)}
    monkeypatch.setattr(verb, "DEMONSTRATIONS", made)
    out = tmp_path / "out"
    assert demonstration_weights(str(out), test=2, epochs=1) == 0
    first = (out / "tumor_pocketnet/final.pt").read_bytes()
    meta = json.loads((out / "releases/tumor_pocketnet/configs/metadata.json").read_text())
    assert meta["synthetic"] is True
    assert {"dsc_organ", "dsc_tumor"} <= set(meta["eval_metrics"])
    assert sorted(path.suffix for path in (out / "releases").iterdir()) == ["", "", ".zip", ".zip"]
    # given again, it trains nothing
    assert demonstration_weights(str(out), ["tumor_pocketnet"], test=2, epochs=1) == 0
    assert (out / "tumor_pocketnet/final.pt").read_bytes() == first
