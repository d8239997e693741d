"""Trainings side by side: in processes, and on a Dask cluster that loses a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.experiments.study.definition import read_study
from scripts.experiments.study.trainings import Training, plan_arm, predicts, run_training, run_trainings

ORGAN_ARM = {"bundle": "organ_pocketnet"}


@pytest.fixture
def trainings(written, tmp_path: Path) -> list[Training]:
    written.content |= {"stages": {}, "arms": {"organ": ORGAN_ARM}, "classes": {"organ": [1, 2]}}
    written.run("--dry_run")
    study = read_study(str(written.file))
    return [Training(fold, "final") for fold in plan_arm(study, study.arms["organ"], tmp_path / "out").folds]


def test_a_failure_is_of_its_training(trainings, bundles) -> None:
    bundles.broken = {("organ", 1)}
    failed = run_trainings(trainings, 2)
    assert list(failed) == [trainings[1].fold.folder]
    assert "out of memory" in failed[trainings[1].fold.folder]
    assert (trainings[2].fold.folder / "evaluation/predictions").is_dir()


def test_a_full_disk_is_of_its_training(trainings, bundles, monkeypatch) -> None:
    monkeypatch.setattr(
        type(trainings[0].fold), "train", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    assert "No space left" in run_training(trainings[0])


def test_threads_are_shared(trainings, bundles, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    run_training(replace(trainings[0], threads=3))
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_what_predicts_its_own_cases(written) -> None:
    written.content["stages"]["pre"] = {"bundle": "gynbtnet_pretrain", "fold": 0}
    written.run("--dry_run")
    study = read_study(str(written.file))
    assert [predicts(arm) for arm in (*study.stages.values(), study.arms["one"])] == [True, False, True]


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker(written, tmp_path: Path) -> None:
    """Real trainings of a few steps; the worker of the first one is killed while it trains."""
    distributed = pytest.importorskip("distributed")
    tiny = {"epochs": 6, "features": 4, "norm": "instance", "patch_size": [16, 16, 8], "deep_supervision": 0}
    tiny |= {"kernel_sizes": [3, 3], "strides": [2], "spacing": [2.0, 2.0, 4.0], "val_interval": 6, "resume": True}
    arm = {"bundle": "organ_pocketnet", "configs": ["small.json"], "overrides": tiny}
    written.content |= {"stages": {}, "arms": {"organ": arm}, "classes": {"organ": [1, 2]}, "folds": [0, 1]}
    killed: list[int] = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, resources={"GPU": 1}
    ) as cluster:

        def kill_one() -> None:
            deadline = time.monotonic() + 300
            log = tmp_path / "out/arms/organ/fold0/log.txt"
            while time.monotonic() < deadline and not (log.exists() and "Epoch[2] Metrics" in log.read_text()):
                time.sleep(0.05)
            owner = (tmp_path / "out/arms/organ/fold0/.run.lock").read_text().split()[1]
            killed.append(int(owner))
            os.kill(int(owner), signal.SIGKILL)

        thread = threading.Thread(target=kill_one)
        thread.start()
        status = written.run("--scheduler", cluster.scheduler_address)
        thread.join()
    assert killed
    assert status == 0
    # a second worker started it again, and went on from where the first one was
    _, first, second = (tmp_path / "out/arms/organ/fold0/log.txt").read_text().split("$ cd ")
    assert "Epoch[2] Metrics" in first
    assert "Epoch[6] Metrics" in second
    assert "Epoch[1] Metrics" not in second
    assert (tmp_path / "out/tables/out_of_fold_summary.csv").is_file()
    assert all((tmp_path / f"out/arms/organ/fold{i}/final.pt").is_file() for i in (0, 1))
