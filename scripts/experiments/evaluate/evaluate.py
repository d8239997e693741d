"""`python -m scripts evaluate`: predictions against labels on the native grid."""

from __future__ import annotations

import datetime
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from custom_networks import CaseError
from scripts.core.classes import Classes, ranking_class, read_classes, target_class
from scripts.core.datalist import SECTIONS, Case, Datalist, Patients, distinct_names, safe_name
from scripts.core.manifest import versions
from scripts.core.page.page import Section
from scripts.core.page.viewer import MOST
from scripts.core.predictions import find_prediction, unknown_predictions
from scripts.core.tables import text_table, write_csv
from scripts.experiments.dose.section import dose_section
from scripts.experiments.evaluate import aggregate, significance
from scripts.experiments.evaluate.curves import read_history, training_folders, weights_of
from scripts.experiments.evaluate.measure import measure
from scripts.experiments.evaluate.page import Content, write_report
from scripts.experiments.evaluate.pictures import choose_cases, viewed, write_pictures
from scripts.experiments.evaluate.strata import strata_of, summarise_by
from scripts.experiments.evaluate.yardstick import experts, read_yardstick
from scripts.experiments.quality.file import Quality
from scripts.experiments.quality.section import apply_quality, check_quality


def evaluate(
    datalist: str,
    predictions: str,
    output: str,
    section: Literal["training", "testing"] = "testing",
    classes: Mapping[str, Any] | Sequence[str] | None = None,
    compare: Sequence[str] | None = None,
    pictures: int = 3,
    viewer: int = 6,
    tolerance: float = 2.0,
    strata: Sequence[float] | None = None,
    by: Sequence[str] | None = None,
    yardstick: str | None = None,
    quality: str | None = None,
    training: Sequence[str] | None = None,
    dose: bool = False,
    draws: int = 9999,
    seed: int = 0,
    workers: int = 2,
    patients: Patients = "named",
) -> int:
    """Compare predictions with labels: DSC, NSD, HD95 and ASD in mm, volumes, pictures, tests; docs/evaluation.md.

    Writes to `output`: cases.csv (one row per case and class), summary.csv, strata.csv, pictures/*.png, report.html, with --by
    by.csv and, with --compare, statistics.csv and compare/NAME/{cases,summary}.csv. A case's prediction is CASE.nii.gz, CASE_pred.nii.gz,
    or what MONAI's SaveImaged writes (STEM/STEM_pred.nii.gz), on its label's grid. A missing prediction counts as a miss;
    a case that cannot be measured is named and counts nowhere.

    Args:
        datalist: JSON with the labels' names and the cases.
        predictions: folder of predicted label maps.
        output: folder to write to.
        section: `testing` or `training` (out-of-fold predictions).
        classes: names to compare, such as organ,tumor, or a mapping such as '{"organ": [1, 2], "tumor": [2]}'; default the
            datalist's `regions`; else organ (tumour included) and tumor; else one class per label.
        compare: a folder of another model's predictions, or several separated by commas.
        pictures: number of cases to draw, from best to worst.
        viewer: number of cases in the report's interactive viewer, from worst to best; at most 6.
        tolerance: of NSD, the normalised surface Dice, in mm.
        strata: volumes in ml that separate small from large, such as 10,40, of the tumour, the HR-CTV or the last class;
            default the thirds of this data set.
        by: entries of the datalist's cases, such as applicator,metal_artefacts: also a result for each combination of their
            values that occurs.
        yardstick: JSON of how far experts differ, in place of the shipped one.
        quality: quality.json of `python -m scripts quality`: also the order in which it says to look at cases.
        training: folders of the trainings behind the predictions, or outputs of crossval, separated by commas, for the learning
            curves; default the folds beside crossval's out-of-fold predictions.
        dose: also what the predictions change in the dose of cases that have one, as `python -m scripts dose` tells it.
        draws: random permutations of the tests.
        seed: of the tests.
        workers: cases measured at a time.
        patients: `each` takes a case without a patient for a patient of its own, instead of refusing it.

    Returns:
        0; 1 if a prediction is missing or a case could not be measured or drawn (after everything else was written).

    Raises:
        CaseError: the datalist, a folder or an option cannot be used, or not one case can be measured.
    """
    content = Datalist.read(datalist, patients=patients)
    cases = _labelled(content.section(section), datalist, section)
    wanted, known = read_classes(content, classes), sorted(content.labels)
    modality = content.modality or "MR"
    column, notes = experts(read_yardstick(yardstick), wanted, modality)
    if not all(0 < bound < float("inf") for bound in strata or ()):
        raise CaseError("--strata", f"{strata!r} is no list of volumes in ml", "write --strata 10,40")
    groups = strata_of(cases, by) if by else {}
    if not 0 <= viewer <= MOST:
        raise CaseError("--viewer", f"{viewer} is no number of cases from 0 to {MOST}", f"write --viewer {MOST}")
    folders, target = _models(predictions, compare), Path(str(output))
    trainings = training_folders(next(iter(folders.values())), training)
    missing = _check_folders(cases, folders, target)
    ignored_files = _unknown(content, folders)
    fitted = None if quality is None else check_quality(quality, Path(predictions))
    # MONAI warns of an argument that MONAI itself passes
    warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
    problems = [
        f"{folder}: {len(absent)} of {len(cases)} predictions are missing and count as missed: {', '.join(absent)}"
        for folder, absent in missing.items()
        if absent
    ]
    tables: dict[str, pd.DataFrame] = {}
    for name, folder in folders.items():
        tables[name], failed = measure(cases, folder, wanted, known, tolerance, workers)
        problems += [f"not measured: {error}" for error in failed]
    _remove_earlier(target)
    whole = {name: aggregate.add_class_mean(table) for name, table in tables.items()}
    for i, name in enumerate(tables):
        place = target if i == 0 else target / "compare" / name
        _write(place / "cases.csv", tables[name])
        _write(place / "summary.csv", aggregate.summarise(whole[name]))
    name, table = next(iter(tables.items()))
    summary = aggregate.summarise(whole[name])
    lines = aggregate.cells(summary, column)
    said = [
        aggregate.NOTE,
        aggregate.NOTE_FEW if aggregate.few_patients(summary) else "",
        aggregate.never_scored(summary),
    ]
    print(f"\n{text_table(lines, left=2)}\n\n{textwrap.fill(' '.join(said), 110)}")
    page = Content(
        content.name or Path(datalist).resolve().parent.name,
        _about(content, section, folders, wanted, tolerance) | weights_of(trainings) | ignored_files,
        whole[name],
        summary,
        target_class(wanted),
        ranking_class(wanted, aggregate.CLASS_MEAN),
        yardstick=column,
        experts=notes,
        tables=whole,
        trainings={text: read_history(folder) for text, folder in trainings.items()},
        labels=content.labels,
    )
    _stratify(page, table, strata, groups, by or (), target)
    if len(tables) > 1:
        comparison = significance.compare(whole, draws, seed)
        _write(target / "statistics.csv", comparison)
        page.comparison = significance.cells(comparison)
        ignored = "\n".join(
            textwrap.fill(f"{heading}: {text}", 110, subsequent_indent="  ")
            for heading, text in significance.TESTS.values()
        )
        print(f"\n{text_table(page.comparison, left=4)}\n\n{textwrap.fill(significance.NOTE, 110)}\n{ignored}")
    parts = [
        _look_first(fitted, content, section, cases, folders[name], target, workers),
        dose_section(content, cases, classes, predictions, target, workers) if dose else ([], []),
    ]
    page.more, looked = [one for more, _ in parts for one in more], [error for _, errors in parts for error in errors]
    chosen = choose_cases(page.table, page.ranked, pictures)
    page.pictures, failed = write_pictures(
        tables, cases, folders[name], wanted, modality, target / "pictures", chosen, page.ranked
    )
    page.viewed, page.too_large, unread = viewed(
        cases, folders[name], wanted, modality, page.table, page.ranked, viewer
    )
    # a label or an image that cannot be read is the same problem of every model and every picture
    page.problems = list(
        dict.fromkeys([*problems, *map(str, looked), *(f"not drawn: {error}" for error in [*failed, *unread])])
    )
    write_report(target / "report.html", page)
    for problem in page.problems:
        print(f"\n{problem}")
    print(f"\n{target}: cases.csv, summary.csv, pictures/, report.html")
    return int(bool(page.problems))


