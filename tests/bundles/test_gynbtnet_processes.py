"""GynBTNet bundles as processes: the documented two-machine start, ranks that equal one process, a killed training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
TINY: dict[str, Any] = {
    "spacing": [6.0, 6.0, 6.0],
    "patch_size": [32, 32, 32],
    "variant": "small",
    "fold": -1,
    "num_workers": 0,
    "tracker": "none",
    "epochs": 1,
    "checkpoint_epochs": 1,
    "warmup_epochs": 0,
    "iterations": 1,
    "batch_size": 2,
}
# whole, fixed patches and plain gradient descent: what is left to differ is how two ranks make one batch
FIXED: dict[str, Any] = {
    "train#random_transforms": [{"_target_": "ResizeWithPadOrCropd", "keys": "KEYS", "spatial_size": "@patch_size"}],
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1},
    "gradient_clip": 1.0,
}
SAME_MASKS = (
    "$setattr(__import__('custom_networks.networks.masked_autoencoder').networks.masked_autoencoder, 'random_cells', "
    "lambda n, grid, ratio: __import__('custom_networks.networks.sparse').networks.sparse.fixed_cells(n, grid, ratio, torch.device('cpu')))"
)
DISTRIBUTED = {"_target_": "DistributedSampler", "dataset": "@train#dataset", "even_divisible": True, "shuffle": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    rng, cases = np.random.default_rng(0), []
    for i in range(4):
        label = np.zeros((36, 40, 32), np.uint8)
        for value in range(1, 6):
            x, y, z = rng.integers(2, 20, 3)
            label[x : x + 12, y : y + 12, z : z + 10] = value
        image = (label * 200.0 + rng.normal(0, 60, label.shape)).astype(np.int16)
        for kind, voxels in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([5.0, 5.0, 5.0, 1.0])), folder / f"{kind}{i}.nii.gz")
        cases.append({"case": f"c{i}", "patient": f"c{i}", "image": f"image{i}.nii.gz", "label": f"label{i}.nii.gz"})
    (folder / "datalist.json").write_text(json.dumps({"name": "t", "training": cases, "testing": []}))
    return folder


def command(stage: str, names: list[str], data: Path, folder: Path, values: dict[str, Any]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "override.json").write_text(json.dumps(values))
    files = [f"configs/{name}.json" for name in names] + [str(folder / "override.json")]
    words = ["monai.bundle", "run", "--config_file", str(files).replace(" ", ""), "--dataset_dir", str(data)]
    return [*words, "--ckpt_dir", str(folder), "--output_dir", str(folder)]


def start(stage: str, words: list[str], folder: Path, name: str = "log") -> subprocess.Popen[bytes]:
    with (folder / name).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=REPO / "bundles" / stage, env=ENVIRONMENT, stdout=log, stderr=log
        )


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]


def network_state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "resume.pt", weights_only=True)["state"]["network"]


def _values(stage: str, ranks: int) -> dict[str, Any]:
    keys = ["image"] if stage == "gynbtnet_pretrain" else ["image", "label"]
    values = json.loads(json.dumps({**TINY, **FIXED}).replace('"KEYS"', json.dumps(keys)))
    sampler = {"_target_": "torch.utils.data.SequentialSampler", "data_source": "@train#dataset"}
    values["train#sampler"] = DISTRIBUTED if ranks > 1 else sampler
    setup = ["$dist.init_process_group(backend=@backend)"] if ranks > 1 else []
    setup.append("$monai.utils.set_determinism(seed=@seed)")
    if stage == "gynbtnet_pretrain":
        values |= {"decoder_width": 32}
        setup.append(SAME_MASKS)
    else:
        values |= {"pretrained": None, "batch_size": 2 // ranks}
    # float64: the norms divide by deviations of a few voxels, which would blow rounding up
    steps = json.loads((REPO / "bundles" / stage / "configs/train.json").read_text())["deterministic_transforms"]
    values[f"deterministic_transforms#{len(steps) - 1}#dtype"] = (
        "$torch.float64" if len(keys) == 1 else ["$torch.float64", "$torch.uint8"]
    )
    values["network#module" if ranks > 1 else "network"] = "$@network_def.to(@device, torch.float64)"
    setup.append("$torch.save(@network_def.state_dict(), @output_dir + '/start.pt') if @is_main else None")
    return values | {"initialize": setup}


@pytest.mark.parametrize("stage", ["gynbtnet_pretrain", pytest.param("gynbtnet_brachytherapy", marks=pytest.mark.slow)])
def test_two_machines_equal_one_process(stage: str, data: Path, tmp_path: Path) -> None:
    """The start documented in docs/multi_node.md: one torchrun per machine, which meet at a rendezvous."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = [
        "--nnodes=2",
        "--nproc_per_node=1",
        "--rdzv_id=42",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint=127.0.0.1:{port}",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    alone = start(stage, command(stage, ["train"], data, one, _values(stage, 1)), one)
    words = command(stage, ["train", "multi_gpu_train"], data, two, _values(stage, 2))
    machines = [
        start(stage, ["torch.distributed.run", *meeting, "--local_addr=127.0.0.1", "-m", *words], two, f"log{i}")
        for i in range(2)
    ]
    finish(alone, one / "log")
    for i, machine in enumerate(machines):
        finish(machine, two / f"log{i}")
    single, pair = network_state(one), network_state(two)
    begin = torch.load(one / "start.pt", weights_only=True)
    learned = [name for name, value in begin.items() if value.is_floating_point() and "running" not in name]
    step, apart = (
        torch.cat([(a[name].double() - b[name].double()).flatten() for name in learned])
        for a, b in ((single, begin), (pair, single))
    )
    assert step.norm() > 1e-3
    # of the step, not of the weights: a rank that saw the wrong batch or statistics is apart by about 1
    assert apart.norm() / step.norm() < 1e-2
    if stage == "gynbtnet_pretrain":
        statistics = [name for name in single if "running" in name]
        assert statistics
        for name in statistics:
            torch.testing.assert_close(pair[name], single[name], rtol=1e-3, atol=1e-4)


def test_killed_training_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    stage = "gynbtnet_pretrain"
    values = {**TINY, "epochs": 3, "iterations": 2, "val_interval": 3, "fold": -1, "decoder_width": 32}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    through = start(stage, command(stage, ["train"], data, whole, values), whole)
    # it is killed with two workers that stay alive between epochs, and taken up again with one
    process = start(stage, command(stage, ["train"], data, broken, values | {"num_workers": 2}), broken)
    deadline = time.monotonic() + 300
    while not (broken / "resume.pt").is_file():
        assert process.poll() is None, (broken / "log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # somewhere in the second epoch or later
    time.sleep(float(np.random.default_rng().uniform(0, 0.5)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = torch.load(broken / "resume.pt", weights_only=True)["epoch"]
    again = start(stage, command(stage, ["train"], data, broken, values | {"num_workers": 1}), broken, "again")
    finish(again, broken / "again")
    finish(through, whole / "log")
    assert f"resumed after epoch {reached}" in (broken / "again").read_text()
    first, second = network_state(whole), network_state(broken)
    assert all(torch.equal(first[name], second[name]) for name in first)
    best = [torch.load(folder / "model.pt", weights_only=True) for folder in (whole, broken)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
