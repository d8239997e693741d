"""`inference_trt.json`: what MONAI's `trt_compile` is asked for, and that without TensorRT the network runs as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.networks
import pytest
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
INFERRING = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/inference_trt.json"))


def parsed(bundle: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / f"configs/{name}.json") for name in ("inference", "inference_trt")])
    parser.update({"device": "$torch.device('cpu')", "settings": {}, "sw_batch_size": 3})
    small: dict[str, Any] = {"variant": "tiny", "features": 4}
    parser.update({key: value for key, value in small.items() if key in parser.get()})
    return parser


def test_every_bundle_that_segments_has_it() -> None:
    assert INFERRING == ["gynbtnet_brachytherapy", "gynbtnet_finetune", "organ_pocketnet", "tumor_pocketnet"]


@pytest.mark.parametrize("bundle", INFERRING)
def test_without_tensorrt_monai_says_so_and_the_network_stays(
    bundle: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    parser = parsed(bundle)
    network = parser.get_parsed_content("network")
    assert network is parser.get_parsed_content("network_def")
    assert not any(hasattr(module, "_trt_compiler") for module in network.modules())
    # MONAI's logger writes by itself the first time, and is caught later
    said = caplog.text + "".join(capfd.readouterr())
    assert "TensorRT and/or polygraphy packages are not available" in said


@pytest.mark.parametrize("bundle", INFERRING)
def test_what_is_asked_for(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any], Any]] = []

    def compiler(model: Any, path: str, args: dict[str, Any], submodule: Any = None) -> Any:
        for name in submodule or []:
            model.get_submodule(name)
        asked.append((path, args, submodule))
        return model

    monkeypatch.setattr(monai.networks, "trt_compile", compiler)
    parsed(bundle).get_parsed_content("network")
    ((path, args, submodule),) = asked
    # the engine lies beside the weights and is made anew when they are newer
    assert path == "./models/model.pt"
    assert args == {"precision": "fp16", "dynamic_batchsize": [1, 3, 3]}
    # both stages: the inferer calls each by itself
    assert submodule == (["organ", "tumor"] if bundle == "tumor_pocketnet" else None)
