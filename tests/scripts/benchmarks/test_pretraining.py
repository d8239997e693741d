from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from custom_networks.errors import CaseError
from scripts.benchmarks.pretraining import pretraining

TINY = {"variant": "small", "size": [32, 16, 16], "decoder_width": 16, "repeats": 1}


def test_arms_and_stage_2_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "runs" / "pretraining.json"
    assert pretraining(**TINY, arms=["dense", "masked_dense"], finetune=True, finetune_batch=1, output=str(output)) == 0  # type: ignore[arg-type]
    result = json.loads(output.read_text())
    assert list(result["seconds"]) == ["dense", "masked_dense", "stage 2, batch 1"]
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in result["seconds"].values())
    # one of two cells is visible: a third of the encoder's work is saved at least in part
    assert result["flops"]["masked_dense"] < result["flops"]["dense"]
    assert "masked_dense" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"variant": "giant"}, "variant 'giant' is unknown"),
        ({"size": [30, 32, 32]}, "three multiples of 16"),
        ({"size": [64]}, "three multiples of 16"),
        ({"arms": ["dense", "flash"]}, "not known"),
        ({"ratio": 1.0}, "makes no sense"),
        ({"repeats": 0}, "makes no sense"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        pretraining(**options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu() -> None:
    with pytest.raises(CaseError, match="there is no GPU"):
        pretraining(device="cuda")
