"""Releases made for the occasion, one volume in several forms, and what every client's result is compared with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.sharing.package.package import package
from scripts.sharing.segment.segment import segment
from tests.scripts.conftest import DicomWriter

ROOT = Path(__file__).resolve().parents[2]
SHAPE, SPACING = (64, 64, 32), (2.0, 2.0, 3.0)
# of the networks: an eighth of the voxels, at no simple ratio, where rounding would decide between labels
COARSE = [3.7, 3.7, 5.3]
POCKET: dict[str, Any] = {
    "spacing": COARSE,
    "patch_size": [16, 32, 16],
    "features": 6,
    "kernel_sizes": [3, 3],
    "strides": [2],
    "deep_supervision": 0,
}
CT: dict[str, Any] = {"spacing": COARSE, "patch_size": [32, 32, 16], "variant": "tiny", "deep_supervision": 0}
SETTINGS = {
    "organ_pocketnet": POCKET,
    "tumor_pocketnet": POCKET,
    "gynbtnet_finetune": CT | {"orientation": "LPS"},
    "gynbtnet_brachytherapy": CT,
}
BUNDLES = list(SETTINGS)
# labels that the phantoms hold, as each bundle sees them
VALUES = {"organ_pocketnet": 1, "tumor_pocketnet": 2, "gynbtnet_finetune": 5, "gynbtnet_brachytherapy": 5}
# names that must not leave the DICOM series
PATIENT = {"PatientName": "Planted^Name", "PatientID": "PLANTED1"}
# x, y, z of image axes in LPS: rows of slices as a scanner would cut the patient, and one turned by 20 degrees
TURN = np.radians(20)
OBLIQUE = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])


@dataclass(frozen=True)
class Volume:
    """One volume: voxels (X, Y, Z) along left, posterior and superior, and what is in it."""

    modality: str
    array: np.ndarray
    label: np.ndarray
    affine: np.ndarray

    @property
    def ras(self) -> np.ndarray:
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine

    def nifti(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(self.array, self.ras), path)
        return path

    def series(self, folder: Path, view: str = "axial") -> Any:
        """Its slices as they are, or cut sagittally: pixels of 2 x 3 mm."""
        array, affine = self.array, self.affine
        if view == "sagittal":
            # columns run back, rows down, slices to the right: a right-handed stack
            order = np.array([[0, 0, -1, SHAPE[0] - 1], [1, 0, 0, 0], [0, -1, 0, SHAPE[2] - 1], [0, 0, 0, 1.0]])
            array, affine = array[::-1, :, ::-1].transpose(1, 2, 0), affine @ order
        return DicomWriter().series(folder, array, affine, modality=self.modality, patient=PATIENT, edit=_completed)


def _completed(ds: Any, _: int) -> None:
    """What archives and converters ask for, and something private that nobody may pass on."""
    ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber = "19410203", "F", "ACC4711"
    ds.StudyTime, ds.StudyID, ds.ReferringPhysicianName = "101112", "STUDY9", "Doktor^Planted"
    ds.add_new((0x0009, 0x0010), "LO", "PLANTED PRIVATE")
    ds.add_new((0x0009, 0x1001), "LO", "PLANTED SECRET")
    if ds.Modality == "CT":
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "HU"


def phantom(modality: str, turn: np.ndarray | None = None) -> Volume:
    """A body with a tumour in an organ (MR) or five balls (CT), told apart by their grey values."""
    at = (np.indices(SHAPE).T * SPACING).T - (np.array(SHAPE) * SPACING / 2)[:, None, None, None]
    label = np.zeros(SHAPE, dtype=np.uint8)
    for value, (centre, radius) in enumerate(_balls(modality), 1):
        label[np.linalg.norm(at - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius] = value
    noise = np.random.default_rng(0).normal(0, 4, SHAPE)
    if modality == "MR":
        array = 100 + 150.0 * label + noise
    else:
        array = np.where(np.hypot(at[0], at[1]) < 62, 150.0 * label, -1000) + noise
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * SPACING
    affine[:3, 3] = [-20.0, 15.0, 40.0]
    return Volume(modality, array.astype(np.int16), label, affine)


def _balls(modality: str) -> list[tuple[tuple[float, float, float], float]]:
    if modality == "MR":
        return [((4, -2, 0), 36), ((8, 0, 3), 20)]
    return [((0, 0, 0), 17), ((28, 28, 0), 17), ((-28, 28, 0), 17), ((28, -28, 0), 17), ((-28, -28, 0), 17)]


def modality_of(bundle: str) -> str:
    return "MR" if bundle.endswith("pocketnet") else "CT"


@pytest.fixture(scope="session")
def volumes() -> dict[str, Volume]:
    """The straight phantoms by modality."""
    return {modality: phantom(modality) for modality in ("MR", "CT")}


@pytest.fixture(scope="session")
def oblique() -> dict[str, Volume]:
    """The same, lying obliquely in the scanner."""
    return {modality: phantom(modality, OBLIQUE) for modality in ("MR", "CT")}


def fitted(bundle: str, volume: Volume, file: Path, **more: Any) -> Path:
    """Weights of a small network that has learned one volume, as a training leaves them."""
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor
    from monai.transforms import ResampleToMatch

    image = volume.nifti(file.parent / "fit/image.nii.gz")
    parser = ConfigParser()
    parser.read_config(str(ROOT / f"bundles/{bundle}/configs/inference.json"))
    parser.update({"bundle_root": str(file.parent), "device": "cpu", **SETTINGS[bundle], **more})
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    found = parser.get_parsed_content("preprocessing")({"image": str(image)})["image"]
    label = MetaTensor(torch.from_numpy(volume.label[None].astype(np.float32)), affine=torch.from_numpy(volume.ras))
    # sizes that every network halves without padding
    inside = (..., slice(32), slice(32), slice(16))
    truth = ResampleToMatch(mode="nearest")(label, found).as_tensor().long()[inside]
    x = found.as_tensor()[None][inside]
    if hasattr(network, "organ"):
        organ = (truth > 0).long()
        _fit(network.organ, x, organ)
        _fit(network.tumor, torch.cat([x, organ[None].float()], 1), (truth > 1).long())
    else:
        _fit(network, x, truth.clamp(max=1) if bundle == "organ_pocketnet" else truth)
    torch.save(network.state_dict(), file)
    return file


@torch.no_grad()
def _fit(network: Any, x: torch.Tensor, truth: torch.Tensor) -> None:
    """Random features of a voxel's own grey value, and a last layer that gives it the class whose mean is nearest."""
    head = network.head
    for weight in network.parameters():
        if weight.shape[2:] == (3, 3, 3):
            around = torch.ones(3, 3, 3, dtype=torch.bool)
            around[1, 1, 1] = False
            weight[..., around] = 0
    coarser = network.up[-1] if hasattr(network, "up") else network.decoder[-1].conv
    coarser.weight.zero_()
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(x)
    hook.remove()
    features, classes = seen[-1][0].flatten(1).T.double(), truth.flatten()
    centred, means = features.clone(), {}
    for value in classes.unique().tolist():
        means[value] = features[classes == value].mean(0)
        centred[classes == value] -= means[value]
    spread = torch.linalg.pinv(centred.T @ centred / len(centred) + 1e-6 * torch.eye(centred.shape[1]))
    head.weight.zero_()
    head.bias.fill_(-1000)
    for value, mean in means.items():
        head.weight[value, :, 0, 0, 0] = spread @ mean
        head.bias[value] = -mean @ spread @ mean / 2


