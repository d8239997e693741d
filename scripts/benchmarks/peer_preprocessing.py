"""One peer's preprocessing, measured in its own interpreter: `PYTHON peer_preprocessing.py nnunet|mist SPEC`.

Run as a file, because the peer's environment need not have this project. SPEC is JSON: `cases` (name, image, label),
`labels`, `modality`, `spacing` along x, y, z, `workers`, and `work`, an empty folder. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

MARK = "measured: "


def idle(module: str) -> None:
    """What a worker costs before it has seen a case."""
    importlib.import_module(module)


def worker_bytes() -> int:
    """Peak resident size of the largest finished child process."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def baseline(method: str, module: str) -> int:
    """Resident size of a worker that has the imports and nothing else."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=idle, args=(module,))
    process.start()
    process.join()
    return worker_bytes()


def nnunet(spec: dict[str, Any], work: Path) -> dict[str, Any]:
    """nnU-Net's `preprocess_dataset` for 3d_fullres at the given spacing, planned by itself otherwise."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ.update({"nnUNet_def_n_proc": str(spec["workers"])})
    api = importlib.import_module("nnunetv2.experiment_planning.plan_and_preprocess_api")
    folder = work / "raw" / "Dataset900_benchmark"
    folder.mkdir()
    content = {
        "channel_names": {"0": "CT" if spec["modality"] == "CT" else "MRI"},
        "labels": {name: int(value) for value, name in spec["labels"].items()},
        "numTraining": len(spec["cases"]),
        "file_ending": ".nii.gz",
        "dataset": {case["name"]: {"images": [case["image"]], "label": case["label"]} for case in spec["cases"]},
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    api.extract_fingerprints([900], num_processes=spec["workers"], show_progress_bar=False, verbose=False)
    # nnU-Net counts axes the other way round
    api.plan_experiments([900], overwrite_target_spacing=tuple(reversed(spec["spacing"])))
    plans = next((work / "preprocessed" / "Dataset900_benchmark").glob("*Plans*.json")).stem
    start = baseline("spawn", "nnunetv2.preprocessing.preprocessors.default_preprocessor")
    begin = time.perf_counter()
    api.preprocess_dataset(900, plans, ("3d_fullres",), (spec["workers"],), show_progress_bar=False)
    return {"seconds": time.perf_counter() - begin, "worker": worker_bytes() - start}


def mist(spec: dict[str, Any], work: Path) -> dict[str, Any]:
    """MIST's `preprocess_dataset` at the given spacing, analysed by itself otherwise."""
    for case in spec["cases"]:
        folder = work / "train" / case["name"]
        folder.mkdir(parents=True)
        (folder / "image.nii.gz").symlink_to(case["image"])
        (folder / "mask.nii.gz").symlink_to(case["label"])
    values = sorted(int(value) for value in spec["labels"])
    content = {
        "task": "benchmark",
        "modality": "ct" if spec["modality"] == "CT" else "mr",
        "train-data": "train",
        "mask": ["mask.nii.gz"],
        "images": {"image": ["image.nii.gz"]},
        "labels": values,
        "final_classes": {spec["labels"][str(value)]: [value] for value in values if value},
    }
    (work / "dataset.json").write_text(json.dumps(content))
    entry = importlib.import_module("mist.cli.analyze_entrypoint")
    results = work / "results"
    entry.analyze_entry(["--data", str(work / "dataset.json"), "--results", str(results)])
    config = json.loads((results / "config.json").read_text())
    config["spatial_config"]["target_spacing"] = spec["spacing"]
    (results / "config.json").write_text(json.dumps(config))
    preprocess = importlib.import_module("mist.preprocessing.preprocess")
    arguments = argparse.Namespace(
        results=str(results),
        numpy=str(work / "numpy"),
        compute_dtms=False,
        no_preprocess=False,
        num_workers_preprocess=spec["workers"],
    )
    start = baseline("fork", "mist.preprocessing.preprocess")
    begin = time.perf_counter()
    preprocess.preprocess_dataset(arguments)
    return {"seconds": time.perf_counter() - begin, "worker": worker_bytes() - start}


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    found = {"nnunet": nnunet, "mist": mist}[sys.argv[1]](given, Path(given["work"]))
    written = [file for file in Path(given["work"]).rglob("*") if file.is_file() and file.suffix in {".b2nd", ".npy"}]
    found["bytes"] = sum(file.stat().st_size for file in written)
    found["cases"] = len([file for file in written if "_seg" not in file.stem and file.parent.name != "labels"])
    print(MARK + json.dumps(found))
