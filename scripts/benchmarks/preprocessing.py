"""`benchmark preprocessing`: this project's, nnU-Net's and MIST's preprocessing of the same volumes, in turns."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.benchmarks.measure import answer
from scripts.benchmarks.peer_preprocessing import MARK, worker_bytes
from scripts.core.datalist import Datalist
from scripts.core.files import write_text
from scripts.core.tables import text_table

PEERS = {"nnunet": "nnunetv2", "mist": "mist"}


def preprocessing(
    datalist: str,
    bundle: str = "bundles/organ_pocketnet",
    cases: int = 20,
    spacing: Sequence[float] | None = None,
    workers: int = 2,
    repeats: int = 1,
    peers_python: str | None = None,
    output: str | None = None,
) -> int:
    """Time the preprocessing of the same volumes to the same spacing, each system with as many workers and one thread.

    What is timed is the work on the cases with the start of the worker processes, after imports and after each system's
    own analysis of the data set. Memory is the largest worker's peak above its size before the first case, next to the
    largest volume (image and label in float32, on the finer of the two grids); it is left empty where the system's analysis
    of the data set had larger workers than its preprocessing.

    Args:
        datalist: labelled volumes, stored axially (nnU-Net does not reorient).
        bundle: whose deterministic transforms are run.
        cases: how many of its training cases.
        spacing: mm along x, y, z; default the median.
        workers: worker processes of each system.
        repeats: rounds; the systems take turns, the median counts.
        peers_python: interpreter that has nnunetv2 and mist-medical; default this one. A peer that is absent is left out.
        output: folder for the result as `preprocessing.json`; default none.

    Returns:
        0.

    Raises:
        CaseError: the datalist cannot be used.
    """
    path = Path(str(datalist)).resolve()
    content = Datalist.read(path, patients=None)
    chosen = [case.entry() for case in content.training if case.label][:cases]
    if not chosen:
        raise CaseError(f"datalist {path}", "it has no labelled training case", "pass another --datalist")
    sizes, target = _geometry(chosen, spacing)
    python = peers_python or sys.executable
    runners = {"this project": [sys.executable, "-m", "scripts.benchmarks.preprocessing"]}
    for peer, package in PEERS.items():
        if _has(python, package):
            runners[peer] = [python, str(Path(__file__).with_name("peer_preprocessing.py")), peer]
        else:
            print(f"{peer} is left out: {python} has no working {package}")
    spec: dict[str, Any] = {
        "cases": [{"name": f"case{i:03d}", "image": c["image"], "label": c["label"]} for i, c in enumerate(chosen)],
        "labels": {str(value): name for value, name in content.labels.items()},
        "modality": content.modality.upper(),
        "spacing": target,
        "workers": workers,
        "bundle": str(Path(bundle).resolve()),
    }
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, command in runners.items():
            measured[name].append(_measure(command, spec))
    rows = [_row(name, runs, len(chosen), max(sizes)) for name, runs in measured.items()]
    print(
        f"\n{len(chosen)} volumes to {' x '.join(f'{s:g}' for s in target)} mm, {workers} workers, {os.cpu_count()} cores; "
        f"largest volume {max(sizes) / 2**20:.0f} MiB"
    )
    print(text_table(rows))
    if output:
        write_text(Path(output) / "preprocessing.json", json.dumps({"spacing": target, "rows": rows}, indent=4) + "\n")
    return 0


def _geometry(cases: Sequence[dict[str, Any]], spacing: Sequence[float] | None) -> tuple[list[int], list[float]]:
    """Bytes of image and label in float32 on the finer grid, per case; and the target spacing."""
    import nibabel as nib

    headers: list[Any] = [nib.load(case["image"]) for case in cases]
    spacings = np.array([header.header.get_zooms()[:3] for header in headers], dtype=np.float64)
    target = np.asarray(spacing, dtype=np.float64) if spacing is not None else np.median(spacings, axis=0)
    shapes = np.array([header.shape for header in headers])
    resampled = np.round(shapes * spacings / target)
    voxels = np.maximum(shapes.prod(axis=1), resampled.prod(axis=1))
    return [int(v) * 8 for v in voxels], [round(float(v), 4) for v in target]


def _has(python: str, package: str) -> bool:
    done = subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False)
    if done.returncode == 0 and package == "nnunetv2":
        # the package's root imports nothing
        needed = "import nnunetv2.experiment_planning.plan_and_preprocess_api"
        done = subprocess.run([python, "-c", needed], capture_output=True, check=False)
    if done.returncode == 0 and package == "mist":
        done = subprocess.run([python, "-c", "import mist.preprocessing.preprocess"], capture_output=True, check=False)
    return done.returncode == 0


def _measure(command: Sequence[str], spec: dict[str, Any]) -> dict[str, Any]:
    work = Path(tempfile.mkdtemp(prefix="preprocessing_"))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        (work / "spec.json").write_text(json.dumps({**spec, "work": str(work / "work")}))
        (work / "work").mkdir()
        return answer([*command, str(work / "spec.json")], threads, MARK)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _row(name: str, runs: Sequence[dict[str, Any]], cases: int, volume: int) -> dict[str, Any]:
    good = [run for run in runs if "seconds" in run]
    if not good:
        return {"system": name, "cases": 0, "note": runs[0].get("error", "")}
    seconds = statistics.median(run["seconds"] for run in good)
    # hidden where the system's own analysis has had larger workers before
    worker = max(run["worker"] for run in good) or None
    return {
        "system": name,
        "cases": good[0]["cases"],
        "seconds": round(seconds, 2),
        "cases per s": round(cases / seconds, 3),
        "worker MiB": worker and round(worker / 2**20),
        "in volumes": worker and round(worker / volume, 2),
        "MiB written": round(good[0]["bytes"] / 2**20),
        "note": "",
    }


def ours(spec: dict[str, Any], work: Path) -> dict[str, Any]:
    """`preprocess` on the cases of a benchmark, in this process and its workers."""
    import multiprocessing

    import monai.transforms  # noqa: F401  (imports are not timed, for anybody)

    from scripts.data.preprocess.preprocess import preprocess

    entries = [
        {"case": c["name"], "patient": c["name"], **{k: c[k] for k in ("image", "label")}} for c in spec["cases"]
    ]
    (work / "datalist.json").write_text(json.dumps({"name": "b", "labels": spec["labels"], "training": entries}))
    (work / "spacing.json").write_text(json.dumps({"spacing": spec["spacing"]}))
    idle = multiprocessing.get_context("fork").Process(target=int)
    idle.start()
    idle.join()
    start, begin = worker_bytes(), time.perf_counter()
    preprocess(
        bundle=spec["bundle"],
        datalist=str(work / "datalist.json"),
        output=str(work / "out"),
        workers=spec["workers"],
        overrides=str(work / "spacing.json"),
    )
    seconds = time.perf_counter() - begin
    arrays = list((work / "out").rglob("*.npy"))
    return {
        "seconds": seconds,
        "worker": worker_bytes() - start,
        "bytes": sum(file.stat().st_size for file in arrays),
        "cases": sum(file.name == "image.npy" for file in arrays),
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    print(MARK + json.dumps(ours(given, Path(given["work"]))))
