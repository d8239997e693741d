"""MONAI Label on NIfTI: what it finds, what it learns and what it refuses, with releases as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.clients.conftest import BUNDLES, Volume, assert_same, label_map, modality_of
from tests.clients.servers import Label, label_server

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def studies(volumes: dict[str, Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of each modality."""
    folder, rng = tmp_path_factory.mktemp("studies"), np.random.default_rng(1)
    for modality, volume in volumes.items():
        for i in range(3):
            array = (volume.array + rng.normal(0, 2 * i + 0.1, volume.array.shape)).astype(np.int16)
            nib.save(nib.Nifti1Image(array, volume.ras), folder / f"{modality}{i}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(unpacked: Callable[[str], Path], studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Label]:
    bundles = [unpacked(bundle) for bundle in BUNDLES]
    with label_server(tmp_path_factory.mktemp("label"), bundles, str(studies)) as started:
        yield started


@pytest.mark.parametrize("bundle", BUNDLES)
def test_infer_gives_the_label_map_of_segment(
    bundle: str, server: Label, studies: Path, segmented: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    image = f"{modality_of(bundle)}0"
    found = server.infer(bundle, image, tmp_path / "found.nii.gz")
    expected = segmented(bundle, studies / f"{image}.nii.gz") / "label.nii.gz"
    assert_same(label_map(found), label_map(expected))
    np.testing.assert_allclose(nib.load(found).affine, nib.load(expected).affine, atol=1e-4)


def test_weights_of_another_bundle_are_refused(server: Label) -> None:
    own, other = (server.bundle(name) / "models/model.pt" for name in ("tumor_pocketnet", "organ_pocketnet"))
    kept = shutil.copy(own, own.with_suffix(".kept"))
    try:
        shutil.copyfile(other, own)
        status, _ = server.try_infer("tumor_pocketnet", "MR0")
    finally:
        shutil.move(kept, own)
    assert status == 500
    server.wait_for("they belong to another architecture")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_annotate_and_train_again(bundle: str, server: Label, volumes: dict[str, Volume], tmp_path: Path) -> None:
    """Every Train learns: from the labels of the moment, starting at the present weights."""
    modality = modality_of(bundle)
    # the one thing that is edited: an epoch of the CT bundles has 250 iterations
    config = server.bundle(bundle) / "configs/train.json"
    config.write_text(config.read_text().replace('"iterations": 250', '"iterations": 3'))
    weights = server.bundle(bundle) / "models/model.pt"
    label = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(volumes[modality].label, volumes[modality].ras), label)
    server.clear_labels()
    for i in range(2):
        server.put_label(f"{modality}{i}", label)
    states = [torch.load(weights, weights_only=True)]
    for _ in range(2):
        server.train(bundle)
        states.append(torch.load(weights, weights_only=True))
        server.put_label(f"{modality}2", label)
    for before, after in pairwise(states):
        assert before.keys() == after.keys()
        learned = [name for name in before if name != "settings" and not torch.equal(before[name], after[name])]
        assert learned
        assert all(value.isfinite().all() for value in after.values())
    torch.testing.assert_close(states[0]["settings"], states[-1]["settings"])
