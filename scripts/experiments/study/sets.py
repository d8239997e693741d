"""What an arm is scored on: its out-of-fold predictions, and held-out and external cases by all of its folds together."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist, image_stem, safe_name, write_datalist
from scripts.core.files import atomic_file
from scripts.core.manifest import bind, file_digest, inputs
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.study.definition import OUT_OF_FOLD, TESTING, Study
from scripts.experiments.study.trainings import PlannedArm, same_inputs
from scripts.experiments.training.organ_masks import predict_together

TEXT = {"case": str, "patient": str, "class": str, "outcome": str}


def scored_sets(study: Study) -> dict[str, list[Case]]:
    """The labelled cases of every set but the out-of-fold one, which depends on the folds that an arm has finished.

    Raises:
        CaseError: a datalist cannot be read, an arm's has other labels than the study's, a set has no labelled case, or a
            case of it is trained on.
    """
    main = Datalist.read(study.datalist)
    trained = list(main.training)
    # weights that an arm starts from have seen the cases of their stage
    for arm in [*study.stages.values(), *study.arms.values()]:
        if arm.datalist == study.datalist:
            continue
        own = Datalist.read(arm.datalist)
        if not arm.stage and own.labels != main.labels:
            raise CaseError(
                f"arm {arm.name}", f"{arm.datalist} has other labels than {study.datalist}", "give both the same labels"
            )
        trained += own.training
    found = {TESTING: [case for case in main.testing if case.label]}
    for name, (file, section) in study.external.items():
        found[name] = [case for case in Datalist.read(file).section(section) if case.label]
        if not found[name]:
            raise CaseError(
                f"external set {name}", f"{file} has no labelled case in '{section}'", "choose another section"
            )
    patients = {case.patient for case in trained}
    known = next((case for case in found[TESTING] if case.patient in patients), None)
    if known is not None:
        raise CaseError(
            known.name, f"its patient {known.patient} is held out and trained on", "split the datalist again"
        )
    images = {file_digest(case.image, case.name): case.name for case in trained} if study.external else {}
    for name in study.external:
        for case in found[name]:
            same = images.get(file_digest(case.image, case.name))
            if same is not None:
                raise CaseError(case.name, f"of the external set {name} is {same}, which is trained on", "leave it out")
    return {name: cases for name, cases in found.items() if cases}


def out_of_fold(planned: PlannedArm, place: Path) -> Datalist:
    """Gather the predictions of finished folds, each case by the fold that has not seen its patient.

    Args:
        planned: an arm with its finished folds.
        place: folder to write to.

    Returns:
        A datalist whose `testing` are the cases, with `pred`.
    """
    cases = {case.name: case for case in planned.content.training if case.label}
    made = {
        entry["case"]: fold.prediction(entry)
        for fold in planned.folds
        for entry in fold.validation
        if entry["case"] in cases
    }
    return _gathered(planned.content, [cases[name] for name in made], made, place)


def by_all_folds(planned: PlannedArm, cases: Sequence[Case], place: Path, checkpoint: str) -> Datalist:
    """Predict cases by the mean softmax of an arm's folds (decision P17), unless that was done with these weights.

    Args:
        planned: an arm, all of whose folds are finished.
        cases: none of whose patients it was trained on.
        place: folder to write to.
        checkpoint: of the folds.

    Returns:
        See `out_of_fold`.

    Raises:
        CaseError: the run failed or left a prediction out.
    """
    wanted = replace(planned.content, training=[], testing=[replace(case, fold=None) for case in cases])
    weights = [fold.weights(checkpoint) for fold in planned.folds]
    made_from = inputs(cases, {**planned.folds[0].overrides, "configs": list(planned.folds[0].configs)})
    made_from["weights"] = {
        f"fold{f.number}": file_digest(str(w), w.name) for f, w in zip(planned.folds, weights, strict=True)
    }
    made = {case.name: place / "run" / f"{image_stem(case.image)}_pred.nii.gz" for case in cases}
    record = place / "made_from.json"
    if not (same_inputs(record, made_from) and all(file.is_file() for file in made.values())):
        record.unlink(missing_ok=True)
        write_datalist(place / "cases.json", wanted)
        predict_together(planned.folds, place / "cases.json", place / "run", checkpoint)
        missing = next((name for name, file in made.items() if not file.is_file()), None)
        if missing is not None:
            raise CaseError(missing, f"the run left no {made[missing]}", f"see {place / 'run' / 'log.txt'}")
        bind(record, made_from)
    return _gathered(wanted, cases, made, place)


def _gathered(content: Datalist, cases: Sequence[Case], made: Mapping[str, Path], place: Path) -> Datalist:
    """Put predictions in one folder under the names of their cases, with a datalist that names them."""
    folder = place / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*_pred.nii.gz"):
        file.unlink()
    kept = []
    for case in cases:
        target = folder / f"{safe_name(case.name)}_pred.nii.gz"
        with atomic_file(target) as partial:
            shutil.copyfile(made[case.name], partial)
        kept.append(replace(case, fold=None, files={**case.files, "pred": os.path.relpath(target, str(case.folder))}))
    gathered = replace(content, training=[], testing=kept)
    write_datalist(place / "datalist.json", gathered)
    return gathered


def score(
    study: Study, scored: Datalist, place: Path, target: Path, workers: int = 2
) -> tuple[pd.DataFrame, list[str]]:
    """Evaluate gathered predictions, unless that was done with these very files.

    Args:
        study: whose classes and tolerance count.
        scored: from `out_of_fold` or `by_all_folds`.
        place: folder that it was gathered in.
        target: folder for the evaluation.
        workers: cases at a time.

    Returns:
        The case table of `evaluate`, and what was wrong with single cases.

    Raises:
        CaseError: nothing could be measured.
    """
    settings = {"classes": study.classes, "tolerance": study.tolerance, "labels": dict(scored.labels)}
    made_from = inputs(scored.testing, settings)
    record, log = target / "made_from.json", target / "log.txt"
    if not same_inputs(record, made_from):
        record.unlink(missing_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
            status = evaluate(
                str(place / "datalist.json"),
                str(place / "predictions"),
                str(target),
                classes=study.classes,
                pictures=study.pictures,
                tolerance=study.tolerance,
                workers=workers,
            )
        if not status:
            bind(record, made_from)
    problems = [] if record.is_file() else [f"{target}: not every case could be measured or drawn, see {log}"]
    return read_cases(target / "cases.csv"), problems


def read_cases(file: Path) -> pd.DataFrame:
    """Read the case table that `evaluate` wrote; names stay text, an empty cell is no number."""
    return pd.read_csv(file, dtype=TEXT, keep_default_na=False, na_values={name: [""] for name in _numbers(file)})


def _numbers(file: Path) -> list[str]:
    return [name for name in pd.read_csv(file, nrows=0).columns if name not in TEXT]


def name_of_set(name: str, folds: int) -> str:
    """A set as tables head it."""
    if name == OUT_OF_FOLD:
        return "out of fold"
    return f"{'held out' if name == TESTING else name}, mean softmax of {folds} folds"
