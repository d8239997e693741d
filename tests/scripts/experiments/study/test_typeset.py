"""Markdown and LaTeX that hold any text."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.experiments.study.typeset import Cell, Table, escaped

TABLE = Table(
    "100 % of a_b & c",
    ["structure", "model", "DSC"],
    [
        [Cell("x"), Cell("a|b"), Cell("0.9 ± 0.1", True, "†")],
        [Cell("x"), Cell('say "c", d'), Cell("0.8 ± 0.1")],
    ],
    ["a note"],
)


def test_csv_is_whole_and_reads_back() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [["structure", "model", "DSC"], ["x", "a|b", "0.9 ± 0.1†"], ["x", 'say "c", d', "0.8 ± 0.1"]]


def test_markdown() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[4] == r"| x | a\|b | **0.9 ± 0.1**† |"
    assert lines[5] == '|  | say "c", d | 0.8 ± 0.1 |'
    assert lines[-1] == "a note"


def test_latex() -> None:
    text = TABLE.latex()
    assert r"x & a|b & \textbf{0.9 $\pm$ 0.1}$^{\dagger}$ \\" in text
    assert r"\caption{100 \% of a\_b \& c a note}" in text
    assert escaped("\\^~{}#$") == r"\textbackslash{}\textasciicircum{}\textasciitilde{}\{\}\#\$"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + TABLE.latex() + r"\end{document}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, check=True, timeout=60)


def test_three_files(tmp_path: Path) -> None:
    TABLE.write(tmp_path / "table.1")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.1.csv", "table.1.md", "table.1.tex"]
