"""What weights were trained on: a record beside them, so that nobody scores them on their own training cases unawares."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom_networks.data.datalist import case_name
from custom_networks.errors import CaseError
from custom_networks.options import check_options

RECORD = "training_cases.json"
SECTIONS = ("validation", "testing")

logger = logging.getLogger(__name__)


class RecordTrainingCases:
    """Handler that writes which patients a training uses, before its first step, into every folder that gets its weights.

    The file `training_cases.json` holds salted digests of the patients and no name, so that it may travel with weights.

    Args:
        cases: training cases; a case without `patient` counts as a patient of its own.
        folders: where weights are written: `ckpt_dir` and `output_dir`.
        parts: weights that are a frozen part of the network, such as the organ network of two stages; their records
            are joined.
    """

    def __init__(
        self, cases: Sequence[Mapping[str, Any]], folders: Sequence[str | Path], parts: Sequence[str | Path] = ()
    ) -> None:
        self.cases, self.folders, self.parts = cases, folders, parts

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._write)

    def _write(self, engine: Engine) -> None:
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        salt = secrets.token_hex(8)
        own = {"salt": salt, "patients": sorted({_digest(salt, _patient(case)) for case in self.cases})}
        content = {"sets": [own, *(entry for part in self.parts for entry in _sets(part) or [])]}
        for folder in self.folders:
            file = Path(folder) / RECORD
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
            os.replace(unfinished, file)


def check_unseen_cases(cases: Sequence[Mapping[str, Any]], weights: str | Path | Sequence[str | Path]) -> None:
    """Refuse cases of patients that weights were trained on.

    Weights without a record, such as those of an earlier version, pass with a line in the log.

    Args:
        cases: what is to be predicted and scored.
        weights: one file, or several of an ensemble, each with its record in its folder.

    Raises:
        CaseError: a patient is among the training cases, or a record cannot be read.
    """
    for path in [weights] if isinstance(weights, (str, Path)) else weights:
        sets = _sets(path)
        if sets is None:
            logger.warning("%s has no %s beside it: whether it saw these cases is unknown", path, RECORD)
            continue
        seen = [case for case in cases if any(_digest(s["salt"], _patient(case)) in s["patients"] for s in sets)]
        if seen:
            raise CaseError(
                f"weights {path}",
                f"they were trained on {len(seen)} of the {len(cases)} cases to score, such as {case_name(seen[0])}",
                "pass the --fold they were trained for, or held-out cases (--section testing), or say that this is meant "
                "with --allow_training_cases True",
            )


def check_evaluation(
    section: str,
    cases: Sequence[Mapping[str, Any]],
    weights: str | Path | Sequence[str | Path],
    allow_training_cases: bool = False,
) -> None:
    """What an evaluation asks for, checked before anything is computed.

    Args:
        section: `validation` (the fold's own cases) or `testing`.
        cases: of that section.
        weights: see `check_unseen_cases`.
        allow_training_cases: score training cases knowingly.

    Raises:
        CaseError: another section, no case, or see `check_unseen_cases`.
    """
    check_options(allow_training_cases=allow_training_cases)
    if section not in SECTIONS:
        raise CaseError("option --section", f"{section!r} is no section", f"pass one of {', '.join(SECTIONS)}")
    if not cases:
        raise CaseError(f"section {section}", "it has no cases", "pass another --section or --datalist")
    if not allow_training_cases:
        check_unseen_cases(cases, weights)


def _patient(case: Mapping[str, Any]) -> str:
    return str(case.get("patient", case_name(case)))


def _digest(salt: str, patient: str) -> str:
    return hashlib.sha256(f"{salt}\n{patient}".encode()).hexdigest()


def _sets(weights: str | Path) -> list[dict[str, Any]] | None:
    file = Path(weights).parent / RECORD
    if not file.is_file():
        return None
    try:
        sets: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["sets"]
        for entry in sets:
            str(entry["salt"]), set(entry["patients"])
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"record {file}", "it is damaged", "delete it and check by hand what was trained on") from error
    return sets
