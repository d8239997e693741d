"""A study in MLflow: a run for the study, and below it one for each arm and fold. Written last, from what lies in the output."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist, safe_name
from scripts.core.manifest import file_digest, inputs, versions
from scripts.experiments.evaluate import aggregate
from scripts.experiments.study.definition import OUT_OF_FOLD, Study
from scripts.experiments.study.results import Results
from scripts.experiments.study.trainings import PlannedArm
from scripts.experiments.training.bundle_run import bundle_command, shown_command
from scripts.experiments.training.fold import RECORD, Fold

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

NOWHERE = "none"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
STUDY, TRAINING, WRITTEN, REPLACED = "study.digest", "training.digest", "written_from", "replaced_by"
MEASURES = ("dsc", "nsd", "hd95_mm")
# MLflow's limits
PARAMETER, TAG, BATCH = 6000, 8000, 1000
# what MONAI's StatsHandler prints after an epoch
EPOCH = re.compile(r"Epoch\[(\d+)\] Metrics -- (.*)")
VALUE = re.compile(r"(\w+): (\S+)")


def address(given: str, output: Path) -> str:
    """Where a study is tracked.

    Args:
        given: as the user wrote it; empty for a database in the output, `none` for nowhere.
        output: folder of the study.

    Returns:
        The address, or `none`.

    Raises:
        CaseError: it is no address of MLflow, holds a password, or names a database in a folder that is not there.
    """
    uri = given or f"sqlite:///{output / 'mlflow.db'}"
    if uri == NOWHERE:
        return uri
    case, parts = "option --tracking_uri", urlsplit(uri)
    # postgresql+psycopg2 is one, too
    if parts.scheme.split("+")[0] not in SCHEMES or "//" not in uri:
        raise CaseError(case, f"{uri!r} is no address", "pass for example http://host:5000, sqlite:///FILE or none")
    if parts.password:
        # of which the sentence must not show any part
        raise CaseError(
            case, "it holds a password, which run.json would keep", "set MLFLOW_TRACKING_USERNAME and _PASSWORD"
        )
    if given and parts.scheme == "sqlite" and not _database(uri).parent.is_dir():
        raise CaseError(case, f"the folder {_database(uri).parent} does not exist", "make it")
    return uri


def track(results: Results, planned: Mapping[str, PlannedArm], output: Path, uri: str, small: bool) -> str:
    """Write a study to MLflow; what is there of it already is brought up to date.

    Args:
        results: of the study, whose tables are written.
        planned: its arms, with the folds that have finished.
        output: folder of the study.
        uri: from `address`.
        small: whether this was a trial run.

    Returns:
        What went wrong, in a sentence; empty where nothing did. Nothing in the output depends on it.
    """
    if uri == NOWHERE:
        return ""
    # a server that is not there would be asked for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with _quiet():
            client = MlflowClient(tracking_uri=uri)
            parent = _study_run(client, results, output, uri, small)
            for name, arm in planned.items():
                for fold in arm.folds:
                    _fold_run(client, parent, results, name, arm, fold)
            client.set_terminated(parent.info.run_id, "FAILED" if results.problems else "FINISHED")
    except (MlflowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return (
            f"MLflow at {uri}: the study could not be written ({reason}); its results are in {output}, and the same "
            "command writes them when MLflow answers."
        )
    return ""


def study_digest(study: Study, small: bool) -> str:
    """What a study is, wherever it is written: its file and its data; not the code, which tags name."""
    cases = {"main": _every(Datalist.read(study.datalist))}
    for arm in [*study.stages.values(), *study.arms.values()]:
        cases[f"arm {arm.name}"] = _every(Datalist.read(arm.datalist))
    for name, (file, section) in study.external.items():
        cases[f"set {name}"] = list(Datalist.read(file).section(section))
    found = {name: inputs(one, code=False)["case"] for name, one in cases.items()}
    return _digest({"file": json.loads(study.file.read_text(encoding="utf-8")), "small": small, "cases": found})


def curves(log: Path) -> dict[str, dict[int, float]]:
    """Losses and validation scores by epoch, as a training wrote them to its log.

    An epoch that was trained again, after an interruption or anew, replaces itself and what came after it.

    Returns:
        Name to epoch to value.
    """
    found: dict[str, dict[int, float]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else ():
        if said := EPOCH.search(line):
            epoch = int(said[1])
            for name, text in VALUE.findall(said[2]):
                before = {step: value for step, value in found.get(name, {}).items() if step < epoch}
                found[name] = {**before, epoch: float(text)}
    return found


def scores(table: pd.DataFrame) -> dict[str, float]:
    """Mean DSC, NSD and HD95 (mm) of every class, and its misses and false finds, by names that MLflow takes.

    Args:
        table: case table of `evaluate`.
    """
    found: dict[str, float] = {}
    for row in aggregate.summarise(aggregate.add_class_mean(table)).to_dict("records"):
        # MLflow knows no %XX
        name = safe_name(str(row["class"])).replace("%20", " ").replace("%", "_")
        if row["metric"] in MEASURES and not math.isnan(row["mean"]):
            found[f"{name}/{row['metric']}"] = float(row["mean"])
        if row["class"] != aggregate.CLASS_MEAN:
            found |= {f"{name}/{key}": float(row[key]) for key in ("missed", "false_positive")}
    return found


def _study_run(client: MlflowClient, results: Results, output: Path, uri: str, small: bool) -> Run:
    study = results.study
    experiment = client.get_experiment_by_name(study.name)
    if experiment is None:
        # MLflow would put it into the current folder
        place = (_database(uri).parent / "mlflow_artifacts").as_uri() if uri.startswith("sqlite:") else None
        experiment_id = client.create_experiment(study.name, artifact_location=place)
    else:
        experiment_id = experiment.experiment_id
    digest = study_digest(study, small)
    run = _found(client, experiment_id, f"tags.`{STUDY}` = '{digest}'") or client.create_run(
        experiment_id, tags={STUDY: digest}, run_name=study.name
    )
    primary = study.primary
    parameters = {
        "arms": ", ".join(study.arms),
        "folds": "all" if study.folds is None else ", ".join(map(str, study.folds)),
        "checkpoint": study.checkpoint,
        "primary": f"{primary.measure}, {primary.of_class or 'target'}, {primary.in_set}, {primary.test}",
        "small": str(small),
    }
    found = {
        f"{safe_name(in_set).replace('%', '_')}/{safe_name(arm).replace('%', '_')}/{key}": value
        for in_set, tables in results.cases.items()
        for arm, table in tables.items()
        for key, value in scores(table).items()
    }
    tags = {
        "mlflow.note.content": study.question,
        "problems": " ".join(results.problems),
        **{f"version.{key}": text for key, text in versions().items()},
    }
    _write(client, run, parameters, tags, _metrics(run, found))
    for name in ("study.json", "report.html"):
        client.log_artifact(run.info.run_id, str(output / name))
    for name in ("tables", "evaluation"):
        client.log_artifacts(run.info.run_id, str(output / name), name)
    return run


def _fold_run(client: MlflowClient, parent: Run, results: Results, name: str, arm: PlannedArm, fold: Fold) -> None:
    """Write a training; where it is there as it is now, nothing is sent."""
    made_from = json.loads((fold.folder / RECORD).read_text(encoding="utf-8"))["inputs"]
    digest, weights = _digest(made_from), fold.weights(results.study.checkpoint)
    own = {str(case["case"]) for case in fold.validation}
    table = results.cases.get(OUT_OF_FOLD, {}).get(name)
    mine = None if table is None else table[table["case"].isin(own)]
    found = {} if mine is None or mine.empty else scores(mine)
    written = _digest({"weights": file_digest(str(weights), weights.name), "scores": found})

    experiment, parent_id = parent.info.experiment_id, parent.info.run_id
    here = (
        f"tags.`mlflow.parentRunId` = '{parent_id}' AND tags.arm = '{safe_name(name)}' AND tags.fold = '{fold.number}'"
    )
    run = _found(client, experiment, f"{here} AND tags.`{TRAINING}` = '{digest}'")
    if run is not None and run.data.tags.get(WRITTEN) == written:
        return
    if run is None:
        tags = {"mlflow.parentRunId": parent_id, "arm": safe_name(name), "fold": str(fold.number), TRAINING: digest}
        earlier = client.search_runs([experiment], here)
        run = client.create_run(experiment, tags=tags, run_name=f"{name}, fold {fold.number}")
        for one in earlier:
            client.set_tag(one.info.run_id, REPLACED, run.info.run_id)
    parameters = {
        "arm": name,
        "fold": str(fold.number),
        "bundle": fold.bundle.name,
        "configs": ", ".join(Path(one).name for one in arm.arm.configs),
        "start": ", ".join(filter(None, [arm.arm.organ_from, arm.arm.pretrained_from])),
        **{f"overrides.{key.replace('#', '.')}": json.dumps(value) for key, value in arm.arm.overrides.items()},
    }
    learned = {
        (key, step): value for key, curve in curves(fold.folder / "log.txt").items() for step, value in curve.items()
    }
    code = {f"code.{key}": text for key, text in made_from.get("code", {}).items()}
    _write(client, run, parameters, code, [*_metrics(run, found), *_steps(learned)])
    run_id = run.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        write_resolved(fold, Path(folder))
        client.log_artifacts(run_id, folder)
    for file in (weights, weights.with_suffix(".json")):
        if file.is_file():
            client.log_artifact(run_id, str(file), "model")
    if (fold.folder / "log.txt").is_file():
        client.log_artifact(run_id, str(fold.folder / "log.txt"))
    client.set_tag(run_id, WRITTEN, written)
    client.set_terminated(run_id)


def write_resolved(fold: Fold, folder: Path) -> None:
    """Write `config.json`, all files of a training as one with its overrides in place, and `command.txt`."""
    from monai.bundle import ConfigParser

    files, overrides = fold.training_run()
    parser = ConfigParser()
    parser.read_config([str(fold.bundle / file) for file in files])
    for key, value in overrides.items():
        parser[key] = value
    ConfigParser.export_config_file(parser.get(), str(folder / "config.json"), indent=4)
    command = shown_command(fold.bundle, bundle_command(fold.bundle, files, overrides, fold.processes))
    (folder / "command.txt").write_text(f"{command}\n", encoding="utf-8")


def _write(
    client: MlflowClient, run: Run, parameters: Mapping[str, str], tags: Mapping[str, str], metrics: list[Metric]
) -> None:
    """Add what a run does not have yet; the digest that found it says that its parameters are the same."""
    from mlflow.entities import Param, RunTag

    for key, text in parameters.items():
        if key not in run.data.params:
            shown = text if len(text) <= PARAMETER else "too long: see the artifacts"
            client.log_batch(run.info.run_id, params=[Param(key, shown)])
    client.log_batch(run.info.run_id, tags=[RunTag(key, text[:TAG]) for key, text in tags.items()])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])


def _metrics(run: Run, found: Mapping[str, float]) -> list[Metric]:
    """Scores that are not what the run last said."""
    return _steps({(key, 0): value for key, value in found.items() if run.data.metrics.get(key) != value})


def _steps(found: Mapping[tuple[str, int], float]) -> list[Metric]:
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, value, now, step) for (key, step), value in found.items()]


def _found(client: MlflowClient, experiment_id: str, wanted: str) -> Run | None:
    runs = client.search_runs([experiment_id], wanted, max_results=1)
    return runs[0] if runs else None


def _every(content: Datalist) -> list[Case]:
    return [*content.training, *content.testing]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _database(uri: str) -> Path:
    return Path(uri.split("///", 1)[-1]).resolve()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's account of its database's migrations off the screen."""
    import logging

    loggers: Iterable[logging.Logger] = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [(one, one.level) for one in loggers]
    for one, _ in before:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in before:
            one.setLevel(level)
