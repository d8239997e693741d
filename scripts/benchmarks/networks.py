"""`python -m scripts benchmark networks`: PocketNet beside the networks one would use instead, in one run."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_networks.errors import CaseError
from scripts.benchmarks.measure import Worker
from scripts.benchmarks.peers import NETWORKS

TIMED = ("forward", "forward_bf16", "step")
COLUMNS = (*TIMED, *(f"{kind}_cpu" for kind in TIMED))

# (what, network, timed or peak, against, against's column, at most)
TARGETS = (
    ("training step", "pocket_anisotropic", "step", "mist", "step", 0.6),
    ("peak memory", "pocket_anisotropic", "bytes", "mist", "bytes", 0.85),
    ("training step", "pocket_anisotropic", "step", "plainconv", "step", 0.3),
    ("training step", "pocket", "step", "mist", "step", 0.8),
    ("training step", "pocket", "step", "doubling", "step", 0.75),
    ("forward, bf16 against fp32", "pocket_anisotropic", "forward_bf16", "mist", "forward", 0.35),
)


def networks(
    device: str = "cpu",
    threads: int = 2,
    size: Sequence[int] = (128, 128, 32),
    repeats: int = 3,
    only: Sequence[str] | None = None,
    channels_last: bool = False,
    output: str | None = None,
) -> int:
    """Measure parameters, FLOPs, forward and training-step time, and peak memory.

    One image (1, 1, H, W, D), two classes, fp32 training with Adam and Dice plus cross-entropy on the full-resolution
    output, deep supervision off everywhere. Each network runs in its own process; the rounds take turns; times are medians
    over rounds and ratios medians of each round's ratio, of elapsed time and of CPU time (which other programs on the
    machine disturb less). Peak memory is the process's high-water mark over training steps
    less its size before the network was built (allocated memory on a GPU). FLOPs count multiplications and additions of
    one forward pass.

    Args:
        device: `cpu` or `cuda`.
        threads: CPU threads per process.
        size: of the image, H,W,D.
        repeats: rounds.
        only: keys of the networks to measure (comma-separated), for a quick look.
        channels_last: hands the peers channels-last weights and images too; PocketNet always uses its own layout.
        output: folder for networks.csv (every round's values).

    Returns:
        0.

    Raises:
        CaseError: an option that makes no sense.
    """
    shape = _size(size)
    chosen = list(NETWORKS) if only is None else _names(only)
    if repeats < 1 or threads < 1:
        raise CaseError(
            "benchmark", f"repeats {repeats} and threads {threads} must be at least 1", "correct the option"
        )
    rows: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in chosen:
            spec = {
                "network": name,
                "size": shape,
                "threads": threads,
                "device": device,
                "channels_last": channels_last and NETWORKS[name].needs != "custom_networks",
            }
            workers[name] = stack.enter_context(Worker(spec))
        for name in tqdm(chosen, desc="prepare", unit="network"):
            rows[name] = workers[name].ask("prepare")
        alive = [name for name in chosen if "parameters" in rows[name]]
        load = os.getloadavg()[0]
        for name in alive:
            for kind in TIMED:
                # not counted: the first call of a kind chooses kernels (`prepare` made a step); bf16 may be missing
                able = kind == "step" or "seconds" in workers[name].ask(kind)
                rows[name] |= {kind: [] if able else None, f"{kind}_cpu": [] if able else None}
        for _ in tqdm(range(repeats), desc="measure", unit="round"):
            for kind in TIMED:
                for name in (name for name in alive if rows[name][kind] is not None):
                    answer = workers[name].ask(kind)
                    rows[name][kind].append(answer.get("seconds"))
                    rows[name][f"{kind}_cpu"].append(answer.get("cpu"))
        for name in alive:
            rows[name] |= workers[name].ask("memory")
    _print(rows, shape, device, threads, load)
    if output is not None:
        _write(rows, Path(output))
    return 0


def _size(size: Sequence[int]) -> list[int]:
    if len(size) != 3 or min(size) < 16:
        raise CaseError("benchmark", f"size {size} is not three numbers of at least 16", "write --size 128,128,32")
    return list(size)


def _names(only: Sequence[str]) -> list[str]:
    unknown = [n for n in only if n not in NETWORKS]
    if unknown:
        raise CaseError("benchmark", f"{unknown[0]!r} is no network", f"choose among {', '.join(NETWORKS)}")
    return list(only)


def _median(row: dict[str, Any], key: str) -> float | None:
    values = row.get(key)
    if isinstance(values, list):
        return statistics.median(values) if values and None not in values else None
    return float(values) if values is not None else None


def ratio(rows: dict[str, dict[str, Any]], name: str, key: str, other: str, other_key: str) -> float | None:
    """Median of each round's ratio, because both networks of a round met the same load; None if one was not measured."""
    a, b = rows.get(name, {}).get(key), rows.get(other, {}).get(other_key)
    if not a or not b:
        return None
    if isinstance(a, list):
        return statistics.median(x / y for x, y in zip(a, b, strict=True)) if None not in a + b else None
    return float(a) / float(b)


def _print(rows: dict[str, dict[str, Any]], shape: list[int], device: str, threads: int, load: float) -> None:
    heading = ["network", "parameters", "GFLOPs", "forward (s)", "bf16 (s)", "step (s)", "peak (MB)"]
    lines = [heading]
    for name, row in rows.items():
        if "parameters" not in row:
            what = "not installed" if "missing" in row else f"failed: {row.get('error')}"
            lines.append([NETWORKS[name].title, what, *[""] * 5])
            continue
        cells = [f"{row['parameters']:,}", f"{row['flops'] / 1e9:.1f}" if "flops" in row else "-"]
        digits = 4 if device.startswith("cuda") else 2
        for kind in TIMED:
            median = _median(row, kind)
            cells.append("-" if median is None else f"{median:.{digits}f}")
        lines.append([NETWORKS[name].title, *cells, f"{row['bytes'] / 1e6:.0f}" if "bytes" in row else "-"])
    widths = [max(len(line[i]) for line in lines if i == 0 or len(line[1]) < 16 or i > 1) for i in range(len(heading))]
    where = device if device.startswith("cuda") else f"CPU, {threads} threads"
    print(f"\n1 x 1 x {' x '.join(map(str, shape))}, {where}; machine load before the rounds {load:.1f}\n")
    for i, line in enumerate(lines):
        print(
            "  ".join(
                [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
            ).rstrip()
        )
        if i == 0:
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))
    print(f"\n{'ratio':<74}elapsed   CPU  at most")
    for what, name, key, other, other_key, most in TARGETS:
        value, spent = (
            ratio(rows, name, key, other, other_key),
            ratio(rows, name, f"{key}_cpu", other, f"{other_key}_cpu"),
        )
        text = f"{what}: {NETWORKS[name].title} / {NETWORKS[other].title}"
        shown = "-" if spent is None or device != "cpu" else f"{spent:.2f}"
        print(f"{text:<74}" + ("not measured" if value is None else f"{value:7.2f}  {shown:>4}  {most:7.2f}"))


def _write(rows: dict[str, dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "networks.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["network", "round", "parameters", "flops", "peak_bytes", *(f"{kind}_s" for kind in COLUMNS)])
        for name, row in rows.items():
            rounds = max((len(row[k]) for k in TIMED if row.get(k)), default=0)
            for i in range(rounds):
                values = [row[k][i] if row.get(k) else "" for k in COLUMNS]
                writer.writerow([name, i, row["parameters"], row.get("flops"), row.get("bytes"), *values])
