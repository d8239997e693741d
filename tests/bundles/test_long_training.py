"""What takes minutes to hours: mixed precision on real CT, and twenty kills. A folder in GYN_RUNS keeps what is trained."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run

from scripts.experiments.evidence.ct_samples import openkbp_parts, samples_folder, write_brachytherapy

REPO = Path(__file__).resolve().parents[2]
# ten steps each; all follow the learning rate of the longest
EPOCHS = {"float32": 20, "bfloat16": 20, "float16": 3}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * 3600)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("GYN_RUNS") or tmp_path_factory.mktemp("runs"))


def losses(runs: Path, precision: str, seed: int) -> list[float]:
    """Mean loss of each epoch of a training of the smallest GynBTNet on OpenKBP."""
    samples, folder = samples_folder(), runs / f"{precision}_{seed}"
    train, test, _ = openkbp_parts(samples, 6, 1, 0)
    parser = ConfigParser()
    parser.read_config(
        [str(REPO / f"bundles/gynbtnet_brachytherapy/configs/{name}.json") for name in ("train", "small")]
    )
    values = {
        "datalist": str(write_brachytherapy(samples, train, test, runs / "data")),
        "dataset_dir": str(runs / "data"),
        "ckpt_dir": str(folder),
        "output_dir": str(folder),
        "bundle_root": str(REPO / "bundles/gynbtnet_brachytherapy"),
        "device": "cpu",
        "pretrained": None,
        "seed": seed,
        "variant": "tiny",
        "spacing": [4.0, 4.0, 4.0],
        "patch_size": [48, 48, 16],
        "batch_size": 1,
        "epochs": max(EPOCHS.values()),
        "iterations": 10,
        "learning_rate": 1e-3,
        "val_interval": 99,
        "val_cases": 1,
        "val_overlap": 0.0,
        "amp": precision != "float32",
        "amp_dtype": f"$torch.{precision}" if precision != "float32" else "$torch.bfloat16",
    }
    parser.update(values)
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    record = folder / "losses.json"
    found: list[float] = json.loads(record.read_text()) if record.is_file() else []

    def note(engine: Any) -> None:
        found[engine.state.epoch - 1 :] = [float(engine.state.metrics["train_loss"])]
        record.write_text(json.dumps(found))
        if len(found) == EPOCHS[precision]:
            engine.terminate()

    trainer.add_event_handler(Events.EPOCH_COMPLETED, note)
    if len(found) < EPOCHS[precision]:
        trainer.run()
    return found


def test_bfloat16_reaches_the_loss_of_float32(runs: Path) -> None:
    """Real CT, 200 steps, three seeds: within the spread of the seeds."""
    end = {p: [float(np.mean(losses(runs, p, seed)[-3:])) for seed in range(3)] for p in ("float32", "bfloat16")}
    print(end)
    spread = max(end["float32"]) - min(end["float32"])
    assert np.mean(end["bfloat16"]) <= np.mean(end["float32"]) + spread
    assert max(end["bfloat16"]) < losses(runs, "float32", 0)[0]


def test_float16_learns_with_its_scale(runs: Path) -> None:
    half, full = losses(runs, "float16", 0), losses(runs, "float32", 0)
    print(half, full[:3])
    assert half[-1] < half[0]
    assert half[-1] == pytest.approx(full[2], abs=0.1)


def train(folder: Path, values: dict[str, Any]) -> None:
    """In a process of its own, which was forked: it would take longer to start than to train."""
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    os.chdir(REPO / "bundles/organ_pocketnet")
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        bundle_run(config_file="configs/train.json", meta_file="configs/metadata.json", **values)


def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    rng, cases = np.random.default_rng(0), []
    for i in range(4):
        label = np.zeros((32, 32, 12), np.uint8)
        label[8:20, 8:20, 3:9] = 1
        image = (label * 200.0 + rng.normal(0, 60, label.shape)).astype(np.int16)
        for kind, voxels in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 5.0, 1.0])), tmp_path / f"{kind}{i}.nii.gz")
        cases.append({"case": f"c{i}", "patient": f"c{i}", "image": f"image{i}.nii.gz", "label": f"label{i}.nii.gz"})
    cases = [{**case, "fold": i % 2} for i, case in enumerate(cases)]
    (tmp_path / "datalist.json").write_text(json.dumps({"name": "t", "training": cases, "testing": []}))
    values = {
        "dataset_dir": str(tmp_path),
        "spacing": [4.0, 4.0, 5.0],
        "patch_size": [16, 16, 8],
        "kernel_sizes": [3, 3, 3],
        "strides": [2, 2],
        "features": 4,
        "deep_supervision": 1,
        "epochs": 70,
        "val_interval": 7,
        "batch_size": 1,
        "num_workers": 2,
        "tracker": "none",
        "device": "cpu",
    }

    def start(folder: Path) -> Any:
        places = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder)}
        process = multiprocessing.get_context("fork").Process(target=train, args=(folder, {**values, **places}))
        process.start()
        return process

    whole, cut, kills = tmp_path / "whole", tmp_path / "cut", 0
    first = start(whole)
    first.join()
    assert first.exitcode == 0
    random = np.random.default_rng()
    while kills < 20:
        process, state = start(cut), cut / "resume.pt"
        before = state.stat().st_mtime_ns if state.is_file() else 0
        while process.is_alive() and (state.stat().st_mtime_ns if state.is_file() else 0) == before:
            time.sleep(0.005)
        time.sleep(float(random.uniform(0, 0.2)))
        assert process.is_alive(), (cut / "log").read_text()[-2000:]
        process.kill()
        process.join()
        kills += 1
    reached = torch.load(cut / "resume.pt", weights_only=True)["epoch"]
    print(f"{kills} kills, the last after epoch {reached} of {values['epochs']}")
    assert reached < 70
    last = start(cut)
    last.join()
    assert last.exitcode == 0
    for name in ("final.pt", "models/model.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (whole, cut))
        assert all(torch.equal(one[key], other[key]) for key in one), name
