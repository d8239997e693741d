"""The trainings of arms and stages: which there are, how they run side by side, and what a stage leaves for its arms."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from custom_networks import CaseError
from custom_networks.data.cases import fold_split
from custom_networks.data.datalist import read_json
from scripts.core.datalist import Datalist, safe_name, write_datalist
from scripts.core.jobs import in_processes, on_cluster
from scripts.core.manifest import Inputs, bind, file_digest, inputs
from scripts.experiments.study.definition import Arm, Study
from scripts.experiments.training.crossval import collect, config_file, is_organ_stage, prepare_folds
from scripts.experiments.training.fold import CHECKPOINTS, Fold, check_unseen
from scripts.experiments.training.inputs import name_weights
from scripts.experiments.training.organ_masks import first_stage, write_masks


@dataclass(frozen=True)
class PlannedArm:
    """An arm or a stage with its trainings.

    Args:
        arm: of the study.
        place: its folder.
        content: what it is trained on.
        source: the file of that datalist.
        folds: its trainings.
    """

    arm: Arm
    place: Path
    content: Datalist
    source: Path
    folds: Sequence[Fold]

    def with_folds(self, numbers: Sequence[int]) -> PlannedArm:
        """The same arm with some of its folds."""
        return replace(self, folds=[fold for fold in self.folds if fold.number in numbers])


def place_of(arm: Arm, output: Path) -> Path:
    """Folder of an arm or a stage."""
    return output / ("stages" if arm.stage else "arms") / safe_name(arm.name)


def plan_arm(study: Study, arm: Arm, output: Path, ready: bool = True) -> PlannedArm:
    """The trainings of an arm or a stage.

    Args:
        study: it belongs to.
        arm: one of its arms or stages.
        output: folder of the study.
        ready: whether the stages that it starts from have ended; before that its cases lack what they make.

    Raises:
        CaseError: the datalist, a fold, a configuration file or an override does not fit; an earlier stage saw a case of
            the fold that it is for.
    """
    place, source = place_of(arm, output), arm.datalist
    if arm.organ_from:
        source = place_of(study.stages[arm.organ_from], output) / "datalist.json"
    content = Datalist.read(source if ready else arm.datalist)
    own_file = json.loads((arm.bundle / "configs" / "train.json").read_text(encoding="utf-8"))
    overrides = dict(arm.overrides)
    starts = (
        ("organ_weights", arm.organ_from, CHECKPOINTS[study.checkpoint]),
        ("pretrained", arm.pretrained_from, "final.pt"),
    )
    # each fold's own file takes its place below
    overrides |= {"pretrained": "none"} if arm.pretrained_from else {}
    if "prepared_dir" in own_file:
        overrides.setdefault("prepared_dir", str(output / "prepared" / safe_name(source.parent.name)))
    if arm.fold is not None:
        files = [config_file(arm.bundle, name) for name in arm.configs]
        sides = fold_split([case.entry() for case in content.training], arm.fold)
        named = name_weights(arm.bundle, ["configs/train.json", *files], overrides)
        folds = [Fold(arm.bundle, files, named, source, arm.fold, *sides, place)]
        folds[0].check()
    else:
        if arm.stage and (arm.patients or arm.count):
            source = place / "stage1.json"
            content = first_stage(content, arm.patients or None, arm.count, study.seed)
        folds = prepare_folds(str(arm.bundle), content, source, place, arm.configs, overrides)
        # what an arm starts from must have been made for all of its training cases
        folds = folds if arm.stage or study.folds is None else _chosen(folds, study.folds)
    for key, name, weights in starts:
        if name:
            stage = study.stages[name]
            start = place_of(stage, output)
            found = {
                f.number: (start if stage.fold is not None else start / f"fold{f.number}") / weights for f in folds
            }
            if ready:
                check_unseen(folds, found)
            folds = [replace(f, overrides={**f.overrides, key: str(found[f.number])}) for f in folds]
    return PlannedArm(arm, place, content, source, folds)


def _chosen(folds: Sequence[Fold], numbers: Sequence[int]) -> list[Fold]:
    missing = set(numbers) - {fold.number for fold in folds}
    if missing:
        present = ", ".join(str(fold.number) for fold in folds)
        raise CaseError(
            f"fold {min(missing)}", f"it has no cases (folds present: {present})", "correct the study's folds"
        )
    return [fold for fold in folds if fold.number in numbers]


@dataclass(frozen=True)
class Training:
    """One training as a process or a worker of a cluster runs it.

    Args:
        fold: what to train.
        predict: the checkpoint that predicts the fold's own cases, or empty.
        retrain: see `Fold.train`.
        other_code: see `Fold.train`.
        threads: of the computation; 0 leaves them as they are.
    """

    fold: Fold
    predict: str
    retrain: bool = False
    other_code: bool = False
    threads: int = 0


def run_training(training: Training) -> str:
    """Train and predict one fold.

    Returns:
        What went wrong, in a sentence; empty where nothing did.
    """
    if training.threads:
        os.environ["OMP_NUM_THREADS"] = str(training.threads)
    try:
        training.fold.train(training.retrain, training.other_code)
        if training.predict:
            training.fold.evaluate(training.predict)
    except CaseError as error:
        return str(error)
    except OSError as error:
        return f"{training.fold.folder}: {error}."
    return ""


def run_trainings(trainings: Sequence[Training], jobs: int = 1, scheduler: str = "") -> dict[Path, str]:
    """Run trainings side by side; one that fails leaves the others alone.

    Args:
        trainings: that do not wait for each other.
        jobs: how many at a time, on this machine.
        scheduler: address of a Dask cluster instead, whose workers see the same files.

    Returns:
        Folder of each training that failed, and why.
    """

    def lost(training: Training, why: str) -> str:
        return f"{training.fold.folder}: {why}."

    if scheduler:
        run = on_cluster(run_training, trainings, scheduler, lost, resource="GPU")
    else:
        threads = 0 if jobs <= 1 else max(1, (os.cpu_count() or 1) // jobs)
        shared = [replace(training, threads=threads) for training in trainings]
        run = in_processes(run_training, shared, 0 if jobs <= 1 else jobs, lost)
    return {trainings[i].fold.folder: problem for i, problem in run if problem}


def finish_stage(planned: PlannedArm, whole: Datalist, checkpoint: str) -> None:
    """Write what arms take from an organ stage whose trainings have ended: the datalist with organ masks.

    Args:
        planned: the stage.
        whole: the datalist with all training cases.
        checkpoint: that predicts.

    Raises:
        CaseError: see `write_masks`.
    """
    if not predicts(planned.arm):
        return
    if not (planned.arm.patients or planned.arm.count):
        collect(planned.content, planned.folds, planned.place, checkpoint)
        return
    # made once: an ensemble need not come out the same to the last bit, and arms are bound to its masks
    record = planned.place / "made_from.json"
    made_from = inputs(whole.training, {"checkpoint": checkpoint}, code=False)
    made_from["weights"] = {fold.folder.name: file_digest(str(fold.weights(checkpoint)), "") for fold in planned.folds}
    if not same_inputs(record, made_from):
        record.unlink(missing_ok=True)
        write_masks(whole, planned.content, planned.folds, planned.place, checkpoint)
        bind(record, made_from)


def predicts(arm: Arm) -> bool:
    """Whether the folds of an arm or a stage predict their own cases."""
    return not arm.stage or (arm.fold is None and is_organ_stage(arm.bundle))


def same_inputs(record: Path, made_from: Inputs) -> bool:
    """Whether a result was made from the same; where it was not, or nothing is known, it is made anew."""
    return record.is_file() and read_json(record, f"record {record}", "delete it") == made_from


def write_stage_datalist(planned: PlannedArm) -> None:
    """Write the datalist of an organ stage that only some patients train."""
    if planned.source == planned.place / "stage1.json":
        write_datalist(planned.source, planned.content)
