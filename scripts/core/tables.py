"""Small tables: aligned text for the screen and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
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
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Align rows in columns, numbers to the right.

    Args:
        rows: one mapping per line.
        columns: which keys, in order; default the keys of the first row.

    Returns:
        Lines joined by newlines; empty for no rows.
    """
    if not rows:
        return ""
    names = list(columns or rows[0])
    cells = [[shown(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(names), "  ".join("-" * width for width in widths), *map(line, cells)])


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as CSV, atomically.

    Args:
        path: the file.
        rows: one mapping per line, all with the keys of the first.

    Returns:
        The path.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    # a spreadsheet would run a cell that starts like a formula; case names come from outside
    risky = ("=", "+", "@")
    writer.writerows(
        {k: f"'{v}" if isinstance(v, str) and v.startswith(risky) else shown(v) for k, v in row.items()} for row in rows
    )
    return write_text(path, stream.getvalue())
