"""A table of a paper as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.core.files import write_text

LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, whether it is the best of its kind, and the stars behind it."""

    text: str
    best: bool = False
    stars: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: what it shows.
        head: of the columns.
        rows: cells, as many as the head has.
        notes: what the figures mean.
        grouped: whether Markdown and LaTeX show the first column only where it changes.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)
    grouped: bool = True

    @property
    def shown(self) -> list[list[Cell]]:
        """The rows for readers."""
        first = [row[0].text for row in self.rows]
        again = [self.grouped and i > 0 and first[i - 1] == text for i, text in enumerate(first)]
        return [[Cell("") if i else row[0], *row[1:]] for i, row in zip(again, self.rows, strict=True)]

    def csv(self) -> str:
        """The cells as text, with stars, without what is best."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows([cell.text + cell.stars for cell in row] for row in self.rows)
        return stream.getvalue()

    def markdown(self) -> str:
        """The table with its title and notes; the best is bold."""

        def shown(cell: Cell) -> str:
            text = cell.text.replace("|", r"\|").replace("\n", " ")
            return (f"**{text}**" if cell.best else text) + cell.stars.replace("*", r"\*")

        lines = [
            [*map(str, self.head)],
            ["---"] * len(self.head),
            *([shown(cell) for cell in row] for row in self.shown),
        ]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self.title}\n\n{body}\n\n" + "".join(f"{note}\n" for note in self.notes)

    def latex(self) -> str:
        """A `table` for the package booktabs; the best is bold."""

        def shown(cell: Cell) -> str:
            text = escaped(cell.text)
            return (rf"\textbf{{{text}}}" if cell.best else text) + (
                f"$^{{{_raised(cell.stars)}}}$" if cell.stars else ""
            )

        lines = [" & ".join(map(shown, row)) + r" \\" for row in self.shown]
        columns = "l" * len(self.head)
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{escaped(' '.join([self.title, *self.notes]))}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(map(escaped, self.head)) + r" \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def write(self, stem: Path) -> None:
        """Write STEM.csv, STEM.md and STEM.tex."""
        for suffix, text in ((".csv", self.csv()), (".md", self.markdown()), (".tex", self.latex())):
            write_text(stem.with_name(stem.name + suffix), text)


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)


def _raised(stars: str) -> str:
    return stars.replace("†", r"\dagger")
