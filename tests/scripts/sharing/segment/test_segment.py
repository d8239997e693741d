"""The verb from a scan to contours: the bundle's own voxels, in every format, without the patient in what is not DICOM."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from custom_networks import read_settings, read_weights
from custom_networks.settings import encoded
from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.seg import segment_to_mask
from scripts.core.dicom.source import read_source
from scripts.core.files import write_nifti
from scripts.sharing.contours.place import RAS_TO_LPS, on_series
from scripts.sharing.segment.segment import segment


def bundle_run(
    folder: Path, image: Path, output: Path, configs: str = "configs/inference.json", **more: str
) -> np.ndarray:
    """What `python -m monai.bundle run` makes of an image."""
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", configs]
    words += ["--dataset_dir", str(image), "--output_dir", str(output)]
    for name, value in more.items():
        words += [f"--{name}", value]
    repo = str(Path(__file__).parents[4])
    environment = os.environ | {"PYTHONPATH": repo, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
    (file,) = output.glob("*_pred.nii.gz")
    return np.asarray(nib.load(file).dataobj)


@pytest.fixture
def nifti(dicom: Any, blob: np.ndarray, tmp_path: Path) -> Path:
    affine = RAS_TO_LPS @ dicom.affine("oblique", spacing=(2.0, 2.0, 4.0))
    return write_nifti(tmp_path / "in/patient.nii.gz", blob, affine)


def test_nifti_gives_the_voxels_of_monai_bundle(small_bundle: Path, nifti: Path, tmp_path: Path, capsys: Any) -> None:
    assert segment(str(nifti), str(tmp_path / "out"), str(small_bundle)) == 0
    label = np.asarray(nib.load(tmp_path / "out/patient/label.nii.gz").dataobj)
    np.testing.assert_array_equal(label, bundle_run(small_bundle, nifti, tmp_path / "run"))
    assert {1, 2} <= set(np.unique(label).tolist())
    assert sorted(p.name for p in (tmp_path / "out/patient").iterdir()) == ["label.nii.gz", "preview.png"]
    rows = (tmp_path / "out/volumes.csv").read_text().splitlines()
    assert rows[0] == "scan,structure,ml"
    # the organ includes its tumour
    assert rows[1].startswith("patient,organ,")
    assert float(rows[1].split(",")[2]) == pytest.approx(np.count_nonzero(label) * 0.016, rel=6e-3)
    assert "1 of 1 scans segmented" in capsys.readouterr().out


@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
def test_dicom_gives_the_same_contours_in_every_format(
    view: str, small_bundle: Path, mr_series: Callable[..., Any], tmp_path: Path
) -> None:
    written = mr_series(view=view)
    assert segment(str(tmp_path / "in"), str(tmp_path / "out"), str(small_bundle)) == 0
    folder = tmp_path / "out/scan001"
    source = read_source(written.files, "case")
    image = nib.load(folder / "label.nii.gz")
    label = on_series("case", np.asarray(image.dataobj).astype(np.int32), image.affine, source)
    for number, mask in enumerate((label > 0, label == 2), 1):
        assert mask.any()
        back = segment_to_mask("case", folder / "seg.dcm", number, source.affine, source.shape)
        np.testing.assert_array_equal(back.array, mask)
        roi = read_rtstruct(folder / "rtstruct.dcm").rois[number - 1]
        drawn = contours_to_mask("case", roi.contours, source.affine, source.shape)
        np.testing.assert_array_equal(drawn.array, mask)


def test_nothing_of_the_patient_leaves_dicom(
    small_bundle: Path, mr_series: Callable[..., Any], tmp_path: Path, capfd: Any
) -> None:
    mr_series()
    segment(str(tmp_path / "in"), str(tmp_path / "out"), str(small_bundle))
    said = "".join(capfd.readouterr())
    content = (tmp_path / "out/run.json").read_text() + (tmp_path / "out/volumes.csv").read_text()
    for text in (said.replace(str(tmp_path), ""), content):
        assert not [w for w in ("lanted", "PLANTED", "19410203", "ACC4711", "STUDY9", "101112") if w in text]
    assert str(tmp_path) not in content
    assert b"lanted" not in (tmp_path / "out/scan001/preview.png").read_bytes()


def test_the_run_is_written_down(small_bundle: Path, nifti: Path, tmp_path: Path) -> None:
    segment(str(nifti), str(tmp_path / "a"), str(small_bundle))
    run = json.loads((tmp_path / "a/run.json").read_text())
    assert len(run["bundle"]["weights_sha256"][0]) == 64
    assert run["settings"]
    assert run["verb"] == "segment"
    assert {"python", "torch", "monai"} <= set(run["versions"])
    assert run["options"]["input"] == "not recorded"
    (scan,) = run["scans"]
    assert scan["shape"] == [40, 36, 12]
    assert scan["spacing_mm"] == [2.0, 2.0, 4.0]
    array = np.asarray(nib.load(nifti).dataobj)
    array[0, 0, 0] += 1
    changed = write_nifti(tmp_path / "changed.nii.gz", array, nib.load(nifti).affine)
    segment(str(changed), str(tmp_path / "b"), str(small_bundle))
    other = json.loads((tmp_path / "b/run.json").read_text())["scans"][0]
    assert other["input_sha256"] != scan["input_sha256"]


def test_one_bad_scan_stops_none_of_the_others(
    small_bundle: Path, nifti: Path, mr_series: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    mr_series("a_missing", missing=(5,))
    mr_series("b_good")
    mr_series("c_ct", modality="CT")
    mr_series("d_scout", description="localizer")
    (tmp_path / "in/broken.nii.gz").write_bytes(b"not a volume")
    (tmp_path / "in/._mac.nii.gz").write_bytes(b"x")
    assert segment(str(tmp_path / "in"), str(tmp_path / "out"), str(small_bundle)) == 2
    out, err = capsys.readouterr()
    assert "2 of 4 scans segmented" in out
    assert "it is CT" in out
    assert "it is a scout" in out
    assert len(err.strip().splitlines()) == 2
    assert "missing" in err
    assert "broken" in err
    text = (tmp_path / "out/run.json").read_text()
    assert str(tmp_path) not in text
    assert "a_missing" not in text
    run = json.loads(text)
    assert ["refused" in scan for scan in run["scans"]] == [True, False, True, False]
    assert (tmp_path / "out/scan002/rtstruct.dcm").is_file()


def test_folds_are_averaged_and_their_agreement_told(small_bundle: Path, nifti: Path, tmp_path: Path) -> None:
    assert segment(str(nifti), str(tmp_path / "out"), str(small_bundle), folds=str(small_bundle / "folds")) == 0
    label = np.asarray(nib.load(tmp_path / "out/patient/label.nii.gz").dataobj)
    configs = "['configs/inference.json','configs/ensemble.json']"
    expected = bundle_run(small_bundle, nifti, tmp_path / "run", configs, folds="2")
    np.testing.assert_array_equal(label, expected)
    maps = []
    for fold in range(2):
        weights = str(small_bundle / f"folds/fold{fold}/final.pt")
        segment(str(nifti), str(tmp_path / f"{fold}"), str(small_bundle), weights=weights)
        maps.append(np.asarray(nib.load(tmp_path / f"{fold}/patient/label.nii.gz").dataobj))
    structures = json.loads((tmp_path / "out/run.json").read_text())["scans"][0]["structures"]
    one, two = (m == 2 for m in maps)
    assert structures[1]["fold_agreement"] == pytest.approx(2 * (one & two).sum() / (one.sum() + two.sum()), abs=1e-4)


def test_a_release_as_zip(small_bundle: Path, nifti: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "release"), "zip", small_bundle.parent, small_bundle.name)
    assert segment(str(nifti), str(tmp_path / "out"), archive) == 0
    assert (tmp_path / "out/patient/label.nii.gz").is_file()


def test_contours_of_synthetic_weights_are_described_as_such(
    small_bundle: Path, mr_series: Callable[..., Any], tmp_path: Path
) -> None:
    mr_series()
    weights = read_weights(small_bundle / "models/model.pt")
    weights["settings"] = encoded(read_settings(small_bundle / "models/model.pt") | {"synthetic": True})
    torch.save(weights, tmp_path / "synthetic.pt")
    for name, file in {"real": None, "synthetic": str(tmp_path / "synthetic.pt")}.items():
        assert segment(str(tmp_path / "in"), str(tmp_path / name), str(small_bundle), file) == 0
        for kind in ("rtstruct", "seg"):
            described = pydicom.dcmread(tmp_path / name / f"scan001/{kind}.dcm").SeriesDescription
            assert ("SYNTHETIC" in described) == (name == "synthetic")
            assert "not approved" in described
            assert len(described) <= 64
