"""Enhanced (multi-frame) MR and CT, read by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import read_dataset
from scripts.core.dicom.pixels import padding_of


def read_frames(case: str, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the frames of one file as a volume.

    Args:
        case: the case's name, for messages.
        file: an Enhanced MR, Enhanced CT or legacy converted one.

    Returns:
        Rescaled grey values (columns, rows, slices), whether each is padding, and the 4x4 matrix from (column, row,
        slice) index to LPS+ mm, with slices along the cross product of row and column.

    Raises:
        CaseError: it cannot be read, or its frames are not one regular stack.
    """
    import highdicom as hd

    try:
        dataset = read_dataset(file)
        image: Any = hd.Image.from_dataset(dataset, copy=False)
        stored = image.get_volume(apply_real_world_transform=False, apply_modality_transform=False)
        rescaled = image.get_volume(apply_real_world_transform=False)
    except (RuntimeError, ValueError) as error:  # highdicom's messages may repeat header values
        raise CaseError(
            case,
            f"its frames are not one regular stack of slices or cannot be read ({type(error).__name__})",
            "export one volume per series (one echo, b-value and time point), or as classic DICOM",
        ) from None
    array = np.asarray(rescaled.array).transpose(2, 1, 0)
    affine = np.asarray(rescaled.affine, dtype=np.float64)[:, [2, 1, 0, 3]]
    reserved = padding_of(dataset, (1.0, 0.0))
    padded = np.zeros(array.shape, dtype=bool)
    if reserved is not None:
        values = np.asarray(stored.array).transpose(2, 1, 0)
        padded = (values >= reserved[0]) & (values <= reserved[1])
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
        array, padded = array[:, :, ::-1], padded[:, :, ::-1]
    return array, padded, affine
