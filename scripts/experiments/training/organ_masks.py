"""Organ masks for stage 2 where stage 1 may learn from some patients only: out-of-fold for those, an ensemble for the rest."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError, check_unseen_cases, read_weights
from custom_networks.data.cases import distinct_cases
from scripts.core.datalist import Case, Datalist, image_stem, safe_name, write_datalist
from scripts.core.files import locked
from scripts.experiments.training.bundle_run import run_bundle
from scripts.experiments.training.crossval import (
    Checkpoint,
    check_checkpoint,
    check_output,
    is_organ_stage,
    prepare_folds,
    said,
    with_files,
)
from scripts.experiments.training.fold import Fold


def organ_masks(
    bundle: str,
    datalist: str,
    output: str,
    patients: str | Sequence[str] | None = None,
    count: int | None = None,
    seed: int = 0,
    configs: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    processes: int = 1,
    checkpoint: Checkpoint = "final",
    retrain: bool = False,
    other_code: bool = False,
) -> None:
    """Predict the organ of every training case by networks that never saw its patient, for stage 2 (decision P12).

    Some patients train the organ bundle in the folds that the datalist gives them, as 35 of 102 did in the paper. Their
    masks are out-of-fold; those of all other patients are the mean softmax of the folds. OUTPUT/datalist.json is the
    given datalist with `organ` pointing to the masks: what `crossval --bundle bundles/tumor_pocketnet --organ_runs OUTPUT`
    trains on.

    Args:
        bundle: the organ bundle's folder.
        datalist: with a fold for every training case; its held-out cases get no mask, stage 1 finds their organ.
        output: folder to write to; not that of the datalist.
        patients: who trains stage 1: comma-separated, or a text file with one patient a line.
        count: instead of `patients`, how many of them, drawn by `seed`, evenly from the folds.
        seed: of the draw.
        configs: files after train.json, see `crossval`.
        overrides: ids and values on top, see `crossval`.
        processes: ranks of each training.
        checkpoint: `final` or `best`, see `crossval`.
        retrain: see `crossval`.
        other_code: see `crossval`.

    Raises:
        CaseError: a patient is unknown, a fold would be empty, a mask would have seen its own truth, or a run failed.
    """
    source, target = Path(datalist).resolve(), Path(output).resolve()
    check_checkpoint(checkpoint)
    if not is_organ_stage(Path(bundle).resolve()):
        raise CaseError(f"bundle {bundle}", "it does not predict the organ alone", "pass bundles/organ_pocketnet")
    content = Datalist.read(source)
    check_output(target, source, bundle)
    # the whole datalist is checked before the subset, which might hide what is wrong with it
    prepare_folds(bundle, content, source, target, configs, overrides)
    stage = first_stage(content, patients, count, seed)
    with locked(target):
        file = write_datalist(target / "stage1.json", stage)
        folds = prepare_folds(bundle, Datalist.read(file), file, target, configs, overrides, processes)
        for fold in folds:
            fold.train(retrain, other_code)
            fold.evaluate(checkpoint)
        made = write_masks(content, stage, folds, target, checkpoint)
    print(
        f"organ masks of {len(made)} cases by {said(checkpoint)}: {len(stage.training)} out-of-fold, "
        f"{len(stage.testing)} by all {len(folds)} folds, none by a network that saw its patient: {target / 'datalist.json'}"
    )


def first_stage(content: Datalist, patients: str | Sequence[str] | None, count: int | None, seed: int) -> Datalist:
    """The datalist of stage 1: `training` are the cases of the patients who train it, `testing` all other training cases.

    Args:
        content: the whole datalist.
        patients: see `organ_masks`.
        count: see `organ_masks`.
        seed: see `organ_masks`.

    Raises:
        CaseError: see `choose_patients`; also where a fold would be empty.
    """
    chosen = choose_patients(content.training, patients, count, seed)
    learning = [case for case in content.training if case.patient in chosen]
    others = [replace(case, fold=None) for case in content.training if case.patient not in chosen]
    distinct_cases([case.entry() for case in others])
    empty = {case.fold for case in content.training} - {case.fold for case in learning}
    if empty:
        raise CaseError(
            f"fold {min(map(str, empty))}", "none of its patients would train stage 1", "choose patients of every fold"
        )
    return replace(content, training=learning, testing=others)


def write_masks(
    content: Datalist, stage: Datalist, folds: Sequence[Fold], target: Path, checkpoint: str
) -> dict[str, Path]:
    """Write the mask of every training case, and the datalist that stage 2 trains on.

    Args:
        content: the whole datalist.
        stage: from `first_stage`, written to `target / "stage1.json"`.
        folds: of stage 1, trained and evaluated.
        target: folder to write to.
        checkpoint: that predicts.

    Returns:
        Case to its mask.

    Raises:
        CaseError: a mask would have seen its own truth, or a run failed.
    """
    others = stage.testing
    makers = {entry["case"]: [fold] for fold in folds for entry in fold.validation}
    makers |= {case.name: list(folds) for case in others}
    check_makers({case.name: case.entry() for case in content.training}, makers, checkpoint)
    found = {entry["case"]: fold.prediction(entry) for fold in folds for entry in fold.validation}
    if others:
        place = predict_together(folds, target / "stage1.json", target / "ensemble", checkpoint)
        found |= {case.name: place / f"{image_stem(case.image)}_pred.nii.gz" for case in others}
    kept = {name: target / "masks" / f"{safe_name(name)}_organ.nii.gz" for name in found}
    (target / "masks").mkdir(exist_ok=True)
    for name, path in found.items():
        shutil.copyfile(path, kept[name])
    write_datalist(target / "datalist.json", with_files(content, kept, ("organ",)))
    return kept


def choose_patients(
    cases: Sequence[Case], patients: str | Sequence[str] | None, count: int | None, seed: int
) -> set[str]:
    """Who trains stage 1.

    Args:
        cases: training cases.
        patients: see `organ_masks`.
        count: see `organ_masks`.
        seed: see `organ_masks`.

    Raises:
        CaseError: neither or both are given, a patient has no case, or there are fewer patients than asked for.
    """
    fold_of = {case.patient: case.fold for case in cases}
    if (patients is None) == (count is None):
        raise CaseError("organ_masks", "it wants either --patients or --count", "say who trains stage 1")
    if patients is not None:
        if isinstance(patients, str) and Path(patients).is_file():
            patients = Path(patients).read_text(encoding="utf-8").split("\n")
        named = patients.split(",") if isinstance(patients, str) else patients
        chosen = {name.strip() for name in named} - {""}
        unknown = sorted(chosen - set(fold_of))
        if unknown:
            raise CaseError(
                f"patient {unknown[0]}", "no training case of the datalist is of that patient", "correct it"
            )
        return chosen
    assert count is not None
    if not 0 < count <= len(fold_of):
        raise CaseError("option --count", f"{count} of {len(fold_of)} patients", "ask for at least 1 and at most all")
    # one of each fold in turn
    turn: dict[str, int] = {}
    drawn: Counter[int | None] = Counter()
    for patient in np.random.default_rng(seed).permutation(sorted(fold_of)).tolist():
        turn[patient] = drawn[fold_of[patient]]
        drawn[fold_of[patient]] += 1
    return set(sorted(turn, key=lambda patient: turn[patient])[:count])


def predict_together(folds: Sequence[Fold], datalist: Path, place: Path, checkpoint: str) -> Path:
    """Predict the held-out section of a datalist by the mean softmax of all folds.

    Args:
        folds: trained.
        datalist: whose `testing` is predicted.
        place: folder of the predictions.
        checkpoint: `final` or `best`.

    Returns:
        `place`.

    Raises:
        CaseError: the run failed.
    """
    for path in place.glob("*.nii.gz"):
        path.unlink()
    run_bundle(folds[0].bundle, *ensemble_run(folds, datalist, place, checkpoint), log=place / "log.txt")
    return place


def ensemble_run(
    folds: Sequence[Fold], datalist: Path, place: Path, checkpoint: str
) -> tuple[list[str], dict[str, Any]]:
    """Files and overrides of `predict_together`."""
    bundle, first = folds[0].bundle, folds[0]
    inference = json.loads((bundle / "configs" / "inference.json").read_text(encoding="utf-8"))
    shared = {key: value for key, value in first.overrides.items() if key.split("#")[0] in inference}
    places = {"dataset_dir": str(datalist), "output_dir": str(place)}
    weights = [str(fold.weights(checkpoint)) for fold in folds]
    files = ["configs/inference.json", *inference_configs(first.configs, bundle), "configs/ensemble.json"]
    return files, {**shared, **places, "folds": len(folds), "fold_weights": weights}


def inference_configs(configs: Sequence[str], bundle: Path) -> list[str]:
    """Files for inference that belong to files of the training: `X_inference.json` where there is one, else the same."""
    found = []
    for name in configs:
        own = name.replace(".json", "_inference.json")
        found.append(own if name.startswith("configs/") and (bundle / own).is_file() else name)
    return found


def check_makers(cases: Mapping[str, Mapping[str, Any]], makers: Mapping[str, Sequence[Fold]], checkpoint: str) -> None:
    """Refuse a mask whose patient one of its networks was trained on, by the folds and by the record beside the weights.

    Args:
        cases: name to case.
        makers: name to the folds whose networks make its mask.
        checkpoint: of the networks.

    Raises:
        CaseError: names the case.
    """
    for name, folds in makers.items():
        patient = str(cases[name]["patient"])
        for fold in folds:
            if patient in {str(entry["patient"]) for entry in fold.training}:
                raise CaseError(
                    name,
                    f"fold {fold.number} was trained on its patient {patient}",
                    "report this: its mask is not used",
                )
            read_weights(fold.weights(checkpoint))
            check_unseen_cases([cases[name]], fold.weights(checkpoint))
