from __future__ import annotations

import nibabel as nib
import numpy as np

from scripts.data.dicom.axial import AXIAL_SPACING, to_axial

# sagittal slices of 5 mm: columns run to the back, rows to the feet, slices to the left
SAGITTAL = np.array([[0, 0, -5.0, 40], [-1.0, 0, 0, 30], [0, -1.0, 0, 50], [0, 0, 0, 1]])
X, Y, Z = np.mgrid[:60, :80, :13]


def test_a_sagittal_stack_becomes_axial_at_the_papers_spacing() -> None:
    image, affine = to_axial((X + 2 * Y).astype(np.int16), SAGITTAL, label=False)
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), AXIAL_SPACING, atol=1e-4)
    assert image.dtype == np.int16
    # world coordinates hold the same values: one millimetre back is one column, one towards the feet one row
    for index in ([3, 3, 1], [image.shape[0] // 2, 40, image.shape[2] // 2], [n - 3 for n in image.shape]):
        column, row, _ = (np.linalg.inv(SAGITTAL) @ affine @ [*index, 1])[:3]
        assert abs(image[tuple(index)] - (column + 2 * row)) <= 0.51


def test_labels_stay_whole_and_keep_their_volume() -> None:
    ball = (((X - 30) / 14) ** 2 + ((Y - 40) / 20) ** 2 + ((Z - 6) / 4) ** 2 < 1).astype(np.uint8) * 2
    label, affine = to_axial(ball, SAGITTAL, label=True)
    assert set(np.unique(label)) == {0, 2}
    before = np.count_nonzero(ball) * 5.0
    assert abs(np.count_nonzero(label) * abs(np.linalg.det(affine[:3, :3])) / before - 1) < 0.05
