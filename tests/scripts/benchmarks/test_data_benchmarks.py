"""The benchmarks of preprocessing and loading: they run without peers, and measure what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.benchmarks.loading import loading, waiting
from scripts.benchmarks.peer_loading import measure
from scripts.benchmarks.preprocessing import preprocessing
from scripts.data.preprocess.preprocess import preprocess

BUNDLE = Path(__file__).parents[3] / "bundles/organ_pocketnet"


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    entries = []
    for i in range(2):
        label = np.zeros((24, 24, 8), np.uint8)
        label[8:16, 8:16, 2:6] = 1
        image = np.random.default_rng(i).gamma(2, 50, label.shape).astype(np.int16)
        affine = np.diag([-1.0, -1, 4, 1])
        nib.save(nib.Nifti1Image(image, affine), tmp_path / f"i{i}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), tmp_path / f"l{i}.nii.gz")
        entries.append({"case": f"c{i}", "patient": f"p{i}", "image": f"i{i}.nii.gz", "label": f"l{i}.nii.gz"})
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"labels": {"0": "background", "1": "organ"}, "training": entries}))
    return path


@pytest.mark.slow
def test_preprocessing_runs_without_peers(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = cohort.parent / "bench"
    status = preprocessing(datalist=str(cohort), bundle=str(BUNDLE), workers=1, spacing=[2, 2, 4], output=str(output))
    assert status == 0
    written = json.loads((output / "preprocessing.json").read_text())
    ours = written["rows"][0]
    assert ours["system"] == "this project"
    assert ours["cases"] == 2
    assert ours["seconds"] > 0
    assert written["spacing"] == [2.0, 2.0, 4.0]
    assert "2 volumes to 2 x 2 x 4 mm" in capsys.readouterr().out


@pytest.mark.slow
def test_loading_runs_without_peers(cohort: Path, tmp_path: Path) -> None:
    small = tmp_path / "spacing.json"
    small.write_text(json.dumps({"spacing": [1, 1, 4]}))
    preprocess(bundle=str(BUNDLE), datalist=str(cohort), output=str(tmp_path / "out"), workers=0, overrides=str(small))
    status = loading(
        preprocessed=str(tmp_path / "out"),
        patch_size=(8, 8, 4),
        crops=10,
        cold_crops=2,
        repeats=1,
        output=str(tmp_path / "bench"),
        peers_python=sys.executable,
        bundle=str(BUNDLE),
        workers=[0],
        samples=4,
        rate=100.0,
    )
    assert status == 0
    waits = json.loads((tmp_path / "bench/loading.json").read_text())["waiting"]
    assert [wait["workers"] for wait in waits] == [0]
    rows = {row["loader"]: row for row in json.loads((tmp_path / "bench/loading.json").read_text())["rows"]}
    assert rows["mapped arrays"]["crops per s"] > 0
    assert rows["PersistentDataset"]["crops per s"] > 0
    assert not list((tmp_path / "out").glob("loading_*"))


def test_waiting_is_the_share_of_time_that_the_consumer_waits(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader that takes 30 ms for a sample, and consumers that take 5 and 60 ms."""
    small = tmp_path / "spacing.json"
    slow = {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: (__import__('time').sleep(0.03), x)[1]"}
    small.write_text(
        json.dumps({"spacing": [1, 1, 4], "patch_size": [8, 8, 4], "batch_size": 1, "train#random_transforms#2": slow})
    )
    preprocess(bundle=str(BUNDLE), datalist=str(cohort), output=str(tmp_path / "out"), workers=0, overrides=str(small))
    fast, calm = (waiting(BUNDLE, tmp_path / "out", 1, rate, 16) for rate in (200.0, 16.0))
    assert fast["waiting %"] > 60
    assert calm["waiting %"] < 30
    assert calm["samples per s"] == pytest.approx(16, rel=0.3)


def test_measure_counts_calls_and_releases(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(10_000))
    calls = {"crop": 0, "release": 0}

    def crop() -> None:
        calls["crop"] += 1
        file.read_bytes()

    def release() -> None:
        calls["release"] += 1

    found = measure(crop, release, [file], {"crops": 30, "cold_crops": 3})
    assert calls == {"crop": 20 + 30 + 3, "release": 3}
    assert found["crops_per_second"] > 0
    assert found["disk_bytes"] == 10_000


def test_bad_input(cohort: Path) -> None:
    with pytest.raises(CaseError, match="no labelled preprocessed case"):
        loading(preprocessed=str(cohort.parent))
    cohort.write_text(json.dumps({"training": [{"case": "a", "image": "i0.nii.gz"}]}))
    with pytest.raises(CaseError, match="no labelled training case"):
        preprocessing(datalist=str(cohort))
