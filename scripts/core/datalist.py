"""Writing of datalists and adding to them. The types and the reader are `custom_networks.data.datalist`'s, which bundles use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from custom_networks import CaseError
from custom_networks.data.datalist import (
    PATH_KEYS,
    SECTIONS,
    Case,
    Datalist,
    Patients,
    distinct_names,
    image_stem,
    safe_name,
)
from scripts.core.files import write_text

__all__ = [
    "PATH_KEYS",
    "SECTIONS",
    "Case",
    "Datalist",
    "Patients",
    "add_cases",
    "distinct_names",
    "existing",
    "image_stem",
    "safe_name",
    "write_datalist",
]


def write_datalist(path: str | Path, datalist: Datalist) -> Path:
    """Write a datalist with every entry it has, atomically; relative paths start from its new folder.

    Args:
        path: the JSON file.
        datalist: what to write.

    Returns:
        The path.

    Raises:
        CaseError: two cases have one name.
    """
    file = Path(path)
    distinct_names(datalist.cases, f"datalist {file}")
    content = datalist.moved(file.parent).written()
    return write_text(file, json.dumps(content, indent=4, ensure_ascii=False) + "\n")


def existing(path: str | Path, labels: Mapping[int, str], modality: str) -> Datalist | None:
    """The datalist that cases are to be added to, or None; to be asked before an import begins.

    Args:
        path: the datalist; it may not exist.
        labels: value to name of the new cases.
        modality: of the new cases.

    Raises:
        CaseError: the datalist that is there has other labels or another modality.
    """
    if not Path(path).exists():
        return None
    old = Datalist.read(path)
    for what, there, given in (
        ("labels are", dict(old.labels), dict(labels)),
        ("modality is", old.modality, modality),
    ):
        if there != given:
            raise CaseError(
                f"datalist {path}",
                f"its {what} {_shown(there)}, those of the new cases {_shown(given)}",
                "write to another folder, or move the one that is there away",
            )
    return old


def add_cases(path: str | Path, new: Datalist) -> Datalist:
    """The datalist in `path`, where there is one, with new cases; for an import into a data set that exists.

    A case that is there keeps its section, its fold and entries that the new one lacks. A new case of a patient who has
    a place goes there, any other to the section that `new` has it in, without a fold where `new` gives none.

    Args:
        path: the datalist that is to be written afterwards; it may not exist.
        new: what was imported.

    Returns:
        What to write.

    Raises:
        CaseError: the datalist that is there has other labels or another modality, or gives a case another patient.
    """
    old, where = existing(path, new.labels, new.modality), f"datalist {path}"
    if old is None:
        return new
    new = new.moved(Path(path).parent)
    known = {case.name: case for case in old.cases}
    held_out = {case.patient for case in old.testing}
    folds = {case.patient: case.fold for case in old.training if case.fold is not None}
    training, testing = list(old.training), list(old.testing)
    for section, cases in zip(SECTIONS, (new.training, new.testing), strict=True):
        for case in cases:
            there = known.get(case.name)
            if there is not None:
                if there.patient != case.patient:
                    raise CaseError(
                        case.name,
                        f"{where} says that it is of patient {there.patient}, not {case.patient}",
                        "import into another folder",
                    )
                _put(training, testing, there, _updated(there, case))
            elif case.patient in held_out or (section == "testing" and case.patient not in folds):
                testing.append(replace(case, fold=None))
            else:
                training.append(replace(case, fold=folds.get(case.patient, case.fold)))
    return replace(old, name=new.name or old.name, training=training, testing=testing)


def _put(training: list[Case], testing: list[Case], old: Case, new: Case) -> None:
    for cases in (training, testing):
        cases[:] = [new if case is old else case for case in cases]


def _updated(old: Case, new: Case) -> Case:
    return replace(old, files={**old.files, **new.files}, more={**old.more, **new.more})


def _shown(value: object) -> str:
    return (
        ", ".join(f"{k} {v}" for k, v in value.items()) or "none" if isinstance(value, dict) else str(value or "none")
    )
