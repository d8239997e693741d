"""`python -m scripts evaluate`: predictions against labels on the native grid."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from custom_networks import CaseError, case_name
from scripts.core.datalist import Case, Datalist, Patients, distinct_names
from scripts.experiments.evaluate import aggregate, significance
from scripts.experiments.evaluate import boxplots as drawing
from scripts.experiments.evaluate.measure import check_grids, find_prediction, measure, read_classes
from scripts.experiments.evaluate.page import write_report


def evaluate(
    datalist: str,
    predictions: str,
    output: str,
    section: Literal["training", "testing"] = "testing",
    classes: Any = None,
    compare: Any = None,
    pictures: int = 3,
    draws: int = 9999,
    seed: int = 0,
    workers: int = 2,
    patients: Patients = "named",
) -> int:
    """Compare predictions with labels: DSC, HD95 and ASD in mm (GynBTNet paper, section 3.1), pictures, tests.

    Writes to `output`: cases.csv (one row per case and class), summary.csv, pictures/*.png, report.html and, with
    --compare, statistics.csv and compare/NAME/{cases,summary}.csv. A case's prediction is CASE.nii.gz, CASE_pred.nii.gz,
    or what MONAI's SaveImaged writes (STEM/STEM_pred.nii.gz), on its label's grid. A missing prediction counts as a miss.

    Args:
        datalist: JSON with the labels' names and the cases.
        predictions: folder of predicted label maps.
        output: folder to write to.
        section: `testing` or `training` (out-of-fold predictions).
        classes: names to compare, such as organ,tumor, or a mapping such as '{"organ": [1, 2], "tumor": [2]}'; default the
            datalist's `regions`; else organ (tumour included) and tumor; else one class per label.
        compare: a folder of another model's predictions, or several separated by commas.
        pictures: number of cases to draw, from best to worst.
        draws: random permutations of the tests.
        seed: of the bootstrap and the tests.
        workers: cases measured at a time.
        patients: `each` takes a case without a patient for a patient of its own, instead of refusing it.

    Returns:
        0; 1 if a prediction is missing (after everything else was written).

    Raises:
        CaseError: a file is missing, unreadable or on another grid, or a class cannot be told.
    """
    content = Datalist.read(datalist, patients=patients)
    cases = _labelled(content.section(section), datalist, section)
    wanted, known = read_classes(datalist, classes)
    folders = _models(predictions, compare)
    for folder in folders.values():
        check_grids(cases, folder)
    target = Path(str(output))
    target.mkdir(parents=True, exist_ok=True)
    # MONAI warns of an argument that MONAI itself passes
    warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
    tables: dict[str, pd.DataFrame] = {}
    for i, (name, folder) in enumerate(folders.items()):
        tables[name] = measure(cases, folder, wanted, known, int(workers))
        _write(tables[name], target if i == 0 else target / "compare" / name, int(seed))
    table = next(iter(tables.values()))
    lines = aggregate.cells(aggregate.summarise(table, int(seed)))
    print(f"\n{aggregate.as_text(lines)}\n\n{textwrap.fill(aggregate.NOTE, 110)}")
    tests = None
    if len(tables) > 1:
        frame = significance.compare(tables, int(draws), int(seed))
        frame.to_csv(target / "statistics.csv", index=False, float_format="%.6g")
        tests = significance.cells(frame)
        print(f"\n{aggregate.as_text(tests, left=4)}\n\n{textwrap.fill(significance.NOTE, 110)}")
    modality = content.modality or "mr"
    images = drawing.write_pictures(
        tables, cases, folders[next(iter(tables))], wanted, modality, target / "pictures", int(pictures)
    )
    write_report(target / "report.html", table, lines, tests, images)
    print(f"\n{target}: cases.csv, summary.csv, pictures/, report.html")
    return _missing(cases, folders)


def _labelled(cases: Sequence[Case], datalist: str, section: str) -> list[dict[str, Any]]:
    labelled = [case for case in cases if case.label]
    if not labelled:
        raise CaseError(
            f"datalist {datalist}", f"its section '{section}' has no labelled case", "choose another --section"
        )
    distinct_names(labelled, f"datalist {datalist}")
    if len(labelled) < len(cases):
        print(f"{len(cases) - len(labelled)} of {len(cases)} cases have no label and are left out.")
    return [case.entry() for case in labelled]


def _models(predictions: str, compare: Any) -> dict[str, Path]:
    others = compare.split(",") if isinstance(compare, str) else [] if compare is None else list(compare)
    models: dict[str, Path] = {}
    for text in (predictions, *others):
        folder = Path(str(text).strip())
        if not folder.is_dir():
            raise CaseError(
                "evaluate", f"folder {folder} does not exist", "name the folder of the predicted label maps"
            )
        name = folder.resolve().name
        while name in models:
            name += "'" if folder.resolve().parent.name in name else f" ({folder.resolve().parent.name})"
        models[name] = folder
    return models


def _write(table: pd.DataFrame, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "cases.csv", index=False, float_format="%.6g")
    aggregate.summarise(table, seed).to_csv(folder / "summary.csv", index=False, float_format="%.6g")


def _missing(cases: Sequence[dict[str, Any]], folders: dict[str, Path]) -> int:
    status = 0
    for folder in folders.values():
        absent = [case_name(case) for case in cases if find_prediction(folder, case) is None]
        if absent:
            print(
                f"{len(absent)} of {len(cases)} predictions are missing in {folder}, counted as missed: {', '.join(absent)}"
            )
            status = 1
    return status
