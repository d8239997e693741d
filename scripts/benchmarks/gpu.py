"""`python -m scripts benchmark gpu`: one command for a user with a GPU, whose table is worth sending."""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from custom_networks.engines import MixedPrecisionTrainer, TrainingEvents
from custom_networks.errors import CaseError
from custom_networks.handlers.training import ClipGradient
from scripts.benchmarks.training_step import added_peak, timed, training_flops
from scripts.core.files import write_text
from scripts.data.plan.memory import Made, Step
from scripts.data.plan.plan import read_train_config

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = ("organ_pocketnet", "tumor_pocketnet", "gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")
# for the logic on a CPU; on a GPU every bundle has its own size. Not 32 voxels: see docs/reliability.md
SMALL = {"patch_size": [48, 48, 16], "features": 4, "variant": "tiny", "decoder_width": 16, "num_classes": 6}
HALF = ("bfloat16", "float16")


def gpu(
    device: str = "cuda",
    only: Sequence[str] = NAMES,
    repeats: int = 10,
    roofline: float = 790.0,
    spconv: bool = True,
    output: str = "gpu.json",
) -> int:
    """Measure every bundle's training step at the paper's size on this machine's GPUs.

    Per bundle: seconds of a step in bf16, its share of the roofline, and peak of allocated memory against the prediction
    of `fits`; and the gradient's length that clipping sees in bf16 and in fp16 under its loss scale, against fp32. Then
    sparse against masked dense convolutions, and a sum over all GPUs. Waiting for data is `benchmark loading`'s, which
    needs data.

    Args:
        device: `cuda`; `cpu` runs the same at a small size, to try the command.
        only: bundles, comma-separated.
        repeats: steps timed per bundle.
        roofline: TFLOP/s in bf16 that the GPU reaches at best.
        spconv: compare the encoder's backends.
        output: JSON file for all figures.

    Returns:
        0.

    Raises:
        CaseError: no GPU, or an unknown device or bundle.
    """
    unknown = [name for name in only if name not in NAMES]
    if device not in {"cpu", "cuda"} or unknown:
        wrong = f"bundle {unknown[0]!r}" if unknown else f"device {device!r}"
        raise CaseError("benchmark gpu", f"{wrong} is unknown", f"choose cpu or cuda, and of {', '.join(NAMES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise CaseError("benchmark gpu", "there is no GPU", "choose --device cpu to try the command")
    result: dict[str, Any] = {"machine": machine(device), "bundles": {}}
    for name in tqdm(only, desc="bundles", leave=False):
        try:
            result["bundles"][name] = measure(name, device, repeats, roofline)
        except torch.cuda.OutOfMemoryError as error:
            result["bundles"][name] = {"error": str(error).splitlines()[0]}
    result["ranks"] = sum_over_ranks(device)
    write_text(output, json.dumps(result, indent=4) + "\n")
    print(table(result))
    if spconv and device == "cuda":
        from scripts.benchmarks.pretraining import pretraining

        pretraining(device=device, arms=("masked_dense", "spconv"), finetune=False, output=f"{output}.pretraining.json")
    print(f"written: {output}")
    return 0


def machine(device: str) -> dict[str, Any]:
    """What a reader of the figures needs to know."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "device": device}
    if device == "cuda":
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / 2**30
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def step_of(name: str, device: str) -> tuple[Step, int]:
    """A bundle's training step and its batch on one device."""
    config = read_train_config(BUNDLES / name)
    if device == "cpu":
        config |= {key: value for key, value in SMALL.items() if key in config}
        return Step(config), 1
    memory = float(torch.cuda.get_device_properties(0).total_memory)
    # pretraining's batch is that of all GPUs
    return Step(config, memory=memory), min(int(config["batch_size"]), int(config.get("max_batch_per_gpu", 10**6)))


def measure(name: str, device: str, repeats: int, roofline: float) -> dict[str, Any]:
    """Figures of one bundle."""
    step, batch = step_of(name, device)
    on_gpu = device == "cuda"
    made = on_device(step.make(batch), device)

    def train() -> None:
        one_step(made, device)

    train()  # algorithms, optimizer state
    # what is held before a step is in the prediction too
    held = torch.cuda.memory_allocated() if on_gpu else _bytes(made)
    peak = held + added_peak(train, on_gpu) * 2**30
    seconds = [timed(train, on_gpu) for _ in range(repeats)]
    made.network.train()
    flops = training_flops(lambda: made.network(made.image))
    median = statistics.median(seconds)
    return {
        "batch": batch,
        "patch": step.patch,
        "seconds": seconds,
        "tflop": flops / 1e12,
        "roofline": flops / 1e12 / median / roofline,
        "peak_gib": peak / 2**30,
        "predicted_gib": step.training_peak(batch) / 2**30,
        "gradient_norm": gradient_norms(step, device),
    }


def gradient_norms(step: Step, device: str) -> dict[str, float]:
    """Length of the first step's gradient over one patch as clipping sees it, by precision.

    Args:
        step: of a bundle.
        device: `cpu` or `cuda`.
    """
    found: dict[str, float] = {}
    for name in ("float32", *HALF):
        torch.manual_seed(0)
        made = on_device(step.make(1), device)
        # steps that overflow in float16 are passed over until the scale has fallen
        trainer = MixedPrecisionTrainer(
            device=device,
            max_epochs=16,
            train_data_loader=[{"image": made.image, "label": made.target}],
            network=made.network,
            loss_function=made.loss,
            optimizer=made.optimizer,
            train_handlers=[ClipGradient(12.0)],
            amp=name != "float32",
            amp_dtype=getattr(torch, name) if name != "float32" else torch.bfloat16,
        )
        trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, _end_if_finite)
        trainer.run()
        found[name] = float(trainer.state.gradient_norm)
    return found


