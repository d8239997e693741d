from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.experiments.evidence.reconstruction import (
    BUNDLE,
    _divisible,
    reconstruction_error,
    reconstruction_pictures,
)

SIZES = {"spacing": [4.0, 4.0, 4.0], "patch_size": [32, 32, 32], "variant": "tiny", "decoder_width": 16}


def test_error_is_over_hidden_cells_by_their_own_variance() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 1, 8, 8, 8) * 3
    active = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    active[..., 0] = True
    assert reconstruction_error(image, image, active) == (0.0, pytest.approx(4, rel=1e-4), 4)
    wrong = image.clone()
    wrong[..., :4] += 100  # where it is visible
    assert reconstruction_error(image, wrong, active)[0] == 0
    wrong = image.clone()
    cell = image[0, 0, :4, :4, 4:]
    wrong[0, 0, :4, :4, 4:] += 2
    found = reconstruction_error(image, wrong, active)[0]
    assert found == pytest.approx(4 / float(cell.var(correction=0)), rel=1e-4)


def test_sizes_become_multiples_of_a_cell() -> None:
    image = torch.arange(20 * 9 * 16, dtype=torch.float32).reshape(1, 1, 20, 9, 16) + 5
    found = _divisible(image, 16)
    assert found.shape == (1, 1, 16, 16, 16)
    assert torch.equal(found[0, 0, :, 3:12], image[0, 0, 2:18])
    assert (found[0, 0, :, :3] == 5).all()


def test_pictures_and_table_of_an_untrained_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.json").write_text(json.dumps(SIZES))
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs/inference.json"), str(tmp_path / "small.json")])
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    cases = []
    for i in range(3):
        voxels = np.random.default_rng(i).normal(0, 300, (36, 34, 20)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path / f"c{i}.nii.gz")
        cases.append({"case": f"c{i}", "patient": f"c{i}", "image": f"c{i}.nii.gz", "fold": min(i, 1) if i < 2 else 0})
    (tmp_path / "datalist.json").write_text(json.dumps({"name": "t", "modality": "CT", "training": cases}))
    files = {name: str(tmp_path / file) for name, file in (("config", "small.json"), ("weights", "model.pt"))}
    code = reconstruction_pictures(
        **files, datalist=str(tmp_path / "datalist.json"), output=str(tmp_path / "out"), pictures=1
    )
    rows = (tmp_path / "out/reconstruction.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["case", "c0", "c2", "all"]
    error, baseline = (float(value) for value in rows[-1].split(",")[1:3])
    # noise cannot be predicted: the mean of a cell is the best guess, an untrained network's is worse
    assert baseline == pytest.approx(1, abs=0.02)
    assert code == int(error >= baseline)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["c0.png"]
    assert "2 validation cases" in capsys.readouterr().out
