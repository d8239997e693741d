"""A tumour bundle small enough for a CPU, with weights that find something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SMALL: dict[str, Any] = {
    "spacing": [2.0, 2.0, 4.0],
    "patch_size": [32, 32, 16],
    "features": 4,
    "kernel_sizes": [3, 3],
    "strides": [2],
    "deep_supervision": 0,
}
# half a patch
LEAST = [32, 32, 32]
SHAPE = (40, 36, 12)


@pytest.fixture(scope="session")
def blob() -> np.ndarray:
    """A bright ball with a brighter core in noise."""
    x, y, z = np.indices(SHAPE)
    radius = np.hypot(np.hypot(x - 18, y - 17), 2.5 * (z - 6))
    noise = np.random.default_rng(0).normal(0, 1, SHAPE)
    return (100 + 200 * (radius < 12) + 200 * (radius < 5) + noise).astype(np.int16)


def _weights(bundle: Path, seed: int, image: np.ndarray) -> dict[str, torch.Tensor]:
    """A few steps on the image itself: rough contours, another network for another seed."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    torch.manual_seed(seed)
    network = parser.get_parsed_content("network_def").train()
    x = torch.from_numpy(image.astype(np.float32))[None, None]
    x = (x - x.mean()) / x.std()
    organ, tumor = (torch.from_numpy(image > level).long()[None] for level in (200, 400))
    pairs = [(network.organ, x, organ), (network.tumor, torch.cat([x, organ[None].float()], 1), tumor)]
    for part, given, truth in pairs:
        part.requires_grad_(True)
        optimizer = torch.optim.Adam(part.parameters(), lr=0.02)
        for _ in range(25):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(part(given), truth).backward()
            optimizer.step()
    return dict(network.state_dict())


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, blob: np.ndarray) -> Path:
    """The shipped bundle with smaller numbers, models/model.pt, and five folds beside it."""
    source = Path(__file__).parents[3] / "bundles/tumor_pocketnet"
    folder = tmp_path_factory.mktemp("bundles") / "tumor_pocketnet"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("models", "output", "eval"))
    file = folder / "configs/inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | SMALL))
    file = folder / "configs/metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"least_field_of_view_mm": LEAST}))
    (folder / "models").mkdir()
    torch.save(_weights(folder, 1, blob), folder / "models/model.pt")
    for fold in range(2):
        (folder / f"folds/fold{fold}").mkdir(parents=True)
        torch.save(_weights(folder, 10 + fold, blob), folder / f"folds/fold{fold}/final.pt")
    return folder


@pytest.fixture
def mr_series(dicom: Any, blob: np.ndarray, tmp_path: Path) -> Callable[..., Any]:
    """Write an MR series of the blob with everything that identifies a patient."""

    def write(name: str = "mr", view: str = "oblique", modality: str = "MR", **more: Any) -> Any:
        def edit(ds: Any, z: int) -> Any:
            ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber = "19410203", "F", "ACC4711"
            ds.StudyTime, ds.StudyID, ds.ReferringPhysicianName = "101112", "STUDY9", "Doktor^Planted"
            return False if z in more.get("missing", ()) else None

        patient = {"PatientName": "Planted^Name", "PatientID": "PLANTED1"}
        affine = dicom.affine(view, spacing=more.get("spacing", (2.0, 2.0, 4.0)))
        description = more.get("description", "T2 planted description")
        return dicom.series(
            tmp_path / "in" / name, blob, affine, modality=modality, patient=patient, edit=edit, description=description
        )

    return write
