"""`benchmark loading`: random crops per second, bytes read and time waited for, beside the peers' loaders."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.benchmarks.measure import answer
from scripts.benchmarks.peer_loading import MARK, measure
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
    bundle: str | None = None,
    workers: Sequence[int] = (1, 2, 4),
    rate: float = 20.0,
    samples: int = 200,
    output: str | None = None,
) -> int:
    """Random crops of the same volumes: `RandPatchCropd`, MONAI's PersistentDataset, and nnU-Net's loader with blosc2.

    Every loader runs in one process with one thread on the same arrays, each saved in the loader's own format;
    40 % of the crops are centred on foreground. Crops per second are with files in the system's cache; bytes per crop
    are fetched from storage with an empty cache. With a bundle, its own DataLoader, augmentation included, also feeds a
    consumer that takes `rate` samples per second, and the share of the time that it waits is measured.

    Args:
        preprocessed: folder written by `python -m scripts preprocess`.
        patch_size: voxels of a crop.
        crops: per round and loader.
        cold_crops: per round and loader, each with an empty cache.
        cases: how many of the volumes.
        repeats: rounds; the loaders take turns, the median counts.
        peers_python: interpreter that has nnunetv2 and blosc2; default this one. Absent peers are left out.
        bundle: folder of a bundle that the volumes were prepared for; default none.
        workers: numbers of the bundle's workers to compare.
        rate: samples per second of the consumer.
        samples: that the consumer takes.
        output: folder for the result as `loading.json`; default none.

    Returns:
        0.

    Raises:
        CaseError: the folder holds no preprocessed case.
    """
    path = Path(str(preprocessed)).resolve()
    folders = [file.parent for file in sorted(path.glob("*/*/meta.json"))][:cases]
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
    waits = []
    if bundle is not None:
        waits = [waiting(Path(bundle).resolve(), path, int(count), rate, samples) for count in workers]
        print(f"\nThe bundle's own loader and a consumer of {rate:g} samples per second\n{text_table(waits)}")
    if output:
        found = {"patch_size": spec["patch_size"], "rows": rows, "waiting": waits}
        write_text(Path(output) / "loading.json", json.dumps(found, indent=4) + "\n")
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
        return answer([*command, str(work / "spec.json")], {"OMP_NUM_THREADS": "1"}, MARK)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def waiting(bundle: Path, prepared: Path, workers: int, rate: float, samples: int) -> dict[str, Any]:
    """How long a consumer waits for the DataLoader that a bundle trains with.

    Args:
        bundle: its folder.
        prepared: folder of `preprocess`.
        workers: of the loader.
        rate: samples that the consumer takes per second.
        samples: how many it takes, after those of the first batch, which starts the workers.

    Returns:
        `workers`, `waiting %` of the time, and `samples per s` that arrived.
    """
    from monai.bundle import ConfigParser

    files = [str(bundle / "configs" / "train.json"), str(prepared / "prepared.json")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    # one long epoch, so that no pause between two of them is counted
    parser.update(
        {"dataset_dir": str(prepared), "num_workers": workers, "fold": -1, "train#sampler#num_samples": samples}
    )
    loader: Any = parser.get_parsed_content("train#dataloader")
    stream, taken, waited = iter(loader), 0, 0.0
    next(stream)
    begin = time.perf_counter()
    asked = begin
    for batch in stream:
        waited += time.perf_counter() - asked
        taken += len(batch["image"])
        time.sleep(len(batch["image"]) / rate)
        asked = time.perf_counter()
    seconds = asked - begin
    return {
        "workers": workers,
        "waiting %": round(100 * waited / seconds, 1),
        "samples per s": round(taken / seconds, 1),
    }


def _volumes(spec: dict[str, Any]) -> list[dict[Hashable, Any]]:
    from custom_networks.transforms.mapped import MappedVolume

    return [{key: MappedVolume(folder, key) for key in KEYS} for folder in spec["folders"]]


def mapped(spec: dict[str, Any]) -> dict[str, float]:
    """This project's reader."""
    from custom_networks import RandPatchCropd
    from custom_networks.transforms.mapped import close_mapped

    cases = _volumes(spec)
    crop = RandPatchCropd(KEYS, spec["patch_size"], "label", FOREGROUND)
    crop.set_random_state(0)
    generator = np.random.default_rng(0)
    files = [file for folder in spec["folders"] for file in Path(folder).iterdir()]
    return measure(lambda: crop(cases[generator.integers(len(cases))]), close_mapped, files, spec)


def persistent(spec: dict[str, Any]) -> dict[str, float]:
    """MONAI's PersistentDataset over the same volumes, its cache filled beforehand, then padding and crop."""
    from monai.data import PersistentDataset
    from monai.transforms import Compose, Lambdad, RandCropByPosNegLabeld, SpatialPadd

    cases = _volumes(spec)
    size, work = spec["patch_size"], Path(spec["work"])
    crop = RandCropByPosNegLabeld(KEYS, "label", size, pos=FOREGROUND, neg=1 - FOREGROUND, num_samples=1)
    whole = Lambdad(KEYS, lambda volume: volume.whole())
    transforms = Compose([whole, SpatialPadd(KEYS, size), crop]).set_random_state(0)
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
