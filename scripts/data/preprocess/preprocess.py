"""`preprocess`: the arrays that a bundle's training reads, made beforehand, on a cluster if there is one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from custom_networks.data.checks import check_values
from custom_networks.data.prepare import DTYPES, PARTIAL, Recipe
from scripts.core.datalist import Case, Datalist, distinct_names, write_datalist
from scripts.core.files import write_text
from scripts.core.jobs import in_processes, on_cluster
from scripts.core.reading import each_case
from scripts.core.statistics import KnownStatistics
from scripts.data.preprocess.case import Job, Outcome, cases_folder, kept, load_config, lost, process, recipe

STALE_SECONDS = 24 * 3600
RECIPE = "recipe.json"


def preprocess(
    bundle: str,
    datalist: str,
    output: str,
    workers: int = 2,
    overrides: str | Sequence[str] = (),
    dtype: str | None = None,
    scheduler: str | None = None,
) -> int:
    """Apply the deterministic part of a bundle's training transforms once to every training case.

    The transforms are the bundle's own, from loading up to the first random one. The CT bundles do the same when they
    are trained; this does it on another machine or a cluster, leaves out the cases that cannot be used, and does it for
    the other bundles too. `output` then holds the arrays, `datalist.json`, and `prepared.json`, an override with which
    the bundle reads crops from them: `--config_file "['configs/train.json','OUTPUT/prepared.json']" --dataset_dir
    OUTPUT`. A run that was interrupted goes on where it stopped; a case whose files or transforms have changed is done
    again. The held-out cases stay as they are, for evaluation on their own grid.

    Args:
        bundle: the bundle's folder.
        datalist: the datalist.
        output: folder to write.
        workers: processes on this machine, each with one case at a time; 0 works in this process.
        overrides: one or several override files, such as `plan.json`; they are contained in `prepared.json`.
        dtype: `int16`, in steps of 1/65,534 of an image's range, `float16`, coarser for CT, or `float32`, exact and twice
            as large; default the bundle's own `prepared_dtype`, else int16.
        scheduler: address of a Dask scheduler to use instead of `workers`.

    Returns:
        0, or 1 if a case had to be left out; `quarantine.json` says why.

    Raises:
        CaseError: the datalist or the bundle cannot be read, or two cases have one name.
    """
    from tqdm import tqdm

    path, target = Path(str(datalist)).resolve(), Path(output).resolve()
    content = Datalist.read(path)
    if dtype not in {None, *DTYPES}:
        raise CaseError("preprocess", f"there is no --dtype {dtype}", f"choose {', '.join(DTYPES)}")
    more = [overrides] if isinstance(overrides, str) else list(overrides)
    config = load_config([Path(bundle) / "configs" / "train.json", *more])
    job = Job(str(bundle), json.dumps(config), str(target), dtype or config.get("prepared_dtype", "int16"))
    cases = list(content.training)
    distinct_names(cases, str(path))
    override = {**read_overrides(more), **prepared_override(job)}
    _refuse_other(target)
    cases_folder(job).mkdir(parents=True, exist_ok=True)
    _remove_stale(cases_folder(job))
    begin = time.perf_counter()
    _note_recipe(target, recipe(job))
    outcomes = _unusable_labels(cases, content, path.parent, workers)
    cases = [case for case in cases if case.name not in outcomes]
    outcomes |= {outcome.case: outcome for case in cases if (outcome := kept(job, case)) is not None}
    cases = [case for case in cases if case.name not in outcomes]
    work = partial(process, job)
    run = on_cluster(work, cases, scheduler, lost) if scheduler else in_processes(work, cases, workers, lost)
    with tqdm(run, total=len(cases), desc="preprocess", unit="case", disable=None, smoothing=0.1) as bar:
        for _, outcome in bar:
            outcomes[outcome.case] = outcome
            bad = sum(one.status == "quarantined" for one in outcomes.values())
            bar.set_postfix_str(f"{bad} quarantined" if bad else "", refresh=False)
    quarantined = {name: one.reason for name, one in outcomes.items() if one.status == "quarantined"}
    write_text(target / "quarantine.json", json.dumps(quarantined, indent=4, ensure_ascii=False) + "\n")
    write_text(target / "prepared.json", json.dumps(override, indent=4, ensure_ascii=False) + "\n")
    usable = [case for case in content.training if case.name not in quarantined]
    write_datalist(target / "datalist.json", replace(content, training=usable))
    _report(outcomes, quarantined, target, time.perf_counter() - begin)
    return 1 if quarantined else 0


def _refuse_other(target: Path) -> None:
    """The datalist of a data set is not overwritten by that of its preprocessed cases."""
    path = target / "datalist.json"
    if path.exists() and not any((target / name).exists() for name in (RECIPE, "prepared.json")):
        raise CaseError(
            f"output {target}", "it holds the datalist.json of another data set", "pass a folder of its own as --output"
        )


def _unusable_labels(cases: Sequence[Case], content: Datalist, folder: Path, workers: int) -> dict[str, Outcome]:
    """Labels with values that are no whole numbers or that the datalist does not know; training would take them."""
    known = KnownStatistics(folder)

    def check(case: Case) -> None:
        # a file that is missing or damaged is told when the case is prepared
        if case.label is not None and Path(case.label).is_file():
            found = known.label(case.label, case.name).voxels
            if content.labels:
                check_values(case.name, f"label {case.label}", np.array(list(found)), list(content.labels))

    _, errors = each_case(check, cases, "labels", max(1, workers))
    known.save()
    return {error.case: Outcome(error.case, "quarantined", f"{error.problem}; {error.remedy}") for error in errors}


def _note_recipe(target: Path, recipe: Recipe) -> None:
    """Keep what the cases are made with, and say what has changed since they were made."""
    path, steps = target / RECIPE, [json.loads(step) for step in recipe.steps]
    now = {"dtype": recipe.dtype, "transforms": steps}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = ["dtype"] if before["dtype"] != now["dtype"] else []
        for old, new in zip_longest(before["transforms"], steps):
            if old != new:
                changed.append((new or old)["class"])
        if changed:
            print(f"made anew with another {', '.join(changed)}; what was made before stays beside it in {target}")
    write_text(path, json.dumps(now, indent=4) + "\n")


def _report(outcomes: dict[str, Outcome], quarantined: dict[str, str], target: Path, seconds: float) -> None:
    for name, reason in quarantined.items():
        print(f"quarantined: {name}: {reason}.")
    counts = {status: sum(one.status == status for one in outcomes.values()) for status in ("done", "kept")}
    print(
        f"{counts['done']} cases preprocessed, {counts['kept']} kept from before, {len(quarantined)} quarantined, in "
        f"{seconds:.1f} s: {target / 'datalist.json'}"
    )
    place = target.resolve()  # the command is typed in the bundle's folder, not here
    print(f"""use: --config_file "['configs/train.json','{place}/prepared.json']" --dataset_dir {place}""")


def _remove_stale(folder: Path) -> None:
    """What an interrupted run left half-written; young ones may belong to a run that is still going."""
    for left in folder.glob(f"{PARTIAL}*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def read_overrides(files: Sequence[str]) -> dict[str, Any]:
    """Override files as one, with ids such as `train#trainer#max_epochs` as they are written."""
    from monai.bundle import ConfigParser

    # that they can be read has been seen when the whole configuration was
    return {key: value for file in files for key, value in ConfigParser.load_config_file(str(file)).items()}


def prepared_override(job: Job) -> dict[str, Any]:
    """The override that makes a bundle read what `preprocess` writes.

    Args:
        job: holds the bundle's configuration.

    Returns:
        Ids and values.

    Raises:
        CaseError: the bundle validates on other deterministic transforms than it trains on.
    """
    from monai.bundle import ConfigParser

    config = ConfigParser(json.loads(job.config))
    if "prepared_dir" in config.get():
        return {"prepared_dir": "@dataset_dir", "prepared_dtype": job.dtype}
    override: dict[str, Any] = {}
    steps = recipe(job).steps
    for part in ("train", "validate"):
        if part not in config.get() or "preprocessing" not in config[part]:
            continue
        if part == "validate" and recipe(job, "validate").steps[: len(steps)] != steps:
            raise CaseError(
                f"bundle {job.bundle}",
                "its validation begins with other transforms than its training",
                "let both begin with the same list of transforms",
            )
        override[f"{part}#dataset"] = {
            "_target_": "custom_networks.PreparedDataset",
            "data": config[part]["dataset"]["data"],
            "transform": f"@{part}#preprocessing",
            "cache_dir": "@dataset_dir",
            "dtype": job.dtype,
            "stored": len(steps),
        }
    return override
