"""`python -m scripts study`: several arms, folds and data sets, one question, one answer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from custom_networks import CaseError
from scripts.core.classes import Classes, read_classes
from scripts.core.datalist import Case, Datalist, safe_name
from scripts.core.files import write_text
from scripts.experiments.evaluate.aggregate import CLASS_MEAN
from scripts.experiments.study.definition import OUT_OF_FOLD, Study, read_study
from scripts.experiments.study.estimate import show_plan
from scripts.experiments.study.results import Results, write_results
from scripts.experiments.study.sets import by_all_folds, out_of_fold, score, scored_sets
from scripts.experiments.study.tracking import address, track
from scripts.experiments.study.trainings import (
    PlannedArm,
    Training,
    finish_stage,
    plan_arm,
    predicts,
    run_trainings,
    write_stage_datalist,
)
from scripts.experiments.training.crossval import check_output


def study(
    file: str,
    output: str,
    data: str | None = None,
    jobs: int = 1,
    scheduler: str = "",
    dry_run: bool = False,
    time_steps: int = 0,
    small: bool = False,
    retrain: bool = False,
    other_code: bool = False,
    tracking_uri: str = "",
) -> int:
    """Run a study file: train its arms fold by fold, predict, evaluate, compare, and write its tables; docs/studies.md.

    The command may be given again at any time: finished trainings are kept, interrupted ones go on, and a training whose
    data, settings or code are no longer what it was made from is refused. A training that fails costs its arm that fold;
    the rest goes on.

    Example:
        python -m scripts study scripts/experiments/studies/pocketnet_paper.json --data data --output runs/pocketnet_paper

    Args:
        file: the study file, JSON.
        output: folder to write to: stages, arms, evaluation, tables, report.html.
        data: folder that the study's datalists are relative to; default the study file's own.
        jobs: trainings at a time on this machine.
        scheduler: address of a Dask cluster that runs the trainings instead, such as tcp://host:8786.
        dry_run: print every command and an estimate of time and disk, and do nothing.
        time_steps: with dry_run, time so many training steps of each arm on this machine.
        small: a trial run with each bundle's small.json, to see that everything works; its figures mean nothing.
        retrain: train anew what was made from other data, settings or code.
        other_code: keep trainings although the code or a library's version has changed since.
        tracking_uri: MLflow that the study is written to in the end, such as http://host:5000; default mlflow.db in the
            output; none for nowhere.

    Returns:
        0; 1 if a training failed, something could not be scored or MLflow did not answer, after everything else was done.

    Raises:
        CaseError: the study file, a datalist or a bundle does not fit, or the output holds trainings of something else.
    """
    plan, target = read_study(file, data, small), Path(output).resolve()
    if jobs < 1 or time_steps < 0:
        raise CaseError(
            "study", f"--jobs {jobs} and --time_steps {time_steps} make no sense", "pass for example --jobs 2"
        )
    uri = address(tracking_uri, target)
    every = [*plan.stages.values(), *plan.arms.values()]
    for datalist in {arm.datalist for arm in every} | {path for path, _ in plan.external.values()}:
        check_output(target, datalist, plan.file.parent)
    content = Datalist.read(plan.datalist)
    classes, sets = read_classes(content, plan.classes), scored_sets(plan)
    _check_classes(plan, classes)
    # what can be refused is refused before the first training
    planned = [plan_arm(plan, arm, target, ready=False) for arm in every]
    if dry_run:
        show_plan(plan, planned, sets, time_steps)
        return 0
    results = Results(plan, classes)
    arms = _train(plan, target, content, results.problems, jobs, scheduler, retrain, other_code)
    _score(plan, arms, sets, target, results, jobs)
    if not results.cases:
        raise CaseError(
            f"study {plan.file}", f"nothing could be scored ({' '.join(results.problems)})", "correct that first"
        )
    answers = write_results(results, arms, target)
    write_text(target / "study.json", plan.file.read_text(encoding="utf-8"))
    print("\n" + "\n".join([*answers, *(f"\n{problem}" for problem in results.problems)]))
    print(f"\n{target}: report.html, tables/, evaluation/")
    untracked = track(results, arms, target, uri, small)
    if untracked:
        print(f"\n{untracked}")
    return int(bool(results.problems or untracked))


def _check_classes(plan: Study, classes: Classes) -> None:
    asked = [("primary", plan.primary.of_class)] if plan.primary.of_class else []
    asked += [(f"table {name!r}", one) for name, table in plan.tables.items() for one in table.get("classes", ())]
    known = [*classes, *([CLASS_MEAN] if len(classes) > 1 else [])]
    for what, name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise CaseError(
                f"study {plan.file}",
                f"{what} names the class {name!r}, which is not there",
                f"did you mean {near[0]!r}" if near else f"there are {', '.join(known)}",
            )


def _train(
    plan: Study,
    target: Path,
    content: Datalist,
    problems: list[str],
    jobs: int,
    scheduler: str,
    retrain: bool,
    other_code: bool,
) -> dict[str, PlannedArm]:
    """Train stages and arms, those first that others need; what failed is added to `problems`.

    Returns:
        Each arm with the folds that have finished.
    """
    failed: set[str] = set()
    out_of_fold_counts = OUT_OF_FOLD in plan.sets
    arms: dict[str, PlannedArm] = {}
    for level in plan.levels():
        ready = []
        for arm in level:
            lost = failed & {arm.organ_from, arm.pretrained_from}
            if lost:
                problems.append(f"{arm.name}: not trained, as stage {min(lost)} failed.")
                failed.add(arm.name)
                continue
            ready.append(plan_arm(plan, arm, target))
        for one in ready:
            write_stage_datalist(one)
            for fold in one.folds if not retrain else ():
                fold.check_kept(other_code)
        trainings = [
            Training(
                fold,
                plan.checkpoint if predicts(one.arm) and (one.arm.stage or out_of_fold_counts) else "",
                retrain,
                other_code,
            )
            for one in ready
            for fold in one.folds
        ]
        lost_folds = run_trainings(trainings, jobs, scheduler)
        for one in ready:
            wrong = {fold.number: lost_folds[fold.folder] for fold in one.folds if fold.folder in lost_folds}
            problems += [f"{one.arm.name}, fold {number}: {why}" for number, why in wrong.items()]
            if not one.arm.stage:
                arms[one.arm.name] = one.with_folds([f.number for f in one.folds if f.number not in wrong])
            elif wrong or not _finished(one, content, plan.checkpoint, problems):
                failed.add(one.arm.name)
    return {name: arms[name] for name in plan.arms if name in arms}


def _finished(stage: PlannedArm, content: Datalist, checkpoint: str, problems: list[str]) -> bool:
    try:
        finish_stage(stage, content, checkpoint)
    except CaseError as error:
        problems.append(f"{stage.arm.name}: {error}")
        return False
    return True


def _score(
    plan: Study,
    arms: Mapping[str, PlannedArm],
    sets: Mapping[str, Sequence[Case]],
    target: Path,
    results: Results,
    jobs: int,
) -> None:
    """Predict and evaluate every set by every arm; what could not be done is added to the problems."""
    for name, one in arms.items():
        if not one.folds:
            continue
        whole = len(one.folds) == len(plan_arm(plan, one.arm, target).folds)
        for in_set in [name for name in plan.sets if name == OUT_OF_FOLD or name in sets]:
            if in_set != OUT_OF_FOLD and not whole:
                results.problems.append(f"{name}: {in_set} is not predicted, as folds are missing.")
                continue
            folder = safe_name(in_set)
            place, evaluation = one.place / folder, target / "evaluation" / folder / one.place.name
            try:
                if in_set == OUT_OF_FOLD:
                    scored = out_of_fold(one, place)
                else:
                    scored = by_all_folds(one, sets[in_set], place, plan.checkpoint)
                table, wrong = score(plan, scored, place, evaluation, max(jobs, 2))
            except CaseError as error:
                results.problems.append(f"{name}, {in_set}: {error}")
                continue
            results.cases.setdefault(in_set, {})[name] = table
            results.evaluations.setdefault(in_set, {})[name] = evaluation
            results.problems += [f"{name}, {in_set}: {text}" for text in wrong]
