"""Small tables: aligned text for the screen and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.core.files import write_text


def shown(value: object) -> str:
    """A cell as text: three significant figures for fractions, no exponent up to a billion, empty for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    # from 999.5 on, three figures would be written with an exponent
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.3g}"


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, left: int | None = None) -> str:
    """Align rows in columns.

    Args:
        rows: one mapping per line.
        columns: which keys, in order; default the keys of the first row.
        left: how many columns, from the first, are aligned to the left; default those that do not hold numbers alone.

    Returns:
        Lines joined by newlines; empty for no rows.
    """
    if not rows:
        return ""
    names = list(columns or rows[0])
    cells = [[shown(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    right = [
        all(isinstance(row.get(name), int | float | None) for row in rows) if left is None else i >= left
        for i, name in enumerate(names)
    ]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), "  ".join("-" * width for width in widths), *map(line, cells)])


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as CSV, atomically; numbers keep ten figures, what is not a number is an empty cell.

    Args:
        path: the file.
        rows: one mapping per line, all with the keys of the first.

    Returns:
        The path.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_cell(value) for key, value in row.items()} for row in rows)
    return write_text(path, stream.getvalue())


def _csv_cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    # csv leaves a carriage return unquoted, and a reader would end the row there
    text = shown(value).replace("\r", " ")
    # a spreadsheet would run a cell that starts like a formula; case names come from outside
    risky = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t")) and text != "-"
    return f"'{text}" if risky else text
