"""`benchmark loading`: random crops per second and bytes read, from memory-mapped arrays and by the peers' loaders."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.benchmarks.peer_loading import MARK, measure
from scripts.core.datalist import Datalist
from scripts.core.files import write_text
from scripts.core.tables import text_table

FOREGROUND = 0.4
KEYS = ["image", "label"]


def loading(
    preprocessed: str,
    patch_size: Sequence[int] = (128, 128, 32),
    crops: int = 200,
    cold_crops: int = 10,
    cases: int = 20,
    repeats: int = 3,
    peers_python: str | None = None,
    output: str | None = None,
) -> int:
    """Random crops of the same volumes: `LoadMappedCropd`, MONAI's PersistentDataset, and nnU-Net's loader with blosc2.

    Every loader runs in one process with one thread on the same arrays, each saved in the loader's own format;
    40 % of the crops are centred on foreground. Crops per second are with files in the system's cache; bytes per crop
    are fetched from storage with an empty cache.

    Args:
        preprocessed: folder written by `python -m scripts preprocess`.
        patch_size: voxels of a crop.
        crops: per round and loader.
        cold_crops: per round and loader, each with an empty cache.
        cases: how many of the volumes.
        repeats: rounds; the loaders take turns, the median counts.
        peers_python: interpreter that has nnunetv2 and blosc2; default this one. Absent peers are left out.
        output: folder for the result as `loading.json`; default none.

    Returns:
        0.

    Raises:
        CaseError: the folder holds no preprocessed case.
    """
    path = Path(str(preprocessed)).resolve()
    content = Datalist.read(path / "datalist.json", patients=None)
    folders = [Path(case.image).parent for case in content.training if case.image.endswith(".npy")][:cases]
    if not folders or not (folders[0] / "label.npy").is_file():
        raise CaseError(
            f"folder {path}", "it holds no labelled preprocessed case", "write it with `python -m scripts preprocess`"
        )
    python = peers_python or sys.executable
    ours = [sys.executable, "-m", "scripts.benchmarks.loading"]
    runners = {"mapped arrays": [*ours, "mapped"], "PersistentDataset": [*ours, "persistent"]}
    needed = "import blosc2, nnunetv2.training.dataloading.data_loader"
    if subprocess.run([python, "-c", needed], capture_output=True, check=False).returncode == 0:
        runners["nnU-Net, blosc2"] = [python, str(Path(__file__).with_name("peer_loading.py"))]
    else:
        print(f"nnU-Net is left out: {python} has no working nnunetv2 with blosc2")
    spec: dict[str, Any] = {
        "folders": [str(folder) for folder in folders],
        "patch_size": [int(v) for v in patch_size],
        "crops": crops,
        "cold_crops": cold_crops,
        "foreground": FOREGROUND,
    }
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, command in runners.items():
            measured[name].append(_run(command, spec))
    shapes = np.array([np.load(folder / "image.npy", mmap_mode="r").shape[1:] for folder in folders])
    rows = _rows(measured)
    print(
        f"\n{len(folders)} volumes, median {' x '.join(f'{v:g}' for v in np.median(shapes, axis=0))}; crops "
        f"{' x '.join(map(str, spec['patch_size']))}, {8 * int(np.prod(spec['patch_size'])) / 2**20:.1f} MiB as float32 pair"
    )
    print(text_table(rows))
    if output:
        write_text(
            Path(output) / "loading.json", json.dumps({"patch_size": spec["patch_size"], "rows": rows}, indent=4) + "\n"
        )
    return 0


def _rows(measured: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, runs in measured.items():
        good = [run for run in runs if "crops_per_second" in run]
        if not good:
            rows.append({"loader": name, "note": runs[0].get("error", "")})
            continue
        speed = statistics.median(run["crops_per_second"] for run in good)
        fetched = statistics.median(run["bytes_per_crop"] for run in good)
        rows.append(
            {
                "loader": name,
                "crops per s": round(speed, 1),
                "relative": round(speed / rows[0]["crops per s"], 3) if rows else 1.0,
                "MiB read per crop": round(fetched / 2**20, 2),
                "MiB on disk": round(good[0]["disk_bytes"] / 2**20),
                "note": "",
            }
        )
    return rows


def _run(command: Sequence[str], spec: dict[str, Any]) -> dict[str, Any]:
    work = Path(tempfile.mkdtemp(prefix="loading_", dir=Path(spec["folders"][0]).parents[1]))
    try:
        (work / "files").mkdir()
        (work / "spec.json").write_text(json.dumps({**spec, "work": str(work / "files")}))
        done = subprocess.run(
            [*command, str(work / "spec.json")],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            if line.startswith(MARK):
                return dict(json.loads(line[len(MARK) :]))
        return {"error": (done.stderr.strip() or "no output").splitlines()[-1][:200]}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def mapped(spec: dict[str, Any]) -> dict[str, float]:
    """This project's reader."""
    from custom_networks import LoadMappedCropd
    from custom_networks.transforms.mapped import close_mapped

    cases: list[dict[Hashable, str]] = [{key: f"{folder}/{key}.npy" for key in KEYS} for folder in spec["folders"]]
    reader = LoadMappedCropd(KEYS, spec["patch_size"], "label", FOREGROUND, 1 - FOREGROUND)
    reader.set_random_state(0)
    generator = np.random.default_rng(0)
    files = [file for folder in spec["folders"] for file in Path(folder).iterdir()]
    return measure(lambda: reader(cases[generator.integers(len(cases))]), close_mapped, files, spec)


def persistent(spec: dict[str, Any]) -> dict[str, float]:
    """MONAI's PersistentDataset over the same volumes, its cache filled beforehand, then padding and crop."""
    from monai.data import PersistentDataset
    from monai.transforms import Compose, RandCropByPosNegLabeld, SpatialPadd

    from custom_networks import LoadMappedd

    cases: list[dict[Hashable, str]] = [{key: f"{folder}/{key}.npy" for key in KEYS} for folder in spec["folders"]]
    size, work = spec["patch_size"], Path(spec["work"])
    crop = RandCropByPosNegLabeld(KEYS, "label", size, pos=FOREGROUND, neg=1 - FOREGROUND, num_samples=1)
    transforms = Compose([LoadMappedd(KEYS), SpatialPadd(KEYS, size), crop]).set_random_state(0)
    dataset: Any = PersistentDataset(cases, transforms, cache_dir=work)
    for i in range(len(cases)):
        dataset[i]
    generator = np.random.default_rng(0)
    return measure(lambda: dataset[int(generator.integers(len(cases)))], lambda: None, sorted(work.iterdir()), spec)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    given = json.loads(Path(sys.argv[2]).read_text())
    print(MARK + json.dumps({"mapped": mapped, "persistent": persistent}[sys.argv[1]](given)))
