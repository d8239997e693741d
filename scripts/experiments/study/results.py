"""What a study says in the end: its tables, the answer to its one question, and the page that leads to everything."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.classes import Classes, target_class
from scripts.core.datalist import safe_name
from scripts.core.files import write_text
from scripts.core.manifest import versions
from scripts.core.tables import write_csv
from scripts.experiments.evaluate import aggregate, significance
from scripts.experiments.study import layouts
from scripts.experiments.study.definition import Study
from scripts.experiments.study.sets import name_of_set
from scripts.experiments.study.trainings import PlannedArm
from scripts.experiments.study.typeset import Cell, Table


@dataclass
class Results:
    """What the arms scored.

    Args:
        study: it belongs to.
        classes: that were scored.
        cases: set to arm to case table.
        evaluations: set to arm to the folder of the evaluation.
        problems: what is missing from the result, a sentence each.
    """

    study: Study
    classes: Classes
    cases: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Path]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def comparison(self, in_set: str) -> pd.DataFrame | None:
        """The study's comparisons in a set, of the arms that have a result there; None without a pair."""
        tables = {arm: aggregate.add_class_mean(table) for arm, table in self.cases[in_set].items()}
        pairs = [pair for pair in self.study.pairs if set(pair) <= set(tables)]
        if not pairs:
            return None
        compared = {arm: table for arm, table in tables.items() if any(arm in pair for pair in pairs)}
        return significance.compare(compared, self.study.draws, self.study.seed, pairs)

    def values(self, in_set: str) -> dict[tuple[str, str, str], layouts.Value]:
        """Means and SDs of a set."""
        tables = self.cases.get(in_set, {}).items()
        return layouts.values_of({arm: aggregate.summarise(aggregate.add_class_mean(table)) for arm, table in tables})


def write_results(results: Results, planned: Mapping[str, PlannedArm], output: Path) -> list[str]:
    """Write OUTPUT/tables and OUTPUT/report.html.

    Args:
        results: of the study.
        planned: its arms.
        output: folder of the study.

    Returns:
        The answer to the study's question, a sentence for each comparison.
    """
    study, folder = results.study, output / "tables"
    for file in folder.glob("*.*"):
        file.unlink()
    found: list[Table] = []
    comparisons: dict[str, pd.DataFrame] = {}
    for name, tables in results.cases.items():
        title = name_of_set(name, len(next(iter(planned.values())).folds))
        shown = [*results.classes, *([aggregate.CLASS_MEAN] if len(results.classes) > 1 else [])]
        table = layouts.by_structure(
            results.values(name), shown, list(tables), f"{study.name}: {title}", notes=_counts(tables)
        )
        table.write(folder / f"{safe_name(name)}_summary")
        found.append(table)
        comparison = results.comparison(name)
        if comparison is not None:
            comparisons[name] = comparison
            write_csv(folder / f"{safe_name(name)}_statistics.csv", _records(comparison))
            compared = compared_table(comparison, f"{study.name}: comparisons, {title}")
            compared.write(folder / f"{safe_name(name)}_comparisons")
            found.append(compared)
    for name, wanted in study.tables.items():
        for suffix, table in paper_tables(results, comparisons, wanted, name):
            table.write(folder / f"{name}{suffix}")
            found.append(table)
    said = answers(results, comparisons)
    write_text(folder / "answer.txt", "".join(f"{line}\n" for line in said))
    _write_page(results, planned, found, said, output)
    return said


def compared_table(comparison: pd.DataFrame, title: str) -> Table:
    """The comparisons as a table of text."""
    lines = significance.cells(comparison)
    head = list(lines[0]) if lines else ["class"]
    rows = [[Cell(line[key]) for key in head] for line in lines]
    notes = [significance.NOTE, *(f"{heading}: {text}" for heading, text in significance.TESTS.values())]
    return Table(title, head, rows, notes, grouped=False)


