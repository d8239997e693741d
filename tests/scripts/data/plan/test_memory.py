"""The predicted peak of live tensors against the one that torch's profiler records of the same work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from custom_networks.errors import CaseError
from scripts.benchmarks.memory import recorded_peak
from scripts.data.plan.memory import CONTEXT_BYTES, MARGIN, Step, largest_batch, needed
from scripts.data.plan.plan import read_train_config

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"
# large enough that activations outweigh parameters, as they do at full size
SIZES: dict[str, dict[str, Any]] = {
    "organ_pocketnet": {"patch_size": [48, 48, 16], "features": 16},
    "gynbtnet_finetune": {"patch_size": [48, 48, 32], "variant": "tiny", "num_classes": 20},
    "gynbtnet_pretrain": {"patch_size": [64, 64, 48], "variant": "tiny", "decoder_width": 32},
}


def step_of(bundle: str, precision: str = "fp32", **more: Any) -> Step:
    config = read_train_config(BUNDLES / bundle)
    return Step({**config, **SIZES[bundle], **more}, precision=precision)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """One thread alone sends convolutions of one voxel to a kernel that copies its input, which no GPU does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("bundle", "precision"),
    [
        ("organ_pocketnet", "fp32"),
        pytest.param("gynbtnet_finetune", "fp32", marks=pytest.mark.slow),
        ("gynbtnet_pretrain", "fp32"),
    ],
)
def test_prediction_is_within_a_tenth_of_what_is_recorded(bundle: str, precision: str) -> None:
    step = step_of(bundle, precision)
    torch.manual_seed(0)
    assert step.training_peak(2) == pytest.approx(recorded_peak(step, 2, step.train), rel=0.1)
    assert step.inference_peak(2) == pytest.approx(recorded_peak(step, 2, step.predict), rel=0.1)


@pytest.mark.slow
def test_prediction_in_half_precision() -> None:
    # a CPU's convolutions pad channels to full registers in bf16, which only wide networks do not notice
    wide = {"variant": "base", "patch_size": [48, 48, 48], "decoder_width": 512}
    step = step_of("gynbtnet_pretrain", "bf16", **wide)
    assert step.training_peak(2) == pytest.approx(recorded_peak(step, 2, step.train), rel=0.1)


def test_precision_and_checkpointing_are_told_apart() -> None:
    # few classes: their scores and the loss are float32 in either case
    few: dict[str, Any] = {"num_classes": 4, "patch_size": [64, 64, 48]}
    plain = step_of("gynbtnet_finetune", **few).training_peak(2)
    assert step_of("gynbtnet_finetune", "bf16", **few).training_peak(2) < 0.8 * plain
    assert step_of("gynbtnet_finetune", checkpointing=True, **few).training_peak(2) < 0.8 * plain


@pytest.mark.slow
def test_the_papers_step_at_full_size() -> None:
    assert Step(read_train_config(BUNDLES / "organ_pocketnet")).training_peak(2) / 2**30 == pytest.approx(
        3.41, abs=0.05
    )


def test_largest_batch_is_the_last_that_fits() -> None:
    step = step_of("organ_pocketnet", kernel_sizes=[3, 3], strides=[2], deep_supervision=0)
    memory = needed(step.training_peak(3)) + 1
    batch, (one, two) = largest_batch(step, memory)
    assert batch == 3
    assert two > one
    assert needed(10) == 10 * MARGIN + CONTEXT_BYTES


def test_what_cannot_be_traced_is_refused() -> None:
    with pytest.raises(CaseError, match=r"int8.*bf16, fp32"):
        step_of("organ_pocketnet", "int8")
    with pytest.raises(CaseError, match="no id loss"):
        Step({"network_def": {}, "optimizer": {}, "patch_size": [16, 16, 16]})