@pytest.fixture(scope="session")
def release(volumes: dict[str, Volume], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Zip of a release of each bundle, made at its first use; CLIENTS_RELEASES names a folder that keeps them."""
    folder = Path(os.environ.get("CLIENTS_RELEASES") or tmp_path_factory.mktemp("releases"))

    def make(bundle: str) -> Path:
        made = folder / f"{bundle}_v9.0.0.zip"
        if not made.is_file():
            weights = fitted(bundle, volumes[modality_of(bundle)], folder / f"{bundle}.pt")
            package(str(ROOT / "bundles" / bundle), str(weights), str(folder), version="9.0.0", changes="for the test")
        return made

    return make


@pytest.fixture(scope="session")
def unpacked(release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A fresh copy of a release's folder."""

    def unpack(bundle: str) -> Path:
        folder = tmp_path_factory.mktemp("unpacked")
        shutil.unpack_archive(release(bundle), folder)
        return folder / bundle

    return unpack


@pytest.fixture(scope="session")
def segmented(release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """The folder that `segment` leaves of one scan."""

    def run(bundle: str, scan: Path) -> Path:
        output = tmp_path_factory.mktemp("segmented")
        assert segment(str(scan), str(output), str(release(bundle)), device="cpu") == 0
        (found,) = [path for path in output.iterdir() if path.is_dir()]
        return found

    return run


def label_map(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).squeeze().astype(np.uint8)


def lps_grid(path: Path) -> tuple[np.ndarray, tuple[int, int, int]]:
    """4x4 matrix of a NIfTI from voxel index to LPS+ mm, and its shape."""
    image = nib.load(path)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine, image.shape


def on_grid(path: Path, grid: Path) -> np.ndarray:
    """A label map whose axes may be turned against those of an image of the same voxels."""
    (affine, shape), label = lps_grid(grid), label_map(path)
    to_grid = np.linalg.inv(affine) @ lps_grid(path)[0]
    where = np.argwhere(label)
    index = where @ to_grid[:3, :3].T + to_grid[:3, 3]
    assert np.abs(index - np.rint(index)).max() < 0.01, "the voxels differ"
    placed = np.zeros(shape, dtype=np.uint8)
    placed[tuple(np.rint(index).astype(int).T)] = label[tuple(where.T)]
    return placed


def assert_same(found: np.ndarray, expected: np.ndarray, least: float = 0.999, voxels: int = 1000) -> None:
    """DSC of every label; what `expected` lacks is absent, what it has is large enough for the figure to mean something."""
    assert found.shape == expected.shape
    present = [int(value) for value in np.unique(expected) if value]
    assert present
    assert {int(value) for value in np.unique(found) if value} == set(present)
    for value in present:
        one, two = found == value, expected == value
        assert two.sum() >= voxels, f"label {value} has {two.sum()} voxels"
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) >= least, f"label {value}"
