"""`make demo`: the two-stage path on a synthetic cohort, on a laptop, in minutes."""

from __future__ import annotations

import time
from pathlib import Path

from scripts.data.phantom.phantom import phantom
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.training.bundle_run import run_bundle

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
TRAIN = ["configs/train.json", "configs/small.json"]


def demo(output: str = "demo", cases: int = 64, test: int = 6, seed: int = 0, epochs: int | None = None) -> int:
    """Make a phantom cohort, train both stages small, segment held-out patients from the image alone, and evaluate.

    The networks and the resolution are small (configs/small.json) and the images synthetic: this shows that the path
    works, not how well the method does on patients.

    Args:
        output: folder for everything that is made.
        cases: images of the cohort, the held-out ones included.
        test: images of held-out patients.
        seed: of the cohort and of the training.
        epochs: of each stage; default that of small.json.

    Returns:
        0, or 1 if a prediction is missing.
    """
    start = time.monotonic()
    folder = Path(output).resolve()
    data = folder / "data"
    phantom(
        "mr",
        cases,
        seed,
        str(data),
        test=test,
        folds=10,
        time_points=1,
        plane="axial",
        spacing=1.6,
        thickness=4.0,
        matrix=160,
        tumor_mm=(25, 60),
    )
    organ, tumor = folder / "organ", folder / "tumor"
    common = {"dataset_dir": str(data), "seed": seed} | ({"epochs": epochs} if epochs else {})
    run_bundle(
        BUNDLES / "organ_pocketnet",
        TRAIN,
        {**common, "ckpt_dir": str(organ), "output_dir": str(organ)},
        log=organ / "log.txt",
    )
    run_bundle(
        BUNDLES / "tumor_pocketnet",
        TRAIN,
        {
            **common,
            "ckpt_dir": str(tumor),
            "output_dir": str(tumor),
            "organ_weights": str(organ / "final.pt"),
            # minutes are too few for the out-of-fold organ masks of a cross-validation
            "organ_source": "label",
        },
        log=tumor / "log.txt",
    )
    predictions = folder / "predictions"
    run_bundle(
        BUNDLES / "tumor_pocketnet",
        ["configs/inference.json", "configs/small.json"],
        {
            "dataset_dir": str(data / "datalist.json"),
            "ckpt_path": str(tumor / "final.pt"),
            "output_dir": str(predictions),
        },
        log=predictions / "log.txt",
    )
    status = evaluate(
        str(data / "datalist.json"), str(predictions), str(folder / "evaluation"), training=[str(organ), str(tumor)]
    )
    print(
        f"\nDone in {time.monotonic() - start:.0f} s. Synthetic images, small networks: not a measure of clinical quality."
    )
    for what, where in (
        ("report with pictures", folder / "evaluation" / "report.html"),
        ("label maps", predictions),
        ("weights of both stages", tumor / "final.pt"),
        ("training logs", organ / "log.txt"),
    ):
        print(f"  {what:<23} {where}")
    return status