def paper_tables(
    results: Results, comparisons: Mapping[str, pd.DataFrame], wanted: Mapping[str, Any], name: str
) -> list[tuple[str, Table]]:
    """One of the tables that a study file asks for; one for each set but where the layout has sets as rows.

    Args:
        results: of the study.
        comparisons: set to comparisons.
        wanted: entry of `tables` in the study file.
        name: of the table.

    Returns:
        What follows the name in the file's name, and the table.
    """
    study = results.study
    arms, sets, classes = (
        list(wanted.get(key, default))
        for key, default in (("arms", study.arms), ("sets", results.cases), ("classes", results.classes))
    )
    present = [one for one in sets if one in results.cases]
    if wanted["layout"] == "by_data_set":
        values = {one.replace("_", " "): results.values(one) for one in present}
        return [("", layouts.by_data_set(values, classes, arms, f"{study.name}: {name}"))] if present else []
    made = []
    for one in present:
        reference, test = str(wanted.get("reference", arms[-1])), str(wanted.get("test", study.primary.test))
        stars = (
            layouts.stars_of(comparisons[one], reference, arms, test) if one in comparisons and len(arms) > 1 else {}
        )
        layout = layouts.by_structure if wanted["layout"] == "by_structure" else layouts.two_arms
        table = layout(
            results.values(one),
            classes,
            arms,
            f"{study.name}: {name}, {one.replace('_', ' ')}",
            str(wanted.get("heading", "structure")),
            stars,
            [layouts.star_note(reference, test)] if len(arms) > 1 else [],
        )
        made.append(("" if len(present) == 1 else f"_{safe_name(one)}", table))
    return made


def answers(results: Results, comparisons: Mapping[str, pd.DataFrame]) -> list[str]:
    """The primary question's answer for each pair; what cannot be answered is said, too."""
    primary = results.study.primary
    name = primary.of_class or target_class(results.classes)
    metric = aggregate.METRICS[primary.measure]
    where = primary.in_set.replace("_", " ")
    said = []
    for a, b in results.study.pairs:
        start = f"{metric.heading} of {name}, {where}: {a} against {b}"
        comparison = comparisons.get(primary.in_set)
        rows = pd.DataFrame()
        if comparison is not None:
            rows = comparison[(comparison["model_a"] == a) & (comparison["model_b"] == b)]
            rows = rows[(rows["class"] == name) & (rows["metric"] == primary.measure)]
        if rows.empty or not rows.iloc[0]["cases"]:
            said.append(f"{start}: no answer, as an arm has no result there.")
            continue
        row, digits = rows.iloc[0], metric.digits
        p = float(row[primary.test])
        written = "does not exist" if math.isnan(p) else f"= {p:.4f}"
        said.append(
            f"{start}: {row['mean_a']:.{digits}f} and {row['mean_b']:.{digits}f}, difference {row['difference']:+.{digits}f} "
            f"on {row['cases']} cases of {row['patients']} patients, p {written} ({significance.TESTS[primary.test][0]})."
        )
    return said


def _counts(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """How many cases each arm was scored on, and what it missed."""
    return [
        f"{arm}: {table['case'].nunique()} cases of {table['patient'].nunique()} patients, "
        f"{int(table['missed'].sum())} missed and {int(table['false_positive'].sum())} falsely found."
        for arm, table in tables.items()
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _write_page(
    results: Results, planned: Mapping[str, PlannedArm], tables: Sequence[Table], said: Sequence[str], output: Path
) -> None:
    # names come from outside: each is escaped
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study = results.study
    arms = []
    for name, arm in study.arms.items():
        links = [
            (in_set.replace("_", " "), os.path.relpath(folders[name] / "report.html", output))
            for in_set, folders in results.evaluations.items()
            if name in folders
        ]
        arms.append(
            {
                "name": name,
                "bundle": arm.bundle.name,
                "configs": ", ".join(Path(one).name for one in arm.configs),
                "overrides": json.dumps(arm.overrides, ensure_ascii=False) if arm.overrides else "",
                "start": ", ".join(filter(None, [arm.organ_from, arm.pretrained_from])),
                "folds": ", ".join(str(fold.number) for fold in planned[name].folds) if name in planned else "",
                "links": links,
            }
        )
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    content = {
        "name": study.name,
        "question": study.question,
        "problems": results.problems,
        "answers": said,
        "arms": arms,
        "tables": tables,
        "about": f"Checkpoint: {study.checkpoint}. Primary set: {study.primary.in_set}. {about}.",
    }
    write_text(output / "report.html", environment.get_template("study.html").render(content))
