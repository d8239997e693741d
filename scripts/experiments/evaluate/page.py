"""One page that shows an evaluation, in one file: tables, pictures, what is missing, and the cases to look at first."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.files import write_text
from scripts.experiments.evaluate import aggregate, significance

# written in red
BAD = ("missed", "no prediction")


@dataclass
class Content:
    """What the page says.

    Args:
        title: what was evaluated.
        about: heading -> text, on data, models, rules and versions.
        table: the case table, without means over classes.
        lines: the summary, rows of heading -> text.
        notes: below the summary.
        target: the class of the strata.
        strata: the summary by size, empty where there is none.
        experts: published spread between experts, each with its source.
        comparison: the comparison of models, empty where there is one model.
        problems: what could not be measured or drawn, and what counted as missed.
        images: caption and PNG of each picture, box plots first.
    """

    title: str
    about: Mapping[str, str]
    table: pd.DataFrame
    lines: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()
    target: str = ""
    strata: Sequence[Mapping[str, str]] = ()
    experts: Sequence[str] = ()
    comparison: Sequence[Mapping[str, str]] = ()
    problems: Sequence[str] = ()
    images: Sequence[tuple[str, Path]] = field(default_factory=list)


def write_page(file: Path, content: Content) -> None:
    """Write the page; its pictures are inside it, and nothing is fetched from elsewhere.

    Args:
        file: HTML to write.
        content: what it says.
    """
    # names of cases, classes and models come from outside: each is escaped
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = content.table
    values = vars(content) | {
        "scored": f"{table['case'].nunique()} cases of {table['patient'].nunique()} patients",
        "bad": BAD,
        "comparison_note": significance.NOTE,
        "tests": list(significance.TESTS.values()),
        "lowest": lowest(table),
        "images": [(caption, base64.b64encode(path.read_bytes()).decode()) for caption, path in content.images],
    }
    write_text(file, environment.get_template("page.html").render(values))


def lowest(table: pd.DataFrame, count: int = 10) -> list[dict[str, str]]:
    """The cases to look at first: rows of heading -> text, the lowest DSC first."""
    rows = []
    for row in table[table["dsc"].notna()].sort_values(["dsc", "case", "class"]).head(count).to_dict("records"):
        line = {"case": str(row["case"]), "class": str(row["class"])}
        for name in ("dsc", "nsd", "hd95_mm", "asd_mm"):
            metric = aggregate.METRICS[name]
            line[metric.heading] = "-" if pd.isna(row[name]) else f"{row[name]:.{metric.digits}f}"
        rows.append(
            line
            | {
                "label (ml)": f"{row['label_ml']:.1f}",
                "prediction (ml)": f"{row['pred_ml']:.1f}",
                "outcome": str(row["outcome"]),
            }
        )
    return rows
