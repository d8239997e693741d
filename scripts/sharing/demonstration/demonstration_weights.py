"""`demonstration_weights`: releases whose weights were trained on phantoms, for trying everything out without patients."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks import CaseError, fold_split, read_datalist, read_weights
from custom_networks.handlers.checkpoints import write_checkpoint
from scripts.core.files import write_text
from scripts.data.phantom.phantom import phantom
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.training.bundle_run import run_bundle
from scripts.experiments.training.fold import Fold
from scripts.sharing.package.package import package

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
CONFIG = "configs/demonstration.json"


@dataclass(frozen=True)
class Cohort:
    """Phantoms to train on and to evaluate with.

    Args:
        modality: of `phantom`.
        cases: images, the held-out ones included.
        more: further options of `phantom`.
    """

    modality: str
    cases: int
    more: dict[str, Any]


@dataclass(frozen=True)
class Demonstration:
    """How one bundle's demonstration weights come about.

    Args:
        cohort: what it learns from.
        classes: of the evaluation; None for those of the datalist.
        organ: it starts from the weights of the organ bundle.
        exports: of its release; TorchScript holds all weights once more, in 32 bits.
    """

    cohort: Cohort
    classes: dict[str, list[int]] | None = None
    organ: bool = False
    exports: tuple[str, ...] = ("ts",)


MR = Cohort("mr", 56, {"matrix": 240, "tumor_mm": (25, 60)})
CT = Cohort("ct", 48, {"matrix": 192, "thickness": 3.0})
DEMONSTRATIONS = {
    "organ_pocketnet": Demonstration(MR, {"organ": [1, 2]}),
    "tumor_pocketnet": Demonstration(MR, organ=True),
    "gynbtnet_brachytherapy": Demonstration(CT, exports=()),
}


def demonstration_weights(
    output: str,
    bundle: Sequence[str] | None = None,
    version: str = "0.2.0",
    test: int = 8,
    seed: int = 0,
    epochs: int | None = None,
    other_code: bool = False,
) -> int:
    """Train, evaluate and package weights on phantoms: about an hour on one CPU core that computes in bfloat16.

    Each bundle's sizes are in its configs/demonstration.json. What is there already is taken up: given again after an
    interruption, the command goes on. The releases say that all images are synthetic; none is for patients.

    Args:
        output: folder for everything that is made; the releases are in its folder `releases`.
        bundle: organ_pocketnet, tumor_pocketnet (which needs the first), gynbtnet_brachytherapy; default all three.
        version: of the releases.
        test: phantoms that are held out for the evaluation.
        seed: of the phantoms and of the training.
        epochs: of each training; default those of demonstration.json.
        other_code: keep trainings although the code or a library's version has changed since.

    Returns:
        0, or 1 if a prediction is missing.

    Raises:
        CaseError: an unknown bundle, a folder with something else in it, or a step that failed.
    """
    wanted = list(bundle or DEMONSTRATIONS)
    unknown = [name for name in wanted if name not in DEMONSTRATIONS]
    if unknown:
        raise CaseError("--bundle", f"{unknown[0]} has no demonstration", f"choose from {', '.join(DEMONSTRATIONS)}")
    folder, status = Path(output).resolve(), 0
    for name in (name for name in DEMONSTRATIONS if name in wanted):
        of = DEMONSTRATIONS[name]
        datalist = _phantoms(folder, of.cohort, test, seed)
        started: dict[str, Any] = {"organ_weights": str(folder / "organ_pocketnet/final.pt")} if of.organ else {}
        started |= {"organ_source": "label"} if of.organ else {}
        overrides = {"seed": seed, **started} | ({"epochs": epochs} if epochs else {})
        training = _train(BUNDLES / name, datalist, folder / name, overrides, other_code)
        weights = _rounded(training.weights("final"))
        status |= _evaluated(BUNDLES / name, datalist, weights, of.classes)
        _release(BUNDLES / name, weights, folder / "releases", version, of)
    return status


def _phantoms(folder: Path, cohort: Cohort, test: int, seed: int) -> Path:
    place = folder / cohort.modality
    # the same options give the same files, and this one is written last
    if not (place / "phantom.json").is_file():
        phantom(cohort.modality, cohort.cases, seed, str(place), test=test, time_points=1, **cohort.more)
    return place / "datalist.json"


def _train(bundle: Path, datalist: Path, folder: Path, overrides: dict[str, Any], other_code: bool) -> Fold:
    """All cases train: the held-out ones stand in another section of the datalist."""
    training, validation = fold_split(read_datalist(datalist), -1)
    fold = Fold(bundle, [CONFIG], overrides, datalist, -1, training, validation, folder)
    fold.check()
    fold.train(other_code=other_code)
    return fold


def _rounded(final: Path) -> Path:
    """The weights as 16 bits hold them: what is evaluated is what is shipped."""
    weights = read_weights(final)
    file = final.parent / "rounded" / "model.pt"
    write_checkpoint(file, {k: v.half().float() if v.is_floating_point() else v for k, v in weights.items()})
    record = final.parent / "training_cases.json"
    write_text(file.with_name(record.name), record.read_text("utf-8"))
    return file


def _evaluated(bundle: Path, datalist: Path, weights: Path, classes: dict[str, list[int]] | None) -> int:
    predictions = weights.parents[1] / "predictions"
    run_bundle(
        bundle,
        ["configs/inference.json"],
        {"dataset_dir": str(datalist), "ckpt_path": str(weights), "output_dir": str(predictions)},
        log=predictions / "log.txt",
    )
    return evaluate(str(datalist), str(predictions), str(weights.parents[1] / "report"), classes=classes, workers=1)


def _release(bundle: Path, weights: Path, folder: Path, version: str, of: Demonstration) -> None:
    """Package anew: it takes seconds, and an earlier release may hold earlier weights."""
    shutil.rmtree(folder / bundle.name, ignore_errors=True)
    (folder / f"{bundle.name}_v{version}.zip").unlink(missing_ok=True)
    package(
        str(bundle),
        str(weights),
        str(folder),
        version,
        "demonstration weights, trained on phantoms: python -m scripts demonstration_weights",
        report=str(weights.parents[1] / "report"),
        half=True,
        synthetic=True,
        exports=of.exports,
    )
