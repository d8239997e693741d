"""MONAI Deploy: the application of scripts/sharing/deploy on a release's model.ts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.core.dicom.seg import segment_to_mask
from tests.clients.conftest import BUNDLES, ROOT, SHAPE, VALUES, Volume, assert_same, modality_of
from tests.clients.servers import DEPLOY

pytestmark = pytest.mark.client


def deploy(series: Path, output: Path, model: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command of docs/clients.md."""
    python = DEPLOY / "bin/python"
    if not python.is_file():
        pytest.fail("MONAI Deploy is not installed: run `make clients`")
    words = [str(python), "-m", "scripts.sharing.deploy.app", "-i", str(series), "-o", str(output), "-m", str(model)]
    own = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(
        words, cwd=output.parent, env=os.environ | own, capture_output=True, text=True, check=False, timeout=500
    )


def seg_map(seg: Path, affine: np.ndarray, shape: tuple[int, int, int], values: int) -> np.ndarray:
    """Label map (columns, rows, slices) of a SEG whose segments may lie within each other, the inner one later."""
    label = np.zeros(shape, dtype=np.uint8)
    for value in range(1, values + 1):
        label[segment_to_mask("seg", seg, value, affine, shape).array] = value
    return label


@pytest.mark.parametrize("bundle", BUNDLES)
def test_deploy_writes_what_segment_writes(
    bundle: str,
    oblique: dict[str, Volume],
    unpacked: Callable[[str], Path],
    segmented: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    """On sagittal slices with pixels of 2 x 3 mm, whose spacings the SDK's own reader swaps."""
    volume = oblique[modality_of(bundle)]
    written = volume.series(tmp_path / "in", "sagittal")
    (tmp_path / "out").mkdir()
    done = deploy(tmp_path / "in", tmp_path / "out", unpacked(bundle) / "models/model.ts")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rtstruct.dcm", "seg.dcm"]
    shape, values = (SHAPE[1], SHAPE[2], SHAPE[0]), VALUES[bundle]
    folders = (tmp_path / "out", segmented(bundle, tmp_path / "in"))
    found, expected = (seg_map(folder / "seg.dcm", written.affine, shape, values) for folder in folders)
    assert_same(found, expected)
    assert b"PLANTED SECRET" not in b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_two_series_and_another_modality_are_refused_in_one_sentence(
    volumes: dict[str, Volume], unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    model = unpacked("tumor_pocketnet") / "models/model.ts"
    (tmp_path / "out").mkdir()
    for name in ("one", "two"):
        volumes["MR"].series(tmp_path / "mr" / name)
    volumes["CT"].series(tmp_path / "ct")
    for folder, sentence in (("mr", "it holds 2 MR series"), ("ct", "there is no scan to segment in it")):
        done = deploy(tmp_path / folder, tmp_path / "out", model)
        assert done.returncode == 2
        assert sentence in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_another_model_is_refused_in_one_sentence(
    volumes: dict[str, Volume], unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    volumes["MR"].series(tmp_path / "mr")
    (tmp_path / "out").mkdir()
    done = deploy(tmp_path / "mr", tmp_path / "out", unpacked("tumor_pocketnet"))
    assert done.returncode == 2
    assert "pass -m RELEASE/models/model.ts" in done.stderr
