"""The logic of `benchmark gpu` on a CPU, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks.errors import CaseError
from scripts.benchmarks import gpu as module
from scripts.benchmarks.gpu import gpu, sum_over_ranks, table


def test_figures_of_a_pocketnet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sum_over_ranks", lambda device: {"ranks": 1, "backend": "none", "right": True})
    names = ["organ_pocketnet"]
    assert gpu(device="cpu", only=names, repeats=2, roofline=0.1, output=str(tmp_path / "gpu.json")) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert list(result["bundles"]) == names
    for row in result["bundles"].values():
        assert len(row["seconds"]) == 2
        assert row["tflop"] > 0
        assert row["predicted_gib"] > 0
        norms = row["gradient_norm"]
        assert norms["float32"] > 0
        assert norms["bfloat16"] == pytest.approx(norms["float32"], rel=0.1)
        assert norms["float16"] == pytest.approx(norms["float32"], rel=0.02)
    printed = capsys.readouterr().out
    assert "| organ_pocketnet | 1 | 48 x 48 x 16 |" in printed
    assert "sum over 1 ranks (none): right" in printed


def test_gradient_of_a_gynbtnet_as_clipping_sees_it() -> None:
    """Its smallest images are 3 x 3 x 1 here; over two voxels torch's gradient in bfloat16 is wrong on a CPU."""
    step, _ = module.step_of("gynbtnet_brachytherapy", "cpu")
    norms = module.gradient_norms(step, "cpu")
    assert norms["bfloat16"] == pytest.approx(norms["float32"], rel=0.2)
    assert norms["float16"] == pytest.approx(norms["float32"], rel=0.02)


def test_ranks_add_up() -> None:
    assert sum_over_ranks("cpu") == {"ranks": 2, "backend": "gloo", "right": True}


def test_a_bundle_that_does_not_fit_is_a_row() -> None:
    ranks = {"ranks": 4, "backend": "nccl", "right": False}
    text = table({"machine": {}, "bundles": {"organ_pocketnet": {"error": "out of memory"}}, "ranks": ranks})
    assert "| organ_pocketnet | out of memory |" in text
    assert text.endswith("sum over 4 ranks (nccl): WRONG")


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"only": ["organ"]}, {"device": "cuda"}])
def test_refusals(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    with pytest.raises(CaseError, match=r"unknown|no GPU"):
        gpu(**options)  # type: ignore[arg-type]
