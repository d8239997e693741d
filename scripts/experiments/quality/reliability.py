"""The reliability curve: what was said against what happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.core.files import atomic_file
from scripts.core.look import colours, plain_text
from scripts.experiments.quality.model import Model

COLUMNS = 3


def draw(file: Path, models: Mapping[str, Model]) -> None:
    """Draw a panel per structure: bins of the number, on cases of other patients, against the share of bad contours.

    Args:
        file: PNG to write.
        models: by structure, each with its reliability.
    """
    from matplotlib.figure import Figure

    palette = colours(models)
    width = min(COLUMNS, len(models))
    height = -(-len(models) // width)
    figure = Figure(figsize=(3.6 * width, 3.8 * height), layout="constrained", dpi=110)
    axes = figure.subplots(height, width, squeeze=False).ravel()
    for panel, (name, model) in zip(axes, models.items(), strict=False):
        right = model.reliability
        assert right is not None
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        said, happened, counts = zip(*right.bins, strict=True)
        panel.plot(said, happened, color=palette[name], marker="o")
        for x, y, count in right.bins:
            panel.annotate(f"{count}", (x, y), textcoords="offset points", xytext=(5, -11), fontsize=8)
        panel.set_title(
            f"{plain_text(name)}: DSC below {model.threshold:.2f}\n"
            f"AUROC {right.auroc:.2f}, calibration error {right.calibration_error:.2f}",
            fontsize=9,
        )
        panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        panel.set_xlabel("said: probability", fontsize=9)
        panel.set_ylabel(f"happened: share of {sum(counts)} cases", fontsize=9)
    for empty in axes[len(models) :]:
        empty.axis("off")
    with atomic_file(file) as partial:
        figure.savefig(partial)