def _stratify(
    page: Content,
    table: pd.DataFrame,
    bounds: Sequence[float] | None,
    groups: Mapping[str, str],
    keys: Sequence[str],
    target: Path,
) -> None:
    """Write and show the results by size of the target and by entries of the datalist, where there are any."""
    by_size = aggregate.summarise_by_size(table, page.target, aggregate.size_bounds(table, page.target, bounds))
    if len(by_size):
        _write(target / "strata.csv", by_size)
        page.strata = by_size
        print(f"\n{text_table(aggregate.cells(by_size[by_size['metric'] == 'dsc']), left=3)}")
    if groups:
        page.by, page.keys = summarise_by(page.table, groups), keys
        _write(target / "by.csv", page.by)
        print(f"\n{text_table(aggregate.cells(page.by[page.by['metric'] == 'dsc']), left=3)}")


def _look_first(
    quality: Quality | None,
    datalist: Datalist,
    section: str,
    cases: Sequence[Case],
    folder: Path,
    target: Path,
    workers: int,
) -> tuple[list[Section], list[CaseError]]:
    """The section of a fitted quality.json, and the cases that nothing could be told of; nothing without the file."""
    if quality is None:
        return [], []
    first = apply_quality(quality, datalist, section, cases, folder, workers)
    write_csv(target / "look_first.csv", first.rows)
    print(f"\nlook here first:\n{text_table(first.rows, left=2)}\n\n{text_table(first.held, left=1)}")
    return [first.section()], list(first.problems)


