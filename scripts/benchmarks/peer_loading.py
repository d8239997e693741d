"""Crops by nnU-Net's own loader, measured in its own interpreter: `PYTHON peer_loading.py SPEC`.

Run as a file, because nnU-Net's environment need not have this project. Also holds what every loader of the benchmark
is measured with, so that all are measured alike.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

MARK = "measured: "


def forget(files: Sequence[Path]) -> None:
    """Drop files from the operating system's cache, as far as nobody has them mapped."""
    gc.collect()
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def bytes_read() -> int:
    """Bytes that this process has fetched from storage so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes"):
            return int(line.split()[1])
    return 0


def measure(
    crop: Callable[[], Any], release: Callable[[], Any], files: Sequence[Path], spec: dict[str, Any]
) -> dict[str, float]:
    """Time crops with warm files, then count what cold ones fetch.

    Args:
        crop: makes one crop of a random case.
        release: closes what the loader keeps open, so that the cache can be dropped.
        files: all files the loader reads.
        spec: `crops` and `cold_crops`.

    Returns:
        `crops_per_second`, `bytes_per_crop` from storage, and `disk_bytes` of all files.
    """
    for _ in range(min(20, spec["crops"])):
        crop()
    begin = time.perf_counter()
    for _ in range(spec["crops"]):
        crop()
    seconds = time.perf_counter() - begin
    fetched = 0
    for _ in range(spec["cold_crops"]):
        release()
        forget(files)
        before = bytes_read()
        crop()
        fetched += bytes_read() - before
    return {
        "crops_per_second": spec["crops"] / seconds,
        "bytes_per_crop": fetched / max(1, spec["cold_crops"]),
        "disk_bytes": sum(file.stat().st_size for file in files),
    }


def nnunet(spec: dict[str, Any]) -> dict[str, float]:
    """The same arrays saved as nnU-Net saves them, and cropped by its loader; a third of the crops on foreground."""
    work = Path(spec["work"])
    for name in ("raw", "preprocessed", "results"):
        os.environ.setdefault(f"nnUNet_{name}", str(work))
    data_module = importlib.import_module("nnunetv2.training.dataloading.nnunet_dataset")
    loader_module = importlib.import_module("nnunetv2.training.dataloading.data_loader")
    patch = tuple(spec["patch_size"])
    for i, folder in enumerate(map(Path, spec["folders"])):
        image, label = (np.load(folder / f"{key}.npy") for key in ("image", "label"))
        stored = json.loads((folder / "meta.json").read_text())["keys"]["image"]
        image = image.astype(np.float32) * np.float32(stored.get("scale", 1)) + np.float32(stored.get("offset", 0))
        label = label.astype(np.int16)
        locations = {
            int(value): np.argwhere(label == value)[:: max(1, int((label == value).sum()) // 10_000)]
            for value in np.unique(label)
            if value
        }
        sizes = [data_module.comp_blosc2_params(a.shape, patch, a.itemsize) for a in (image, label)]
        data_module.nnUNetDatasetBlosc2.save_case(
            image,
            label,
            {"class_locations": locations},
            str(work / f"case{i:03d}"),
            chunks=sizes[0][1],
            blocks=sizes[0][0],
            chunks_seg=sizes[1][1],
            blocks_seg=sizes[1][0],
        )
    labels = SimpleNamespace(all_labels=[1], has_ignore_label=False)
    loader = loader_module.nnUNetDataLoader(
        data_module.nnUNetDatasetBlosc2(str(work)),
        1,
        patch,
        patch,
        labels,
        oversample_foreground_percent=spec["foreground"],
        probabilistic_oversampling=True,
    )
    files = sorted(work.glob("case*"))
    return measure(loader.generate_train_batch, gc.collect, files, spec)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(MARK + json.dumps(nnunet(json.loads(Path(sys.argv[1]).read_text()))))
