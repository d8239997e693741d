"""A case whose every voxel is known: markers to the patient's left and in front, a truth and a prediction beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass
class Phantom:
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    affine: np.ndarray


@pytest.fixture
def phantom() -> Phantom:
    """Voxels of 2 x 2 x 4 mm, the first axis to the patient's left, the second to the back, the third to the head."""
    image = np.full((60, 50, 14), 100.0, np.float32)
    image[::7, ::7] = 40
    truth, prediction = np.zeros((2, *image.shape), np.uint8)
    image[44:48, 14:18, 6:9] = 200
    truth[22:28, 20:26, 5:10] = 1
    prediction[34:40, 30:36, 5:10] = 2
    affine = np.diag([-2.0, -2.0, 4.0, 1.0])
    affine[:3, 3] = 51, 40, -30
    return Phantom(image, truth, prediction, affine)
