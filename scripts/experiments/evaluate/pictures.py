"""The pictures of an evaluation: box plots, and which cases are drawn from best to worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from custom_networks import CaseError
from scripts.core.classes import Classes, target_class
from scripts.core.datalist import Case, safe_name
from scripts.core.page.viewer import ViewedCase, viewed_case, within
from scripts.core.predictions import read_with_image
from scripts.core.reading import one_sentence
from scripts.experiments.evaluate.boxplots import box_plots
from scripts.experiments.evaluate.overlay import load, overlay


def choose_cases(table: pd.DataFrame, ranked: str, count: int) -> list[tuple[str, str]]:
    """Pick cases from best to worst by one class's DSC, evenly spaced in rank, extremes and median included.

    Returns:
        (rank, case): rank is `best`, `median`, `worst` or `rank 2 of 9`.
    """
    predicted = ~table["case"].isin(table.loc[table["outcome"] == "no prediction", "case"])
    part = table[(table["class"] == ranked) & table["dsc"].notna() & predicted]
    ordered = part.sort_values(["dsc", "case"], ascending=[False, True])["case"].tolist()
    if not ordered or count < 1:
        return []
    last = len(ordered) - 1
    ranks = sorted({i * last // max(1, count - 1) for i in range(count)}) if count > 1 else [last // 2]
    words = {0: "best", last: "worst", **({last // 2: "median"} if last > 1 else {})}
    return [(words.get(r, f"rank {r + 1} of {last + 1}"), ordered[r]) for r in ranks]


def write_pictures(
    tables: Mapping[str, pd.DataFrame],
    cases: Sequence[Case],
    predictions: Path,
    classes: Classes,
    modality: str,
    output: Path,
    chosen: Sequence[tuple[str, str]],
    ranked: str,
) -> tuple[list[tuple[str, Path]], list[CaseError]]:
    """Write the box plots and an overlay of every chosen case; pictures of an earlier run are removed.

    Args:
        tables: model name -> case table; the first is drawn.
        cases: of the data.
        predictions: folder of the first model.
        classes: name -> label values.
        modality: `MR` or `CT`.
        output: folder to write to.
        chosen: from `choose_cases`.
        ranked: the class by whose DSC they were chosen.

    Returns:
        Caption and file of each overlay, and why cases could not be drawn.
    """
    for old in output.glob("*.png"):
        old.unlink()
    box_plots(tables, output / "boxplots.png")
    written: list[tuple[str, Path]] = []
    table, target = next(iter(tables.values())), target_class(classes)
    by_name = {case.name: case for case in cases}
    failed: list[CaseError] = []
    for rank, name in tqdm(chosen, desc="pictures", unit="case", disable=None):
        rows = table[table["case"] == name].set_index("class")
        scores = {c: _score(rows.loc[c]) for c in classes}
        file = output / f"{rank.replace(' ', '_')}_{safe_name(name)}.png"
        title = f"{name}: {rank} by DSC of {ranked}" if table["case"].nunique() > 1 else name
        try:
            with one_sentence(name, "picture"):
                overlay(load(by_name[name], predictions), classes, target, modality, title, scores, file)
        except CaseError as error:
            failed.append(error)
        else:
            written.append((title, file))
    return written, failed


def viewed(
    cases: Sequence[Case],
    predictions: Path,
    classes: Classes,
    modality: str,
    table: pd.DataFrame,
    ranked: str,
    count: int,
) -> tuple[list[ViewedCase], list[str], list[CaseError]]:
    """Cases for the interactive viewer, from worst to best, as many as a page can hold.

    Args:
        cases: of the data.
        predictions: folder of the model.
        classes: name -> label values.
        modality: `MR` or `CT`.
        table: the case table, with means over classes where there are several.
        ranked: the class by whose DSC cases are chosen.
        count: how many, at most `MOST`.

    Returns:
        The cases, the captions of those too large for the page, and why others could not be read.
    """
    by_name = {case.name: case for case in cases}
    scores = table[table["class"] == ranked].set_index("case")["dsc"]
    found, failed = [], []
    worst_first = choose_cases(table, ranked, count)[::-1]
    for rank, name in tqdm(worst_first, desc="viewer", unit="case", disable=None):
        try:
            with one_sentence(name, "viewer"):
                arrays = read_with_image(by_name[name], predictions)
                caption = f"{name}: {rank}, DSC of {ranked} {scores[name]:.3f}"
                found.append(viewed_case(caption, *arrays, modality, classes[target_class(classes)]))
        except CaseError as error:
            failed.append(error)
    # first the worst, the best and the one between them
    order = sorted(range(len(found)), key=lambda i: (i not in {0, len(found) - 1}, abs(i - (len(found) - 1) / 2)))
    kept, left = within([found[i] for i in order])
    return [case for case in found if case in kept], left, failed


def _score(row: Any) -> str:
    if row["outcome"] != "found":
        return str(row["outcome"])
    hd95 = "" if math.isnan(row["hd95_mm"]) else f", HD95 {row['hd95_mm']:.1f} mm, ASD {row['asd_mm']:.1f} mm"
    return f"DSC {row['dsc']:.2f}{hd95}, {row['label_ml']:.1f} ml (predicted {row['pred_ml']:.1f})"
