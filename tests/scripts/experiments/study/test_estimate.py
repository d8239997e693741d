"""Steps, parameters and a measured step, from the bundles' own configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.experiments.study.definition import read_study
from scripts.experiments.study.estimate import cost_of
from scripts.experiments.study.trainings import plan_arm

TINY = {
    "epochs": 3,
    "features": 4,
    "norm": "instance",
    "patch_size": [16, 16, 8],
    "kernel_sizes": [3, 3],
    "strides": [2],
}


@pytest.fixture
def first_fold(written, tmp_path: Path):
    def make(**arm):
        written.content |= {"stages": {}, "arms": {"arm": arm}}
        written.run("--dry_run")
        study = read_study(str(written.file))
        return plan_arm(study, study.arms["arm"], tmp_path / "out").folds[0]

    return make


def test_steps_and_parameters_without_a_step(first_fold) -> None:
    # fold 0 of three holds two patients with one image each: five cases at batch 2 are three steps an epoch
    fold = first_fold(bundle="organ_pocketnet", overrides={**TINY, "deep_supervision": 0})
    assert len(fold.training) == 5
    cost = cost_of(fold)
    assert (cost.steps, cost.step_seconds) == (9, None)
    assert 1000 < cost.parameters < 10_000


def test_the_large_network_is_counted_without_its_memory(first_fold) -> None:
    cost = cost_of(first_fold(bundle="gynbtnet_brachytherapy", configs=["no_pretraining.json"]))
    assert cost.steps == 1000 * 250
    # 440.11 million at 6 output channels, and four heads of deep supervision
    assert cost.parameters == pytest.approx(440.11e6, rel=1e-3)


def test_a_measured_step(first_fold, capsys) -> None:
    cost = cost_of(first_fold(bundle="organ_pocketnet", overrides={**TINY, "deep_supervision": 0}), 1)
    assert cost.step_seconds is not None
    assert 0 < cost.step_seconds < 60


def test_a_loss_of_another_kind_is_not_timed(first_fold) -> None:
    small = {"variant": "small", "patch_size": [32, 32, 32], "decoder_width": 16}
    assert cost_of(first_fold(bundle="gynbtnet_pretrain", overrides=small), 1).step_seconds is None