def _labelled(cases: Sequence[Case], datalist: str, section: str) -> list[Case]:
    labelled = [case for case in cases if case.label]
    if not labelled:
        raise CaseError(
            f"datalist {datalist}", f"its section '{section}' has no labelled case", "choose another --section"
        )
    distinct_names(labelled, f"datalist {datalist}")
    if len(labelled) < len(cases):
        print(f"{len(cases) - len(labelled)} of {len(cases)} cases have no label and are left out.")
    return labelled


def _models(predictions: str, compare: Sequence[str] | None) -> dict[str, Path]:
    models: dict[str, Path] = {}
    for text in (predictions, *(compare or ())):
        folder = Path(text)
        if not folder.is_dir():
            raise CaseError(
                "evaluate", f"folder {folder} does not exist", "name the folder of the predicted label maps"
            )
        name = folder.resolve().name
        while name in models:
            name += "'" if folder.resolve().parent.name in name else f" ({folder.resolve().parent.name})"
        models[name] = folder
    return models


def _check_folders(cases: Sequence[Case], folders: Mapping[str, Path], output: Path) -> dict[Path, list[str]]:
    """The cases without a prediction in each folder.

    Raises:
        CaseError: a folder has no prediction at all, its predictions are the labels, or the output would lie among the data.
    """
    missing: dict[Path, list[str]] = {}
    for folder in folders.values():
        where, remedy = f"predictions {folder}", "name the folder that inference wrote"
        missing[folder] = []
        for case in cases:
            path, label = find_prediction(folder, case), Path(str(case.label))
            if path is None:
                missing[folder].append(case.name)
            elif label.is_file() and path.samefile(label):
                raise CaseError(where, f"{path} is the label of {case.name}", remedy)
        if len(missing[folder]) == len(cases):
            name = safe_name(cases[0].name)
            problem = f"there is none for any of the {len(cases)} cases, such as {name}.nii.gz or {name}_pred.nii.gz"
            raise CaseError(where, problem, f"{remedy}, or choose another --section")
    inputs = {folder.resolve() for folder in folders.values()}
    inputs |= {Path(file).resolve().parent for case in cases for file in (case.image, str(case.label))}
    if output.resolve() in inputs:
        raise CaseError(f"output {output}", "it is a folder of the data", "choose a folder of its own")
    return missing


def _remove_earlier(target: Path) -> None:
    """Remove what an earlier evaluation with other options wrote and this one may not write again."""
    for file in (
        *(target / f"{name}.csv" for name in ("strata", "by", "statistics", "look_first")),
        *target.glob("compare/*/*.csv"),
    ):
        if file.name in {"strata.csv", "by.csv", "statistics.csv", "look_first.csv", "cases.csv", "summary.csv"}:
            file.unlink(missing_ok=True)


def _write(file: Path, frame: pd.DataFrame) -> None:
    write_csv(file, [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")])


def _unknown(datalist: Datalist, folders: Mapping[str, Path]) -> dict[str, str]:
    """Say which label maps in the folders are of no case, so that a renamed one is not only found among the misses."""
    said = []
    for name, folder in folders.items():
        extra = [path.relative_to(folder).as_posix() for path in unknown_predictions(folder, datalist.cases)]
        if extra:
            more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
            said.append(f"{name}: {', '.join(extra[:3])}{more}")
            print(f"{folder}: not used, as no case of the datalist is called so: {', '.join(extra[:3])}{more}")
    return {"not used, of no case": "; ".join(said)} if said else {}


def _about(
    datalist: Datalist, section: str, folders: Mapping[str, Path], classes: Classes, tolerance: float
) -> dict[str, str]:
    names = list(folders)
    rules = "; ".join(f"{name} = {' + '.join(map(str, values))}" for name, values in classes.items())
    counts = [(len(cases), len({case.patient for case in cases})) for cases in (datalist.training, datalist.testing)]
    sizes = [
        f"{what} {cases} cases of {patients} patients"
        for what, (cases, patients) in zip(SECTIONS, counts, strict=True)
        if cases
    ]
    about = {
        "data": f"{datalist.name or 'no name'}, {datalist.modality or 'no modality'}; {'; '.join(sizes)}",
        "evaluated": f"section {section}, predictions in the folder {names[0]}",
        "compared with": ", ".join(names[1:]),
        "datalist": f"SHA-256 {datalist.digest()[:12]}",
        "classes": f"{rules} (label values)",
        "NSD": f"part of both surfaces within {tolerance:g} mm of the other",
        "date": datetime.date.today().isoformat(),
        "versions": ", ".join(f"{package} {version}" for package, version in versions().items()),
    }
    return {key: text for key, text in about.items() if text}
