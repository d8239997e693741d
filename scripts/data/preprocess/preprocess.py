"""`preprocess`: a bundle's deterministic transforms once, to memory-mapped arrays and a datalist."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from custom_networks.prepare import PARTIAL, case_folder
from scripts.core.datalist import Case, Datalist, distinct_names, write_datalist
from scripts.core.files import write_text
from scripts.core.jobs import in_processes, on_cluster
from scripts.data.preprocess.case import Job, Outcome, kept, load_config, lost, process, recipe

STALE_SECONDS = 24 * 3600


def preprocess(
    bundle: str,
    datalist: str,
    output: str,
    workers: int = 2,
    overrides: str | Sequence[str] = (),
    dtype: str = "float32",
    scheduler: str | None = None,
) -> int:
    """Apply the deterministic part of a bundle's training transforms once to every training case.

    The transforms are the bundle's own, from loading up to the first random one. `output` then holds `cases/` with
    memory-mapped arrays, `datalist.json`, and `mapped.json`, an override with which the bundle reads crops from them:
    `--config_file "['configs/train.json','OUTPUT/mapped.json']" --dataset_dir OUTPUT`. A run that was interrupted goes
    on where it stopped; a case whose files or transforms have changed is done again. The held-out cases stay as they
    are, for evaluation on their own grid.

    Args:
        bundle: the bundle's folder.
        datalist: the datalist.
        output: folder to write.
        workers: processes on this machine, each with one case at a time; 0 works in this process.
        overrides: one or several override files, such as `plan.json`; they are contained in `mapped.json`.
        dtype: `float32`, as training sees it, or `float16`, half the size at 0.05 % rounding.
        scheduler: address of a Dask scheduler to use instead of `workers`.

    Returns:
        0, or 1 if a case had to be left out; `quarantine.json` says why.

    Raises:
        CaseError: the datalist or the bundle cannot be read, or two cases have one name.
    """
    from tqdm import tqdm

    path, target = Path(str(datalist)).resolve(), Path(output).resolve()
    content = Datalist.read(path)
    if dtype not in {"float32", "float16"}:
        raise CaseError("preprocess", f"there is no --dtype {dtype}", "choose float32 or float16")
    more = [overrides] if isinstance(overrides, str) else list(overrides)
    config = load_config([Path(bundle) / "configs" / "train.json", *more])
    job = Job(str(bundle), json.dumps(config), str(target), dtype)
    cases = list(content.training)
    distinct_names(cases, str(path))
    override = {**read_overrides(more), **mapped_override(job, len(recipe(job).transforms))}
    (target / "cases").mkdir(parents=True, exist_ok=True)
    _remove_stale(target / "cases")
    begin = time.perf_counter()
    finished = [outcome for case in cases if (outcome := kept(job, case)) is not None]
    outcomes = {outcome.case: outcome for outcome in finished}
    cases = [case for case in cases if case.name not in outcomes]
    work = partial(process, job)
    run = on_cluster(work, cases, scheduler, lost) if scheduler else in_processes(work, cases, workers, lost)
    with tqdm(run, total=len(cases), desc="preprocess", unit="case", disable=None, smoothing=0.1) as bar:
        for _, outcome in bar:
            outcomes[outcome.case] = outcome
            bad = sum(one.status == "quarantined" for one in outcomes.values())
            bar.set_postfix_str(f"{bad} quarantined" if bad else "", refresh=False)
    quarantined = {name: one.reason for name, one in outcomes.items() if one.status == "quarantined"}
    keys = next((one.keys for one in outcomes.values() if one.keys), ())
    write_text(target / "quarantine.json", json.dumps(quarantined, indent=4, ensure_ascii=False) + "\n")
    if keys:
        write_text(target / "mapped.json", json.dumps(with_keys(override, keys), indent=4, ensure_ascii=False) + "\n")
    write_datalist(target / "datalist.json", _mapped_datalist(content, target, outcomes))
    _report(outcomes, quarantined, target, time.perf_counter() - begin)
    return 1 if quarantined else 0


def _report(outcomes: dict[str, Outcome], quarantined: dict[str, str], target: Path, seconds: float) -> None:
    for name, reason in quarantined.items():
        print(f"quarantined: {name}: {reason}.")
    counts = {status: sum(one.status == status for one in outcomes.values()) for status in ("done", "kept")}
    print(
        f"{counts['done']} cases preprocessed, {counts['kept']} kept from before, {len(quarantined)} quarantined, in "
        f"{seconds:.1f} s: {target / 'datalist.json'}"
    )
    place = target.resolve()  # the command is typed in the bundle's folder, not here
    print(f"""use: --config_file "['configs/train.json','{place}/mapped.json']" --dataset_dir {place}""")


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


def mapped_override(job: Job, stored: int) -> dict[str, Any]:
    """The override that makes a bundle read what `preprocess` writes.

    Args:
        job: holds the bundle's configuration.
        stored: how many transforms are done beforehand.

    Returns:
        Ids and values; `with_keys` completes them.

    Raises:
        CaseError: the bundle validates on other deterministic transforms than it trains on.
    """
    from monai.bundle import ConfigParser

    override: dict[str, Any] = {}
    config = ConfigParser(json.loads(job.config))
    if "check_data" in config.get():
        # the check reads NIfTI; it was made before these arrays were
        override["check_data"] = False
    for part in ("train", "validate"):
        if part not in config.get() or "preprocessing" not in config[part]:
            continue
        if part == "validate" and recipe(job, "validate").steps[:stored] != recipe(job).steps:
            raise CaseError(
                f"bundle {job.bundle}",
                "its validation begins with other transforms than its training",
                "let both begin with the same list of transforms",
            )
        override[f"{part}#file_transforms"] = config[f"{part}#preprocessing#transforms"]
        crop = "True" if part == "train" else "False"
        override[f"{part}#preprocessing#transforms"] = (
            f"$custom_networks.mapped_transforms(@{part}#file_transforms, {stored}, KEYS, {crop})"
        )
    return override


def with_keys(override: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Fill the stored keys, known once a case is done, into the expressions of `mapped_override`."""
    return {
        name: value.replace("KEYS", repr(list(keys)))
        if name.endswith("#preprocessing#transforms") and isinstance(value, str)
        else value
        for name, value in override.items()
    }


def _mapped_datalist(content: Datalist, target: Path, outcomes: dict[str, Outcome]) -> Datalist:
    moved = content.moved(target)
    training: list[Case] = []
    for case in moved.training:
        outcome = outcomes.get(case.name)
        if outcome is not None and outcome.keys:
            folder = case_folder(Path("cases"), case.entry()).as_posix()
            arrays = {key: f"{folder}/{key}.npy" for key in outcome.keys}
            training.append(replace(case, files={**case.files, **arrays}))
    return replace(moved, training=training)
