"""The page of an evaluation: its sections, in the order in which they are read."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.core.page.page import Figure, Section, embedded, write_page
from scripts.core.page.viewer import ViewedCase, viewer
from scripts.experiments.evaluate import aggregate, figures, significance
from scripts.experiments.evaluate.curves import History

SECTIONS = Path(__file__).with_name("sections")
# what is written in red
BAD = {"bad": ("missed", "no prediction", "false positive"), "counts": ("missed", "false pos.")}
# more classes than this are listed from the lowest DSC up, and more rows than this of single classes are cases.csv's
MANY_CLASSES, MOST_ROWS = 14, 500


@dataclass
class Content:
    """What the page says.

    Args:
        title: what was evaluated.
        about: heading -> text, on data, models, rules and versions.
        table: the case table, with means over classes where there are several.
        summary: of the table, from `aggregate.summarise`.
        target: the class of the strata.
        ranked: the class by whose DSC cases are ordered.
        yardstick: (class, metric) -> how far experts differ.
        experts: the published figures behind it, each with its source.
        strata: the summary by size, from `aggregate.summarise_by_size`, empty where there is none.
        by: the summary by entries of the datalist, from `strata.summarise_by`, empty where none was asked for.
        keys: those entries.
        comparison: the comparison of models, empty where there is one model.
        problems: what could not be measured or drawn, and what counted as missed.
        pictures: caption and PNG of each overlay.
        tables: model name -> case table with means over classes, for the charts; the first is `table`.
        trainings: name -> metrics by epoch, for the learning curves.
        viewed: cases of the interactive viewer.
        too_large: captions of cases that it cannot hold.
        labels: label value -> name, for the viewer.
        more: sections of other rooms, after the cases to look at.
    """

    title: str
    about: Mapping[str, str]
    table: pd.DataFrame
    summary: pd.DataFrame
    target: str
    ranked: str
    yardstick: Mapping[tuple[str, str], str] = field(default_factory=dict)
    experts: Sequence[str] = ()
    strata: pd.DataFrame = field(default_factory=pd.DataFrame)
    by: pd.DataFrame = field(default_factory=pd.DataFrame)
    keys: Sequence[str] = ()
    comparison: Sequence[Mapping[str, str]] = ()
    problems: Sequence[str] = ()
    pictures: Sequence[tuple[str, Path]] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    trainings: Mapping[str, History] = field(default_factory=dict)
    viewed: Sequence[ViewedCase] = ()
    too_large: Sequence[str] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    more: Sequence[Section] = ()


def write_report(file: Path, content: Content) -> Path:
    """Write the page of an evaluation to an HTML file; everything is inside it."""
    single = content.table[content.table["class"] != aggregate.CLASS_MEAN]
    cases, patients = single["case"].nunique(), single["patient"].nunique()
    lead = (
        f"{cases} {'case' if cases == 1 else 'cases'} of {patients} {'patient' if patients == 1 else 'patients'}, "
        f"{datetime.date.today().isoformat()}. Distances in mm, on the grid that the label was drawn on. "
        "For research; not a medical device."
    )
    return write_page(file, content.title, lead, list(_sections(content)), _head(content), "Evaluation")


def _sections(content: Content) -> list[Section]:
    single = content.table[content.table["class"] != aggregate.CLASS_MEAN]
    lines = aggregate.cells(content.summary, content.yardstick)
    result: dict[str, Any] = {
        "rows": overview(content.summary, content.yardstick),
        "lines": lines,
        "notes": [
            aggregate.NOTE,
            aggregate.NOTE_FEW if aggregate.few_patients(content.summary) else "",
            aggregate.never_scored(content.summary),
        ],
        "experts": content.experts,
    }
    by_keys = f"By {', '.join(content.keys)}"
    cases = {
        "rows": review(content.table, content.ranked),
        "ranked": content.ranked,
        "lowest": lowest(single) if single["class"].nunique() > 1 else [],
        "scored": int(single["dsc"].notna().sum()),
    }
    pictures = [(caption, embedded(path)) for caption, path in content.pictures]
    compared = {
        "rows": content.comparison,
        "note_of_tests": significance.NOTE,
        "tests": dict(significance.TESTS.values()),
    }
    shown = figures.classes_shown(content.table, content.target)
    spread = {
        "list": figures.distributions(
            content.tables or {content.title: content.table}, [row["class"] for row in result["rows"]]
        ),
        "said": "Every point is a case. Box: quartiles and median; whiskers: the last case within 1.5 times the interquartile "
        "range; cross: mean. A miss has no HD95.",
    }
    agreement = {
        "list": [*figures.sizes(content.table, shown), *figures.volume_agreement(content.table, shown)],
        "said": "Lines in the charts of volumes: mean difference and, dashed, mean ± 1.96 SD (Bland and Altman 1986)."
        + (
            f" The target and the classes of the lowest DSC, {len(shown)} of {single['class'].nunique()}."
            if single["class"].nunique() > len(shown)
            else ""
        ),
    }
    learned = {"list": figures.learning_curves(content.trainings), "said": ""}
    found: list[tuple[str, str, dict[str, Any], object]] = [
        ("Not in the figures, or incomplete", "problems.html", {"problems": content.problems}, content.problems),
        ("Result", "result.html", result, True),
        ("Distributions", "charts.html", spread, True),
        (
            f"By true volume of {content.target}",
            "strata.html",
            _strata(content.strata, "volume", "By true volume"),
            len(content.strata),
        ),
        (by_keys, "strata.html", _strata(content.by, "stratum", by_keys), len(content.by)),
        ("Models compared", "comparison.html", compared, content.comparison),
        ("Cases, worst first", "cases.html", cases, True),
        ("Overlays", "pictures.html", {"pictures": pictures}, pictures),
        ("Size and volume", "charts.html", agreement, agreement["list"]),
        ("Learning curves", "charts.html", learned, learned["list"]),
        ("Data, models, definitions", "about.html", {"about": content.about}, content.about),
    ]
    sections = [
        Section(title, SECTIONS / template, {**BAD, **values}, alarm=template == "problems.html")
        for title, template, values, there in found
        if there
    ]
    place = next(i for i, section in enumerate(sections) if section.template.name == "cases.html") + 1
    there = content.viewed or content.too_large
    looked = [viewer("Viewer", content.viewed, content.labels, content.too_large)] if there else []
    return [*sections[:place], *looked, *content.more, *sections[place:]]


def _strata(summary: pd.DataFrame, heading: str, name: str) -> dict[str, Any]:
    """What strata.html shows of a summary with strata."""
    parts = summary.groupby("stratum", sort=False) if len(summary) else ()
    return {
        "rows": [{heading: str(stratum)} | line for stratum, part in parts for line in overview(part, {})],
        "lines": aggregate.cells(summary) if len(summary) else [],
        "name": name,
    }


def _head(content: Content) -> list[Figure]:
    """Mean DSC of the target, the mean over classes, and the first other classes."""
    dsc = content.summary[content.summary["metric"] == "dsc"].set_index("class")
    names = dict.fromkeys([content.target, aggregate.CLASS_MEAN, *dsc.index])
    found = []
    for name in [name for name in names if name in dsc.index and dsc.loc[name, "n"] > 0][:4]:
        row: Any = dsc.loc[name]
        detail = "" if math.isnan(row["ci_low"]) else f"95 % interval {row['ci_low']:.3f} to {row['ci_high']:.3f}"
        if row["missed"]:
            detail = f"{row['missed']} missed; {detail}".rstrip("; ")
        found.append(Figure(f"DSC, {name}", f"{row['mean']:.3f}", detail, bool(row["missed"])))
    return found


def overview(summary: pd.DataFrame, yardstick: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    """One row per class, heading -> text: mean and SD over cases of every metric, and what was missed.

    More than `MANY_CLASSES` are ordered from the lowest mean DSC up, the mean over classes first.
    """
    rows, order = [], []
    scored = summary[summary["cases"] > 0]
    for name in dict.fromkeys(scored["class"]):
        by_metric = scored[scored["class"] == name].set_index("metric")
        row = {"class": str(name), "cases": str(by_metric["cases"].iloc[0])}
        for key, metric in aggregate.METRICS.items():
            line: Any = by_metric.loc[key]
            row[metric.heading] = _mean(line, metric.digits)
            if key == "dsc":
                low, high = line["ci_low"], line["ci_high"]
                row["95 % interval"] = "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        row |= {"missed": str(by_metric["missed"].iloc[0]), "false pos.": str(by_metric["false_positive"].iloc[0])}
        if yardstick:
            row["experts' DSC"] = yardstick.get((name, "dsc"), "")
        rows.append(row)
        order.append((name != aggregate.CLASS_MEAN, by_metric.loc["dsc", "mean"]))
    if len(rows) > MANY_CLASSES:
        rows = [rows[i] for i in sorted(range(len(rows)), key=lambda i: order[i])]
    return rows


def _mean(line: Any, digits: int) -> str:
    if math.isnan(line["mean"]):
        return "-"
    spread = "" if math.isnan(line["sd"]) else f" ± {line['sd']:.{digits}f}"
    return f"{line['mean']:.{digits}f}{spread}"


def review(table: pd.DataFrame, ranked: str) -> list[dict[str, str]]:
    """One row per case, heading -> text, in the order in which to look at them: the lowest DSC first, then what has none.

    Args:
        table: the case table, with means over classes where there are several.
        ranked: the class whose DSC counts.
    """
    single = table[table["class"] != aggregate.CLASS_MEAN]
    rows = table[table["class"] == ranked].sort_values(["dsc", "case"], na_position="last")
    several = single["class"].nunique() > 1
    by_case = dict(list(single.groupby("case", sort=False)))
    found = []
    for rank, row in enumerate(rows.to_dict("records"), 1):
        line = {"case": str(row["case"]), "patient": str(row["patient"]), "rank": str(rank)}
        line |= _metrics(row) | _volumes(row)
        classes = by_case[row["case"]]
        scored = classes[classes["dsc"].notna()]
        if several:
            worst = scored.sort_values(["dsc", "class"]).iloc[0] if len(scored) else None
            line["lowest class"] = "-" if worst is None else f"{worst['class']} {worst['dsc']:.3f}"
            line |= {"missed": str(classes["missed"].sum()), "false pos.": str(classes["false_positive"].sum())}
        found.append(line | ({} if ranked == aggregate.CLASS_MEAN else {"outcome": str(row["outcome"])}))
    return found


def lowest(table: pd.DataFrame, count: int = MOST_ROWS) -> list[dict[str, str]]:
    """Single classes of cases, the lowest DSC first: rows of heading -> text."""
    rows = []
    for row in table[table["dsc"].notna()].sort_values(["dsc", "case", "class"]).head(count).to_dict("records"):
        names = {"case": str(row["case"]), "class": str(row["class"])}
        rows.append(names | _metrics(row) | _volumes(row) | {"outcome": str(row["outcome"])})
    return rows


def _metrics(row: Mapping[Any, Any]) -> dict[str, str]:
    shown = {key: aggregate.METRICS[key] for key in ("dsc", "nsd", "hd95_mm", "asd_mm")}
    return {how.heading: "-" if pd.isna(row[key]) else f"{row[key]:.{how.digits}f}" for key, how in shown.items()}


def _volumes(row: Mapping[Any, Any]) -> dict[str, str]:
    """Nothing for a mean over classes, which has no volume."""
    volumes = {"label (ml)": row["label_ml"], "prediction (ml)": row["pred_ml"]}
    return {} if pd.isna(row["label_ml"]) else {heading: f"{value:.1f}" for heading, value in volumes.items()}
