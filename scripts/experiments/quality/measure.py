"""Signs and true DSC of the cases of a datalist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_networks import CaseError
from custom_networks.data.checks import check_grid
from scripts.core.classes import Classes
from scripts.core.datalist import Case, Datalist
from scripts.core.predictions import MadeBy, read_pair, region
from scripts.core.reading import each_case, one_sentence, read
from scripts.experiments.quality.places import Place, Usual, places, usual
from scripts.experiments.quality.signs import Signs, against, signs


@dataclass(frozen=True)
class Measured:
    """One case.

    Args:
        case: it.
        signs: of each structure of the prediction, without those against the training labels.
        where: the places of the prediction.
        truth: the places of the label.
        dsc: true DSC by structure; NaN where neither has it.
    """

    case: Case
    signs: Sequence[Signs]
    where: Mapping[str, Place | None]
    truth: Mapping[str, Place | None]
    dsc: Mapping[str, float]


def measure_signs(
    cases: Sequence[Case], folder: Path, classes: Classes, modality: str, made: MadeBy, workers: int
) -> tuple[list[Measured], list[CaseError]]:
    """Signs and DSC of cases that have a label and a prediction.

    Args:
        cases: with labels.
        folder: of the predictions.
        classes: name to label values.
        modality: of `CT` metal is looked for in the image.
        made: what is known of the predictions.
        workers: cases at once.

    Returns:
        Those that could be measured, in order, and what is wrong with the others.
    """

    def work(case: Case) -> Measured:
        with one_sentence(case.name, "label, prediction or image"):
            truth, guess, affine = read_pair(case, folder)
            if guess is None:
                raise CaseError(case.name, f"it has no prediction in {folder}", "predict it, or leave it out")
            return _measured(case, truth, guess, affine, classes, _hounsfield(case, modality, truth, affine), made)

    return each_case(work, cases, "signs", workers)


def usual_places(
    cases: Sequence[Case], classes: Classes, workers: int
) -> tuple[dict[str, Mapping[str, Place | None]], list[CaseError]]:
    """Case to the places in its label, of cases with labels, and what is wrong with the others."""

    def work(case: Case) -> tuple[str, Mapping[str, Place | None]]:
        label, affine = read(str(case.label), case.name, "label")
        return case.name, places(label, affine, classes)

    found, failed = each_case(work, [case for case in cases if case.label], "training labels", workers)
    return dict(found), failed


def with_usual(
    measured: Sequence[Measured], datalist: Datalist, known: Mapping[str, Mapping[str, Place | None]]
) -> dict[str, list[Signs]]:
    """Case to its signs, volume and place told against training labels of other folds (and of other patients) alone.

    Args:
        measured: cases of either section.
        datalist: whose training cases `known` is of.
        known: case to the places in its label.
    """
    cache: dict[tuple[int | None, str], Mapping[str, Usual]] = {}
    found = {}
    for one in measured:
        # a whole fold is left out, as its network has not seen it; a held-out case leaves out its patient, who has none
        key = (one.case.fold, "" if one.case.fold is not None else one.case.patient)
        if key not in cache:
            others = [
                known[case.name]
                for case in datalist.training
                if case.name in known and case.patient != one.case.patient and (key[0] is None or case.fold != key[0])
            ]
            cache[key] = usual(others)
        found[one.case.name] = against(one.signs, one.where, cache[key])
    return found


def _measured(
    case: Case,
    truth: np.ndarray,
    guess: np.ndarray,
    affine: np.ndarray,
    classes: Classes,
    ct: np.ndarray | None,
    made: MadeBy,
) -> Measured:
    entropy, agreed = made.of(case)
    found = signs(guess, affine, classes, ct=ct, entropy=entropy, agreed=agreed)
    dsc = {}
    for name, values in classes.items():
        one, two = region(truth, values), region(guess, values)
        total = int(one.sum()) + int(two.sum())
        dsc[name] = 2 * int((one & two).sum()) / total if total else math.nan
    return Measured(case, found, places(guess, affine, classes), places(truth, affine, classes), dsc)


def _hounsfield(case: Case, modality: str, label: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    if modality.upper() != "CT":
        return None
    image, grid = read(case.image, case.name)
    check_grid(case.name, f"image {case.image}", (image, grid), (label, affine))
    return image
