"""`benchmark memory`: what `fits` predicts beside what torch allocates and what the process holds, on this machine's CPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from custom_networks.errors import CaseError
from scripts.benchmarks.measure import MARK, answer
from scripts.benchmarks.training_step import added_peak
from scripts.core.files import write_text
from scripts.core.tables import text_table
from scripts.data.plan.memory import Step
from scripts.data.plan.plan import read_train_config

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
# large enough that activations outweigh parameters, as they do at full size
SIZES: dict[str, dict[str, Any]] = {
    "organ_pocketnet": {"patch_size": [128, 128, 32]},
    "gynbtnet_finetune": {"patch_size": [64, 64, 64], "variant": "small"},
    "gynbtnet_pretrain": {"patch_size": [96, 96, 64], "variant": "small"},
}
WORK = ("training", "inference")


def memory(batch: int = 2, threads: int = 2, small: bool = False, output: str | None = None) -> int:
    """Peak memory of a training step and of inference in float32, three times: predicted, allocated and resident.

    Predicted is what `fits` says of live tensors, allocated what torch's profiler records of the same work, and resident
    what the process grows by, each in a process of its own. The difference of the last two is what the kernels' work
    space and the allocator take beside the tensors.

    Args:
        batch: patches at once.
        threads: of torch. One alone copies the input of convolutions of one voxel, which no GPU does.
        small: a size for which a minute is enough.
        output: folder for the result as `memory.json`; default none.

    Returns:
        0.

    Raises:
        CaseError: a measuring process failed.
    """
    specs = [
        {"bundle": bundle, "work": work, "batch": batch, "threads": threads, "small": small}
        for bundle in SIZES
        for work in WORK
    ]
    rows = []
    for spec in tqdm(specs, desc="memory", leave=False):
        step = step_of(str(spec["bundle"]), small)
        predicted = step.training_peak(batch) if spec["work"] == "training" else step.inference_peak(batch)
        measured = _in_a_process(spec)
        allocated, resident = measured["allocated"], measured["resident"]
        rows.append(
            {
                "bundle": spec["bundle"],
                "patch": " x ".join(map(str, step.patch)),
                "work": spec["work"],
                "predicted MiB": round(predicted / 2**20),
                "allocated MiB": round(allocated / 2**20),
                "predicted / allocated": round(predicted / allocated, 3),
                "resident MiB": round(resident / 2**20),
                "resident - allocated MiB": round((resident - allocated) / 2**20),
            }
        )
    print(text_table(rows))
    if output:
        write_text(Path(output) / "memory.json", json.dumps({"batch": batch, "rows": rows}, indent=4) + "\n")
    return 0


def step_of(bundle: str, small: bool = False) -> Step:
    """A bundle's training step in float32, at a size for a CPU."""
    size = SIZES[bundle] | ({"patch_size": [32, 32, 32], "features": 8, "num_classes": 6} if small else {})
    config = read_train_config(BUNDLES / bundle)
    return Step(config | {key: value for key, value in size.items() if key in config}, precision="fp32")


def recorded_peak(step: Step, batch: int, work: Callable[..., None]) -> int:
    """Highest sum of bytes that torch allocated and had not yet freed; everything is made inside."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        made = step.make(batch)
        work(made)
    live = peak = 0
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def resident_peak(step: Step, batch: int, work: Callable[..., None]) -> int:
    """Bytes that this process grows by at its highest; everything is made inside."""
    # libraries that the first convolution loads are not the step's
    torch.nn.functional.conv3d(torch.zeros(1, 8, 8, 8, 8), torch.zeros(8, 8, 3, 3, 3))
    return round(2**30 * added_peak(lambda: work(step.make(batch)), on_gpu=False))


def _in_a_process(spec: dict[str, Any]) -> dict[str, int]:
    threads = str(spec["threads"])
    found = answer(
        [sys.executable, "-W", "ignore", "-m", "scripts.benchmarks.memory", json.dumps(spec)],
        {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
    if "error" in found:
        raise CaseError(f"benchmark memory, {spec['bundle']}", found["error"], "free memory, or pass --small True")
    return found


def main() -> None:
    """Measure one kind of work in this process and print it."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(int(spec["threads"]))
    torch.manual_seed(0)
    step = step_of(spec["bundle"], spec["small"])
    work = step.train if spec["work"] == "training" else step.predict
    # the profiler's own memory would count as resident
    resident = resident_peak(step, int(spec["batch"]), work)
    print(MARK + json.dumps({"allocated": recorded_peak(step, int(spec["batch"]), work), "resident": resident}))


if __name__ == "__main__":
    main()
