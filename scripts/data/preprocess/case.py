"""What a worker of `preprocess` does: a bundle's own deterministic transforms, applied to one case."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from custom_networks.data.datasets import deterministic_part
from custom_networks.data.prepare import Recipe, first_line, prepare_case, prepared_keys
from scripts.core.datalist import Case

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Job:
    """What every case of a run has in common; small, hashable and fit for sending.

    Args:
        bundle: its folder, for messages.
        config: JSON text of its train configuration with all overrides; workers need no file of the bundle.
        output: folder that is written.
        dtype: of what is stored.
    """

    bundle: str
    config: str
    output: str
    dtype: str


@dataclass
class Outcome:
    """What became of a case.

    Args:
        case: its name.
        status: `done`, `kept` (was there) or `quarantined`.
        reason: one sentence, for a quarantined case.
        keys: keys that are stored.
        seconds: spent on it.
    """

    case: str
    status: str
    reason: str = ""
    keys: tuple[str, ...] = ()
    seconds: float = 0.0


def load_config(files: Sequence[str | Path]) -> dict[str, Any]:
    """A bundle's configuration files as one, the later overriding the earlier.

    Raises:
        CaseError: a file cannot be read.
    """
    from monai.bundle import ConfigParser

    try:
        config = ConfigParser.load_config_files([str(file) for file in files])
    except (OSError, ValueError, KeyError) as error:
        raise CaseError(
            f"bundle configuration {', '.join(map(str, files))}",
            f"it cannot be read ({first_line(error)})",
            "correct the file or pass another --bundle or --overrides",
        ) from error
    return dict(config)


@lru_cache(maxsize=4)
def recipe(job: Job, part: str = "train") -> Recipe:
    """The deterministic transforms of a bundle, made once per process.

    Args:
        job: holds the bundle's configuration.
        part: `train` or `validate`.

    Raises:
        CaseError: the bundle has no such transforms.
    """
    from monai.bundle import ConfigParser

    try:
        parser = ConfigParser(json.loads(job.config))
        found = deterministic_part(parser.get_parsed_content(f"{part}#preprocessing"))
    except Exception as error:
        raise CaseError(
            f"bundle {job.bundle}",
            f"its {part}#preprocessing cannot be built ({first_line(error)})",
            "check the overrides",
        ) from error
    if not found:
        raise CaseError(f"bundle {job.bundle}", "it has no deterministic transform", "nothing is to be preprocessed")
    return Recipe(found, job.dtype)


def kept(job: Job, case: Case) -> Outcome | None:
    """The outcome of a case that an earlier run has done with the same transforms and files, else None."""
    keys = prepared_keys(case.entry(), recipe(job), cases_folder(job))
    return Outcome(case.name, "kept", keys=keys) if keys else None


def cases_folder(job: Job) -> Path:
    """Where a run's cases are."""
    return recipe(job).folder(job.output)


def process(job: Job, case: Case) -> Outcome:
    """Preprocess one case. Whatever is wrong with it ends in its outcome, not in an exception.

    Args:
        job: what all cases have in common.
        case: of a datalist.

    Returns:
        The outcome.
    """
    begin = time.perf_counter()
    try:
        keys, fresh = prepare_case(case.entry(), recipe(job), cases_folder(job))
    except CaseError as error:
        return Outcome(case.name, "quarantined", f"{error.problem}; {error.remedy}")
    seconds = time.perf_counter() - begin
    if fresh:
        _note(Path(job.output) / JOURNAL, {"case": case.name, "pid": os.getpid(), "seconds": round(seconds, 3)})
    return Outcome(case.name, "done" if fresh else "kept", keys=keys, seconds=seconds)


def lost(case: Case, reason: str) -> Outcome:
    """The outcome of a case whose process died."""
    return Outcome(case.name, "quarantined", reason)


def _note(path: Path, entry: Mapping[str, Any]) -> None:
    # one write of one short line to a file opened for appending is not torn apart by others
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
