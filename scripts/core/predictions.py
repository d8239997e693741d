"""Which prediction belongs to which case, and both on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from custom_networks.data.checks import check_grid, check_values
from scripts.core.datalist import Case, image_stem, safe_name
from scripts.core.reading import read


def find_prediction(folder: Path, case: Case) -> Path | None:
    """Find a case's prediction: by case name, or as MONAI's `SaveImaged` names it after the image."""
    for name in dict.fromkeys((safe_name(case.name), image_stem(case.image))):
        for candidate in (name, f"{name}_pred", f"{name}/{name}_pred", f"{name}/{name}"):
            for suffix in (".nii.gz", ".nii"):
                path = folder / f"{candidate}{suffix}"
                if path.is_file():
                    return path
    return None


def region(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a label map holds one of the values (bool, same shape)."""
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask


def read_pair(case: Case, folder: Path, known: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Read the label map and the prediction of one case.

    Args:
        case: with a label.
        folder: of the predictions.
        known: label values that may occur; empty accepts any.

    Returns:
        Label (X, Y, Z), prediction on the same grid or None where there is no file, and the affine in mm.

    Raises:
        CaseError: a file is unreadable, holds unknown or fractional values, or the grids differ.
    """
    file = str(case.label)
    label = read(file, case.name, "label")
    files = {f"label {file}": label}
    path = find_prediction(folder, case)
    if path is not None:
        pred = files[f"prediction {path}"] = read(str(path), case.name, "prediction")
        check_grid(case.name, f"prediction {path}", pred, label)
    for what, (voxels, _) in files.items():
        if known:
            check_values(case.name, what, voxels, known)
    return label[0], None if path is None else pred[0], label[1]
