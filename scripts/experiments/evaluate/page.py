"""One page that shows an evaluation: the table, the pictures, and the cases to look at first."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scripts.experiments.evaluate import aggregate, significance

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #e3e7ec; white-space: nowrap; }
th { color: #566070; font-weight: 600; border-bottom: 2px solid #b9c2cc; }
th.text, td.text { text-align: left; } td.bad { color: #b3261e; font-weight: 600; }
p.note { color: #566070; font-size: 13px; max-width: 75ch; } div.scroll { overflow-x: auto; }
figure { margin: 1.2rem 0; } img { max-width: 100%; } figcaption { color: #566070; font-size: 13px; }
img.plot { max-width: 760px; width: 100%; }
"""


def write_report(
    file: Path,
    table: pd.DataFrame,
    lines: Sequence[Sequence[str]],
    tests: Sequence[Sequence[str]] | None,
    images: Sequence[tuple[str, Path]],
) -> None:
    """Write report.html; pictures are named relative to it, nothing is fetched from elsewhere.

    Args:
        file: the page.
        table: the case table.
        lines: rows of the summary as text, heading first.
        tests: rows of the comparison as text, or None.
        images: caption and file of each picture.
    """
    worst = table[table["dsc"].notna()].sort_values(["dsc", "case"]).head(10)
    rows = [["case", "class", "DSC", "HD95 (mm)", "ASD (mm)", "label (ml)", "prediction (ml)", "outcome"]]
    for row in worst.to_dict("records"):
        numbers = [f"{row['dsc']:.3f}", *("-" if pd.isna(row[k]) else f"{row[k]:.1f}" for k in ("hd95_mm", "asd_mm"))]
        volumes = [f"{row[k]:.1f}" for k in ("label_ml", "pred_ml")]
        rows.append([str(row["case"]), str(row["class"]), *numbers, *volumes, str(row["outcome"])])
    scored = f"{table['case'].nunique()} cases of {table['patient'].nunique()} patients"
    parts = [
        f"<h1>Evaluation</h1><p class='note'>{scored}. Distances in mm on the native grid. For research; not a medical device.</p>",
        _table(lines, 2),
        f"<p class='note'>{html.escape(aggregate.NOTE)}</p>",
    ]
    if tests is not None:
        parts += ["<h2>Models compared</h2>", _table(tests, 4), f"<p class='note'>{html.escape(significance.NOTE)}</p>"]
    for i, (caption, picture) in enumerate(images):
        source = html.escape(picture.relative_to(file.parent).as_posix(), quote=True)
        kind = " class='plot'" if i == 0 else ""
        text = html.escape(caption)
        parts.append(f"<figure><img{kind} src='{source}' alt='{text}'><figcaption>{text}</figcaption></figure>")
    parts += ["<h2>Lowest DSC</h2>", _table(rows, 2), "<p class='note'>All of them: cases.csv.</p>"]
    page = f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title><style>{STYLE}</style></head>"
    file.write_text(f"{page}<body>{''.join(parts)}</body></html>\n", encoding="utf-8")


def _table(lines: Sequence[Sequence[str]], left: int) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        out = []
        for i, cell in enumerate(cells):
            kind = (
                " class='text'"
                if i < left
                else " class='bad'"
                if cell in {"missed", "no prediction"} and tag == "td"
                else ""
            )
            out.append(f"<{tag}{kind}>{html.escape(cell)}</{tag}>")
        return f"<tr>{''.join(out)}</tr>"

    head, *body = lines
    return f"<div class='scroll'><table>{row(head, 'th')}{''.join(row(line, 'td') for line in body)}</table></div>"
