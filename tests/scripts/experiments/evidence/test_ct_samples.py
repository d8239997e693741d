from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Datalist
from scripts.experiments.evidence.ct_samples import (
    OPENKBP,
    openkbp_parts,
    samples_folder,
    write_brachytherapy,
    write_finetuning,
    write_pretraining,
)

NAMES = [f"pt_{i}" for i in range(12)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The layout of the samples: twelve patients, the last two without a structure."""
    folder = tmp_path / "samples"
    structures = ["background", "PTV70", "Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible"]
    cases = [{"case": name, "present": structures[1 : 7 if i < 10 else 6]} for i, name in enumerate(NAMES)]
    for kind in ("images", "labels"):
        (folder / "openkbp" / kind).mkdir(parents=True)
        for name in NAMES:
            voxels = np.arange(27, dtype=np.int16).reshape(3, 3, 3) % 7
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "openkbp" / kind / f"{name}.nii.gz")
    labels = {str(i): name for i, name in enumerate(structures)}
    (folder / "openkbp/index.json").write_text(json.dumps({"labels": labels, "cases": cases}))
    case = folder / "cases/ct_abdpelvis_totalseg"
    case.mkdir(parents=True)
    for key in ("image", "label"):
        (case / f"{key}.nii.gz").touch()
    return folder


def test_parts_share_no_patient_and_depend_on_the_seed(source: Path) -> None:
    train, test, rest = openkbp_parts(source, 4, 3, seed=0)
    assert (len(train), len(test)) == (4, 3)
    assert sorted([*train, *test, *rest]) == sorted(NAMES)
    assert set(NAMES[10:]) <= set(rest)
    assert openkbp_parts(source, 4, 3, seed=0) == (train, test, rest)
    assert openkbp_parts(source, 4, 3, seed=1)[0] != train
    with pytest.raises(CaseError, match="10 complete cases, 11 wanted"):
        openkbp_parts(source, 8, 3, seed=0)


def test_the_three_datalists(source: Path, tmp_path: Path) -> None:
    first = Datalist.read(write_pretraining(source, NAMES, tmp_path / "1"))
    assert [case.fold for case in first.training].count(0) == 2  # every tenth of twelve
    assert all("label" not in case.files for case in first.training)
    second = Datalist.read(write_finetuning(source, tmp_path / "2"))
    assert len(second.labels) == 105
    assert second.testing[0].name == "ct_abdpelvis_totalseg_trained_on"
    third = Datalist.read(write_brachytherapy(source, NAMES[:6], NAMES[6:8], tmp_path / "3"))
    assert third.labels == OPENKBP
    assert [case.fold for case in third.training] == [0, 1, 2, 3, 4, 0]
    assert [case.name for case in third.testing] == NAMES[6:8]
    # both parotids become one class, the mandible moves up
    merged = np.asarray(nib.load(tmp_path / "3/labels/pt_0.nii.gz").dataobj)
    assert merged.ravel()[:7].tolist() == [0, 1, 2, 3, 4, 4, 5]


def test_samples_are_found_or_asked_for(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GYN_SAMPLES", str(source))
    assert samples_folder() == source
    with pytest.raises(CaseError, match="is no folder of the public samples"):
        samples_folder(str(tmp_path))
