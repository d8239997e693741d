"""MONAI Label on a PACS: a series is named by its UID, its contours go back as a SEG."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.core.dicom.seg import read_seg
from tests.clients.conftest import SHAPE, Volume, assert_same, label_map, on_grid
from tests.clients.servers import label_server, orthanc
from tests.clients.test_deploy import seg_map

pytestmark = pytest.mark.client


def test_an_oblique_volume_gives_the_same_contours_in_every_form(
    oblique: dict[str, Volume],
    unpacked: Callable[[str], Path],
    segmented: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    """As NIfTI, cut axially and sagittally, and from the PACS, which gets a SEG that is read back equal."""
    volume, image = oblique["MR"], oblique["MR"].nifti(tmp_path / "image.nii.gz")
    expected = label_map(segmented("tumor_pocketnet", image) / "label.nii.gz")
    axial = volume.series(tmp_path / "axial")
    volume.series(tmp_path / "sagittal", "sagittal")
    for view in ("axial", "sagittal"):
        # the SEG of either, on the grid of the axial slices
        seg = segmented("tumor_pocketnet", tmp_path / view) / "seg.dcm"
        assert_same(seg_map(seg, axial.affine, SHAPE, 2), expected, 0.995)

    with orthanc(tmp_path) as pacs:
        pacs.store(axial.files)
        environment = {"MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": "MR"})}
        with label_server(tmp_path, [unpacked("tumor_pocketnet")], pacs.web, **environment) as server:
            found = server.infer("tumor_pocketnet", axial.uid, tmp_path / "found.nii.gz")
            inferred = on_grid(found, image)
            assert_same(inferred, expected, 0.995)

            server.put_label(axial.uid, found, label_info=[{"name": "organ"}, {"name": "tumor"}])
            (stored,) = pacs.of_modality("SEG", tmp_path)
            assert read_seg(stored).series == {axial.uid}
            assert [roi.name for roi in read_seg(stored).rois] == ["organ", "tumor"]
            np.testing.assert_array_equal(seg_map(stored, axial.affine, SHAPE, 2), inferred)

            # a label that is absent: the client sends an entry for the one that is there
            label, affine = label_map(found), nib.load(found).affine
            one = tmp_path / "one.nii.gz"
            nib.save(nib.Nifti1Image(np.where(label == 2, label, 0), affine), one)
            server.put_label(axial.uid, one, label_info=[{"name": "tumor"}])
            (other,) = set(pacs.of_modality("SEG", tmp_path)) - {stored}
            assert [roi.name for roi in read_seg(other).rois] == ["tumor"]

            # nothing found: no SEG without a frame
            nib.save(nib.Nifti1Image(np.zeros_like(label), affine), one)
            status, _ = server.try_put_label(axial.uid, one, label_info=[{"name": "organ"}])
            assert status == 500
            assert len(pacs.of_modality("SEG", tmp_path)) == 2
