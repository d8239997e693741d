"""Contact sheet: one overlay picture per case, worst first, to be looked through in a minute."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.core.files import atomic_file
from scripts.core.look import label_colors, plain_text
from scripts.data.check.case import CheckedCase

COLORS = {"error": "#c00000", "warning": "#b35900", "": "#222222"}
COLUMNS, ROWS = 8, 6


def contact_sheet(
    cases: Sequence[CheckedCase], labels: Mapping[int, str], path: str | Path, title: str = ""
) -> list[Path]:
    """Draw the sheet.

    Args:
        cases: the cases; those with errors come first, then those with warnings.
        labels: label value to name, for the colours.
        path: PNG of the first 48 cases; further pages get `_2`, `_3`, … before the suffix.
        title: above the pictures.

    Returns:
        The files written.
    """
    ranked = sorted(cases, key=lambda case: ("error", "warning", "").index(case.severity))
    size = COLUMNS * ROWS
    pages = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    target, written = Path(path), []
    for number, page in enumerate(pages, 1):
        file = target if number == 1 else target.with_stem(f"{target.stem}_{number}")
        _page(page, labels, file, f"{title} (page {number} of {len(pages)})" if len(pages) > 1 else title)
        written.append(file)
    return written


def _page(cases: Sequence[CheckedCase], labels: Mapping[int, str], path: Path, title: str) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = min(COLUMNS, max(3, len(cases)))
    rows = -(-len(cases) // columns)
    shown = list(label_colors(labels).items())[:12]
    per_row = max(1, int(2.1 * columns // 1.6))  # a name of the legend takes up to 1.6 inches
    legend = 0.22 * (-(-len(shown) // per_row) - 1) if shown else 0.0
    width, height = 2.1 * columns, 2.5 * rows + 0.9 + legend
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.75 / height, bottom=(0.4 + legend) / height, wspace=0.05, hspace=0.4 / 2.1
    )
    figure.text(0.012, 1 - 0.12 / height, plain_text(title), fontsize=13, fontweight="bold", va="top")
    for axis in axes.flat:
        axis.axis("off")
    for case, axis in zip(cases, axes.flat, strict=False):
        color = COLORS[case.severity]
        axis.set_title(_caption(case), fontsize=8.5, color=color, pad=3, linespacing=1.05)
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color=color, linewidth=2.5 if case.severity else 0.8)
        if case.picture is None:
            text = textwrap.fill(plain_text(case.findings[0].sentence if case.findings else "no picture"), 26)
            axis.text(0.5, 0.5, "\n".join(text.split("\n")[:9]), ha="center", va="center", fontsize=7, color=color)
            axis.set(xlim=(0, 1), ylim=(0, 1), facecolor="#f2f2f2")
            continue
        axis.set_facecolor("black")
        axis.imshow(case.picture, aspect=case.aspect, interpolation="bilinear")
        # a square frame for every shape of picture, so that the grid stays a grid
        tall, wide = case.picture.shape[0] * case.aspect, case.picture.shape[1]
        side = max(tall, wide)
        axis.set_xlim((wide - side) / 2 - 0.5, (wide + side) / 2 - 0.5)
        centre = case.picture.shape[0] / 2
        axis.set_ylim(centre + side / 2 / case.aspect - 0.5, centre - side / 2 / case.aspect - 0.5)
    handles = [
        Patch(color=(color[0] / 255, color[1] / 255, color[2] / 255), label=plain_text(labels[value]))
        for value, color in shown
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.008, 0.0),
            ncols=min(len(handles), per_row),
            fontsize=9,
            frameon=False,
        )
    with atomic_file(path) as partial:
        figure.savefig(partial)


def _caption(case: CheckedCase) -> str:
    """Name and place in the first line, what was found in the second."""
    rules = list(dict.fromkeys(finding.rule for finding in case.findings))
    name = case.case if len(case.case) <= 22 else case.case[:21] + "…"
    second = ", ".join(rules) if rules else "ok"
    second = second if len(second) <= 32 else second[:31] + "…"
    return plain_text(f"{name}  {case.place}".rstrip() + f"\n{second}")
