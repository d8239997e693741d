"""`python -m scripts quality`: which signs of a contour tell that it is bad, fitted where labels exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from custom_networks import CaseError
from scripts.core.classes import Classes, read_classes
from scripts.core.datalist import Datalist, Patients, distinct_names
from scripts.core.predictions import MadeBy, find_prediction, made_by
from scripts.core.tables import text_table, write_csv
from scripts.experiments.quality.file import NAME, Quality
from scripts.experiments.quality.measure import Measured, measure_signs, usual_places, with_usual
from scripts.experiments.quality.model import Model, fit
from scripts.experiments.quality.places import usual
from scripts.experiments.quality.reliability import draw
from scripts.experiments.quality.signs import Signs


def quality(
    datalist: str,
    predictions: str,
    output: str,
    section: Literal["training", "testing"] = "training",
    thresholds: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    workers: int = 2,
    patients: Patients = "named",
) -> int:
    """Fit the probability that a contour's DSC is below a threshold, from signs that need no label; docs/quality.md.

    Writes to `output`: quality.json for `segment --quality`, `evaluate --quality` and `package --quality`, signs.csv (a row
    per case and structure) and reliability.png.

    Args:
        datalist: with labels.
        predictions: `out_of_fold` of a cross-validation; or, with --section testing, what `segment --folds` wrote.
        output: folder to write to.
        section: whose cases the predictions are of.
        thresholds: structure to the DSC below which its contour is bad, such as '{"HR-CTV": 0.73}'; others take the lower
            quartile of the cases.
        classes: names of structures; default all of the datalist.
        seed: of the cross-validation and the intervals.
        workers: cases read at once.
        patients: `each` takes a case without a patient for a patient of its own, instead of refusing it.

    Returns:
        0; 1 if a case could not be used or a structure got no model (after everything else was written).

    Raises:
        CaseError: networks saw the cases that they predicted, or no structure can be fitted.
    """
    content, folder, target = Datalist.read(datalist, patients=patients), Path(predictions), Path(output)
    named = read_classes(content, classes)
    wanted = _thresholds(thresholds or {}, named)
    made = made_by(folder)
    if section == "training" and made.networks > 1:
        problem = (
            f"its cases were each predicted by {made.networks} networks, all but one of which were trained on them"
        )
        raise CaseError(f"predictions {folder}", problem, "give out_of_fold, or held-out cases with --section testing")
    cases = [case for case in content.section(section) if case.label and find_prediction(folder, case) is not None]
    if not cases:
        problem = f"there is none for a labelled case of section '{section}'"
        raise CaseError(f"predictions {folder}", problem, "give the folder of the predicted label maps")
    distinct_names(cases, f"datalist {datalist}")
    measured, failed = measure_signs(cases, folder, named, content.modality, made, workers)
    known = {one.case.name: one.truth for one in measured} if section == "training" else {}
    more, unread = usual_places([case for case in content.training if case.name not in known], named, workers)
    known |= more
    found = with_usual(measured, content, known)
    fitted, told, without = _fit(measured, found, named, wanted, seed)
    problems = [str(error) for error in [*failed, *unread]]
    result = Quality(
        made.weights,
        made.networks,
        content.digest(),
        section,
        content.modality,
        named,
        usual(list(known.values())),
        fitted,
        without,
    )
    _write(target, measured, found, told, result)
    print(text_table([_line(name, model) for name, model in fitted.items()]))
    for sentence in [*without.values(), *problems, _bound_to(made)]:
        print(sentence)
    print(f"{target}: {NAME}, signs.csv, reliability.png")
    return int(bool(problems or without))


def _thresholds(given: Mapping[str, Any], classes: Classes) -> dict[str, float]:
    found = {}
    for name, value in given.items():
        if name not in classes:
            raise CaseError("--thresholds", f"{name!r} is no structure", f"name one of {', '.join(classes)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise CaseError("--thresholds", f"{value!r} of {name} is no DSC between 0 and 1", 'write {"HR-CTV": 0.73}')
        found[name] = float(value)
    return found


def _fit(
    measured: Sequence[Measured],
    found: Mapping[str, Sequence[Signs]],
    classes: Classes,
    thresholds: Mapping[str, float],
    seed: int,
) -> tuple[dict[str, Model], dict[tuple[str, str], float], dict[str, str]]:
    """Models, the probability of each case and structure by models of other patients, and why others have none."""
    models: dict[str, Model] = {}
    told: dict[tuple[str, str], float] = {}
    without: dict[str, str] = {}
    first: CaseError | None = None
    for index, name in enumerate(classes):
        rows = [
            (one.case.name, (found[one.case.name][index], one.dsc[name], one.case.patient))
            for one in measured
            if not found[one.case.name][index].empty
        ]
        try:
            models[name], numbers = fit(name, [row for _, row in rows], thresholds.get(name), seed)
        except CaseError as error:
            without[name], first = str(error), first or error
            continue
        told |= {(case, name): float(number) for (case, _), number in zip(rows, numbers, strict=True)}
    if not models and first is not None:
        raise first
    return models, told, without


def _write(
    target: Path,
    measured: Sequence[Measured],
    found: Mapping[str, Sequence[Signs]],
    told: Mapping[tuple[str, str], float],
    result: Quality,
) -> None:
    rows = [
        {
            "case": one.case.name,
            "patient": one.case.patient,
            **sign.row(),
            "dsc": one.dsc[sign.structure],
            "probability": told.get((one.case.name, sign.structure), math.nan),
        }
        for one in measured
        for sign in found[one.case.name]
    ]
    write_csv(target / "signs.csv", rows)
    draw(target / "reliability.png", result.models)
    result.write(target / NAME)


def _line(name: str, model: Model) -> dict[str, Any]:
    right = model.reliability
    assert right is not None
    return {
        "structure": name,
        "DSC below": f"{model.threshold:.3f}",
        "cases": f"{model.below} of {model.cases}",
        "patients": model.patients,
        **right.row(),
        "signs": " ".join(model.features),
    }


def _bound_to(made: MadeBy) -> str:
    if made.weights:
        return f"fitted for {len(made.weights)} files of weights"
    return "which weights predicted is not known: `segment` and `package` will refuse this file"