def _end_if_finite(engine: Any) -> None:
    if bool(engine.state.gradient_norm.isfinite()):
        engine.terminate()


def on_device(made: Made, device: str) -> Made:
    """Move everything; parameters stay the optimizer's."""
    made.network.to(device)
    made.image.uniform_()
    return made._replace(image=made.image.to(device), target=made.target.to(device))


def _bytes(made: Made) -> int:
    moments = (v for state in made.optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor))
    tensors = [*made.network.parameters(), *moments, made.image, made.target]
    return sum(t.nbytes for t in tensors)


def one_step(made: Made, device: str) -> None:
    """A training step in bf16."""
    made.network.train()
    with torch.autocast(device, dtype=torch.bfloat16):
        value = made.loss(made.network(made.image), made.target)
    value.backward()
    nn.utils.clip_grad_norm_(made.network.parameters(), 12.0)
    made.optimizer.step()
    made.optimizer.zero_grad(set_to_none=True)


def sum_over_ranks(device: str) -> dict[str, Any]:
    """Whether every GPU's number arrives at every GPU (NCCL; on a CPU two ranks of gloo)."""
    ranks = torch.cuda.device_count() if device == "cuda" else 2
    if ranks < 2:
        return {"ranks": ranks, "backend": "none", "right": True}
    backend = "nccl" if device == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (ranks, backend, folder), nprocs=ranks)
        sums = [float((Path(folder) / f"{rank}.txt").read_text(encoding="ascii")) for rank in range(ranks)]
    return {"ranks": ranks, "backend": backend, "right": sums == [ranks * (ranks + 1) / 2] * ranks}


def _rank(rank: int, ranks: int, backend: str, folder: str) -> None:
    dist.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    value = torch.full((2**20,), float(rank + 1), device=f"cuda:{rank}" if backend == "nccl" else "cpu")
    dist.all_reduce(value)
    (Path(folder) / f"{rank}.txt").write_text(str(float(value.mean())), encoding="ascii")
    dist.destroy_process_group()


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| bundle | batch | patch | step (s) | TFLOP | of roofline | peak GiB | predicted | gradient in bf16, fp16 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["bundles"].items():
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | | | | | | |")
            continue
        cells = [
            name,
            str(row["batch"]),
            " x ".join(map(str, row["patch"])),
            f"{statistics.median(row['seconds']):.3f}",
            f"{row['tflop']:.3g}",
            f"{row['roofline']:.0%}",
            f"{row['peak_gib']:.2f}",
            f"{row['predicted_gib']:.2f}",
            ", ".join(f"{row['gradient_norm'][name] / row['gradient_norm']['float32']:.3f}" for name in HALF),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    ranks = result["ranks"]
    lines += [
        "",
        "gradient: its length as clipping sees it, over that in fp32 (1 is right, a loss scale would be 65536)",
    ]
    lines += ["", f"sum over {ranks['ranks']} ranks ({ranks['backend']}): {'right' if ranks['right'] else 'WRONG'}"]
    return "\n".join([json.dumps(result["machine"]), "", *lines])
