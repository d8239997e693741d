"""`split`: patient-grouped folds and a held-out set, balanced by label volume."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist, Patients, write_datalist
from scripts.core.reading import all_of, each_case
from scripts.core.statistics import KnownStatistics
from scripts.core.tables import text_table
from scripts.data.split.balance import assign

TEST = -1


def split(
    datalist: str,
    folds: int = 5,
    test: float = 0.2,
    seed: int = 0,
    previous: str | None = None,
    output: str | None = None,
    reset: bool = False,
    workers: int = 2,
    patients: Patients = "named",
) -> None:
    """Write patient-grouped folds and a held-out set into a datalist (decisions P13 and G17).

    All cases of a patient go to the same place. Places are balanced by the number of patients and cases, the volume of
    every label, and the number of patients in whom it is present. Patients who have a place keep it, so the split
    stays as it was when cases are added; only new patients are placed.

    Args:
        datalist: the datalist; its labels are read.
        folds: number of folds.
        test: share of the patients held out (`testing`), 0 for none.
        seed: decides between equally good places.
        previous: an earlier datalist whose folds and held-out set are kept, matched by patient; default the datalist.
        output: where to write; default the datalist itself, replaced at once.
        reset: place every patient anew.
        workers: threads that read labels.
        patients: `named` refuses a case without a patient; `each` says that such a case is a patient of its own, and
            writes that.

    Raises:
        CaseError: unreadable datalist or label, too few patients, a patient in two places, other folds than before.
    """
    path = Path(str(datalist))
    content = Datalist.read(path, patients=patients)
    cases = content.cases
    if not isinstance(folds, int) or folds < 2 or not 0 <= test < 1:
        raise CaseError(
            f"split {path}",
            f"{folds} folds and a held-out share of {test} cannot be made",
            "pass --folds 2 or more and --test from 0 to below 1",
        )
    places = (
        {}
        if reset
        else existing_places(
            Datalist.read(previous, patients=patients) if previous else content, folds, previous or path
        )
    )
    people = sorted({case.patient for case in cases})
    needed = folds + (1 if test > 0 else 0)
    if len(people) < needed:
        raise CaseError(
            f"split {path}",
            f"{len(people)} patients cannot fill {needed} places",
            "pass a smaller --folds, or --test 0, or add patients",
        )
    amounts = patient_amounts(cases, list(content.labels), KnownStatistics(path.parent), workers)
    bins = [*range(folds), TEST] if test > 0 else list(range(folds))
    bins += [TEST] if TEST in places.values() and TEST not in bins else []
    shares = {place: test if place == TEST else (1 - test) / folds for place in bins}
    table = np.stack([amounts[patient] for patient in people])
    fixed = {i: places[patient] for i, patient in enumerate(people) if patient in places}
    chosen = assign(table, shares, fixed, seed)
    place_of = dict(zip(people, chosen, strict=True))
    content = replace(
        content,
        training=[replace(c, fold=place_of[c.patient]) for c in cases if place_of[c.patient] != TEST],
        testing=[replace(c, fold=None) for c in cases if place_of[c.patient] == TEST],
    )
    target = write_datalist(output or path, content)
    print(text_table(_summary(content, place_of, amounts, bins)))
    print(f"\n{len(fixed)} patients kept their place, {len(people) - len(fixed)} were placed: {target}")


def existing_places(content: Datalist, folds: int, where: str | Path) -> dict[str, int]:
    """Places that patients have in a datalist: patient to fold, or -1 for the held-out set.

    Raises:
        CaseError: a patient in two places, or folds that the new number of folds does not hold.
    """
    found: dict[str, set[int]] = defaultdict(set)
    for case in content.testing:
        found[case.patient].add(TEST)
    for case in content.training:
        if case.fold is not None:
            found[case.patient].add(case.fold)
    for patient, places in found.items():
        if len(places) > 1:
            names = " and ".join("the held-out set" if p == TEST else f"fold {p}" for p in sorted(places))
            raise CaseError(
                f"patient {patient}",
                f"datalist {where} has this patient in {names}",
                "pass --reset to place every patient anew",
            )
    present = {next(iter(places)) for places in found.values()} - {TEST}
    if present and present != set(range(folds)):
        raise CaseError(
            f"datalist {where}",
            f"it has folds {sorted(present)}, not 0 to {folds - 1}",
            f"pass --folds {max(present) + 1} to keep them or --reset to make new ones",
        )
    return {patient: next(iter(places)) for patient, places in found.items()}


def patient_amounts(
    cases: list[Case], labels: list[int], known: KnownStatistics, workers: int
) -> dict[str, np.ndarray]:
    """What is balanced, per patient: patients (1), cases, then volume in ml and presence of each label.

    Args:
        cases: with or without a label.
        labels: label values; 0 is left out.
        known: what was counted before; labels that it lacks are read.
        workers: threads that read labels.

    Returns:
        Patient to an array (2 + 2 * foreground labels,).

    Raises:
        CaseError: labels cannot be read; all of them are named.
    """
    foreground = [value for value in labels if value]

    def volumes(case: Case) -> np.ndarray:
        if case.label is None or not foreground:
            return np.zeros(len(foreground))
        found = known.label(case.label, case.name)
        return np.array([found.ml(value) for value in foreground])

    measured, errors = each_case(volumes, cases, "labels", workers)
    known.save()
    if errors:
        raise all_of(errors, "their labels", "correct them or leave the cases out of the datalist")
    amounts: dict[str, np.ndarray] = {}
    for case, volume in zip(cases, measured, strict=True):
        row = amounts.setdefault(case.patient, np.r_[1.0, 0.0, np.zeros(2 * len(foreground))])
        row[1] += 1
        row[2 : 2 + len(foreground)] += volume
        row[2 + len(foreground) :] = np.maximum(row[2 + len(foreground) :], volume > 0)
    return amounts


def _summary(
    content: Datalist, place_of: dict[str, int], amounts: dict[str, np.ndarray], bins: list[int]
) -> list[dict[str, Any]]:
    foreground = {value: name for value, name in content.labels.items() if value}
    rows = []
    for place in bins:
        total = sum((amounts[p] for p, at in place_of.items() if at == place), np.zeros(2 + 2 * len(foreground)))
        row: dict[str, Any] = {
            "place": "held out" if place == TEST else f"fold {place}",
            "patients": int(total[0]),
            "cases": int(total[1]),
        }
        for i, name in enumerate(list(foreground.values())[:8]):
            row[f"{name} ml"] = float(total[2 + i])
            row[f"with {name}"] = int(total[2 + len(foreground) + i])
        rows.append(row)
    return rows
