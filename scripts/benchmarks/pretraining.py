"""`python -m scripts benchmark pretraining`: a step with a dense, a masked dense and an spconv encoder, in one run."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor

from custom_networks.errors import CaseError
from custom_networks.losses import ChunkedDiceCELoss, MaskedReconstructionLoss
from custom_networks.networks.gynbtnet import VARIANTS, GynBTNet
from custom_networks.networks.masked_autoencoder import SparseMaskedAutoencoder
from custom_networks.networks.sparse import random_cells
from scripts.benchmarks.training_step import adamw, added_peak, timed, train_step, training_flops

ARMS = ("dense", "masked_dense", "spconv")
PAPER = {"variant": "large", "size": (112, 128, 128), "batch": 8, "decoder_width": 512}
SMALL = {"variant": "base", "size": (64, 64, 64), "batch": 1, "decoder_width": 128}
CLASSES = 105


def pretraining(
    device: str = "cpu",
    variant: str | None = None,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    decoder_width: int | None = None,
    ratio: float = 0.6,
    arms: Sequence[str] = ARMS,
    finetune: bool | None = None,
    finetune_batch: int = 2,
    repeats: int = 5,
    threads: int = 1,
    compile: bool = False,
    amp: bool | None = None,
    roofline: float = 790.0,
    output: str | None = None,
) -> int:
    """Measure step time and peak memory of pretraining with each encoder, and on demand of the stage-2 step.

    All arms are the same network, weights, image and mask: forward, masked loss, backward, clipping and AdamW. The arm
    `dense` passes no mask. Arms take turns in every round; times are medians over rounds, ratios medians of each
    round's ratio. Peak memory is what a step adds to the network and its optimiser. Everything is channels-last.

    Args:
        device: `cpu` or `cuda`.
        variant: of GynBTNet; default base, on cuda large.
        size: patch D,H,W; default 64,64,64, on cuda 112,128,128.
        batch: images per step; default 1, on cuda 8.
        decoder_width: of the light decoder; default 128, on cuda 512.
        ratio: part of the cells that is masked.
        arms: which of dense, masked_dense, spconv to measure, comma-separated.
        finetune: measure the stage-2 step too (105 classes, deep supervision, Dice-CE); default on cuda only.
        finetune_batch: images per stage-2 step.
        repeats: rounds.
        threads: CPU threads.
        compile: `torch.compile` for the dense parts (decoder, dense encoder, stage-2 network).
        amp: bfloat16 autocast; default on cuda only. spconv then computes in float16.
        roofline: TFLOP/s that the device reaches at best, for the share that is printed on cuda.
        output: JSON file for every round's values.

    Returns:
        0.

    Raises:
        CaseError: an option that makes no sense, no GPU, or spconv cannot run.
    """
    preset: dict[str, Any] = PAPER if device == "cuda" else SMALL
    given = {"variant": variant, "size": size, "batch": batch, "decoder_width": decoder_width}
    chosen = {key: preset[key] if value is None else value for key, value in given.items()}
    _checked(device, chosen, arms, ratio, repeats)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    on_gpu = device == "cuda"
    autocast = _autocast(device, on_gpu if amp is None else amp)
    steps, flops = _pretraining_steps(chosen, arms, ratio, device, autocast, compile)
    if on_gpu if finetune is None else finetune:
        key = f"stage 2, batch {finetune_batch}"
        steps[key], flops[key] = _finetune_step(chosen, finetune_batch, device, autocast, compile)
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[str, float] = {}
    for name, step in steps.items():
        step()  # compilation, algorithm choice, optimiser state
        peaks[name] = added_peak(step, on_gpu)
    for _ in range(repeats):
        for name, step in steps.items():
            rounds[name].append(timed(step, on_gpu))
    _print(chosen, rounds, peaks, flops, roofline if on_gpu else None)
    if output:
        result = {"options": {**chosen, "device": device, "ratio": ratio}, "seconds": rounds, "peak_gib": peaks}
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_text(json.dumps({**result, "flops": flops}, indent=4) + "\n", encoding="utf-8")
    return 0


def _checked(device: str, chosen: dict[str, Any], arms: Sequence[str], ratio: float, repeats: int) -> None:
    def refuse(problem: str, remedy: str) -> CaseError:
        return CaseError("benchmark pretraining", problem, remedy)

    if device not in {"cpu", "cuda"}:
        raise refuse(f"device {device!r} is unknown", "choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise refuse("there is no GPU", "choose --device cpu")
    if chosen["variant"] not in VARIANTS:
        raise refuse(f"variant {chosen['variant']!r} is unknown", f"choose one of {', '.join(VARIANTS)}")
    if len(chosen["size"]) != 3 or any(n < 16 or n % 16 for n in chosen["size"]):
        raise refuse(f"size {chosen['size']} is not three multiples of 16", "write it as --size 64,64,64")
    if not arms or any(name not in ARMS for name in arms):
        raise refuse(f"arms {', '.join(arms)} are not known", f"choose from {', '.join(ARMS)}")
    if not 0 <= ratio < 1 or repeats < 1:
        raise refuse(f"ratio {ratio} or repeats {repeats} makes no sense", "choose 0 <= ratio < 1 and repeats >= 1")


def _autocast(device: str, amp: bool) -> Callable[[], Any]:
    if not amp:
        return contextlib.nullcontext
    return lambda: torch.autocast(device, dtype=torch.bfloat16)


def _pretraining_steps(
    chosen: dict[str, Any], names: Sequence[str], ratio: float, device: str, autocast: Callable[[], Any], fuse: bool
) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
    variant, width = chosen["variant"], chosen["decoder_width"]
    network = SparseMaskedAutoencoder(variant=variant, decoder_width=width, mask_ratio=ratio)
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(chosen["batch"], 1, *chosen["size"], device=device)
    grid = [n // network.encoder.cell for n in chosen["size"]]
    active = random_cells(chosen["batch"], grid, ratio).to(device)
    loss, optimizer = MaskedReconstructionLoss(), adamw(network)
    encoder: Any = torch.compile(network.encoder) if fuse else network.encoder
    if fuse:
        network.decoder.compile()

    def dense() -> Tensor:
        return loss((network.decoder(encoder(image)), active), image)

    def sparse() -> Tensor:
        return loss(network(image, active), image)

    def with_backend(name: str) -> Callable[[], None]:
        network.encoder.set_backend("spconv" if name == "spconv" else "masked_dense")
        convolve = next(iter(network.encoder.stages[0])).convolve

        def step() -> None:
            for block in (block for stage in network.encoder.stages for block in stage):
                block.convolve = convolve
            train_step(network, optimizer, dense if name == "dense" else sparse, autocast)

        return step

    one = (chosen["batch"], 1, *chosen["size"])
    with torch.device("meta"):
        blank = SparseMaskedAutoencoder(variant=variant, decoder_width=width)
        encoder_flops = training_flops(lambda: blank.encoder(torch.empty(one)))
        decoder_flops = training_flops(lambda: blank.decoder(blank.encoder(torch.empty(one)))) - encoder_flops
    share = float(active.float().mean())
    flops = {name: encoder_flops * (1.0 if name == "dense" else share) + decoder_flops for name in names}
    return {name: with_backend(name) for name in names}, flops


def _finetune_step(
    chosen: dict[str, Any], batch: int, device: str, autocast: Callable[[], Any], fuse: bool
) -> tuple[Callable[[], None], float]:
    network = GynBTNet(out_channels=CLASSES, variant=chosen["variant"])
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(batch, 1, *chosen["size"], device=device)
    label = torch.randint(0, CLASSES, (batch, 1, *chosen["size"]), device=device).to(torch.uint8)
    loss, optimizer = DeepSupervisionLoss(ChunkedDiceCELoss(chunk_voxels=2**18)), adamw(network)
    model: Any = torch.compile(network) if fuse else network
    with torch.device("meta"):
        blank = GynBTNet(out_channels=CLASSES, variant=chosen["variant"])
        flops = training_flops(lambda: blank(torch.empty(batch, 1, *chosen["size"])))
    return lambda: train_step(network, optimizer, lambda: loss(model(image), label.float()), autocast), flops


def _print(
    chosen: dict[str, Any],
    rounds: dict[str, list[float]],
    peaks: dict[str, float],
    flops: dict[str, float],
    roofline: float | None,
) -> None:
    size = " x ".join(map(str, chosen["size"]))
    print(f"GynBTNet {chosen['variant']}, batch {chosen['batch']} of {size}, decoder width {chosen['decoder_width']}")
    print(
        f"{'':<18}{'step s':>9}{'/ dense':>9}{'peak GiB':>10}{'/ dense':>9}{'TFLOP':>9}"
        + (f"{'roofline':>10}" if roofline else "")
    )
    for name, seconds in rounds.items():
        row = f"{name:<18}{statistics.median(seconds):>9.3f}"
        compared = "dense" in rounds and name in ARMS
        times = statistics.median([a / b for a, b in zip(seconds, rounds["dense"], strict=True)]) if compared else None
        row += f"{times:>9.2f}" if times is not None else f"{'':>9}"
        row += f"{peaks[name]:>10.2f}" + (f"{peaks[name] / peaks['dense']:>9.2f}" if compared else f"{'':>9}")
        row += f"{flops[name] / 1e12:>9.3g}"
        row += f"{flops[name] / 1e12 / roofline / statistics.median(seconds):>10.0%}" if roofline else ""
        print(row)
