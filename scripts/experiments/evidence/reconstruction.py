"""Pictures and error of a masked autoencoder's reconstructions, next to predicting every cell's mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from custom_networks import fold_split, load_weights, read_datalist
from custom_networks.networks.masked_autoencoder import EPS, to_cells
from custom_networks.networks.sparse import random_cells, upsample_cells

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "gynbtnet_pretrain"


def reconstruction_error(
    image: torch.Tensor, reconstruction: torch.Tensor, active: torch.Tensor
) -> tuple[float, float, int]:
    """Error over hidden cells in the units of the loss with the target `cell`.

    Args:
        image: (1, 1, D, H, W).
        reconstruction: same shape, in the image's units.
        active: visible cells (1, 1, d, h, w), bool.

    Returns:
        Sum over hidden cells of the mean squared error divided by the cell's variance; the same for predicting each
        cell's mean; number of hidden cells.
    """
    grid, hidden = list(active.shape[2:]), ~active[:, 0]
    truth, guess = (to_cells(x, grid)[hidden].double() for x in (image, reconstruction))
    var, mean = torch.var_mean(truth, dim=-1, correction=0, keepdim=True)
    error = ((guess - truth).square() / (var + EPS)).mean(-1).sum()
    baseline = ((mean - truth).square() / (var + EPS)).mean(-1).sum()
    return float(error), float(baseline), int(hidden.sum())


def reconstruction_pictures(
    config: str, weights: str, datalist: str, output: str, pictures: int = 4, fold: int = 0, seed: int = 0
) -> int:
    """Reconstruct the validation cases of stage 1: a picture of each of the first ones, and the error over all of them.

    Args:
        config: override file that the network was trained with.
        weights: its `model.pt`.
        datalist: that it was trained with.
        output: folder to write to: NAME.png, reconstruction.csv.
        pictures: number of cases to draw.
        fold: of the validation cases.
        seed: of the masks.

    Returns:
        0 if the error is below that of predicting every hidden cell's mean, else 1.

    Raises:
        CaseError: a file is missing or does not fit.
    """
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / "inference.json"), config])
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    network.eval()
    preprocessing: Compose = parser.get_parsed_content("preprocessing")
    cases = fold_split(read_datalist(datalist), fold)[1]
    folder, rows = Path(output), []
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for i, case in enumerate(cases):
        image = _divisible(preprocessing({"image": case["image"]})["image"].as_tensor()[None], network.encoder.cell)
        grid = [n // network.encoder.cell for n in image.shape[2:]]
        active = random_cells(1, grid, network.mask_ratio, generator)
        with torch.no_grad():
            reconstruction = network(image, active)
        rows.append((case["case"], *reconstruction_error(image, reconstruction, active)))
        if i < pictures:
            visible = upsample_cells(active, list(image.shape[2:]))
            volumes = [x[0, 0].numpy() for x in (image, visible, reconstruction)]
            spacing = float(parser.get_parsed_content("spacing")[0])
            _draw(volumes, spacing, rows[-1], folder / f"{case['case']}.png")
    error, baseline, cells = (sum(row[i] for row in rows) for i in (1, 2, 3))
    lines = [f"{name},{e / n:.4f},{b / n:.4f},{n}" for name, e, b, n in rows]
    lines.append(f"all,{error / cells:.4f},{baseline / cells:.4f},{cells}")
    table = "case,reconstruction_error,error_of_cell_means,hidden_cells\n" + "\n".join(lines) + "\n"
    (folder / "reconstruction.csv").write_text(table, encoding="utf-8")
    print(f"hidden cells of {len(rows)} validation cases: error {error / cells:.3f}, cell means {baseline / cells:.3f}")
    return int(error >= baseline)


def _divisible(image: torch.Tensor, cell: int) -> torch.Tensor:
    """The centre of an image whose sizes are multiples of a cell; a short axis is padded with the image's minimum."""
    pads: list[int] = []
    for n in reversed(image.shape[2:]):
        missing = max(cell - n, 0)
        pads += [missing // 2, missing - missing // 2]
    image = torch.nn.functional.pad(image, pads, value=float(image.min()))
    for axis in (2, 3, 4):
        size = image.shape[axis] // cell * cell
        image = image.narrow(axis, (image.shape[axis] - size) // 2, size)
    return image.contiguous()


def _draw(volumes: list[np.ndarray], spacing: float, row: tuple[Any, ...], file: Path) -> None:
    """Original, what the network saw, reconstruction: axial, sagittal and coronal, as a radiologist looks at them."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    image, visible, reconstruction = volumes
    body = image > np.quantile(image, 0.6)
    centre = [
        int(np.average(np.arange(n), weights=body.sum(tuple({0, 1, 2} - {i})))) for i, n in enumerate(image.shape)
    ]
    low, high = np.quantile(image, 0.02), np.quantile(image, 0.995)
    seen = np.where(visible, image, np.nan)
    grey = colormaps["gray"].with_extremes(bad="#38618c")
    # arrays are L, P, S: patient's right on the left, anterior or superior at the top
    views = (("axial", 2, lambda s: s.T), ("sagittal", 0, lambda s: s.T[::-1]), ("coronal", 1, lambda s: s.T[::-1]))
    shapes = [view(np.take(image, centre[axis], axis)).shape for _, axis, view in views]
    figure = Figure(figsize=(10.5, 10.5 / 3 * sum(h / w for h, w in shapes) + 0.9), layout="constrained", dpi=130)
    axes = figure.subplots(3, 3, gridspec_kw={"height_ratios": [h / w for h, w in shapes]})
    for r, (name, axis, view) in enumerate(views):
        for c, (title, volume) in enumerate(
            (("original", image), ("what the encoder sees", seen), ("reconstruction", reconstruction))
        ):
            panel = axes[r, c]
            panel.imshow(
                view(np.take(volume, centre[axis], axis)), cmap=grey, vmin=low, vmax=high, interpolation="nearest"
            )
            panel.set_xticks([])
            panel.set_yticks([])
            if r == 0:
                panel.set_title(title)
            if c == 0:
                panel.set_ylabel(name)
    height = shapes[0][0]
    axes[0, 0].plot([3, 3 + 100 / spacing], [height - 4] * 2, color="white", linewidth=2)
    axes[0, 0].text(3, height - 6, "10 cm", color="white", fontsize=9, va="bottom")
    figure.suptitle(
        f"{row[0]}: {row[3]} hidden cells of 16 voxels ({16 * spacing:g} mm), error {row[1] / row[3]:.2f} of the cells' "
        f"variance (cell means: {row[2] / row[3]:.2f})\nhidden cells are shown with their own mean and standard deviation",
        fontsize=10,
    )
    figure.savefig(file)
