"""Each scan that a bundle should not touch, and each wrong option, in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from custom_networks.errors import CaseError
from scripts.core.files import write_nifti
from scripts.sharing.package.contents import least_field_of_view
from scripts.sharing.segment.bundle import OpenBundle, unpacked
from scripts.sharing.segment.scans import Scan, find_scans, read_scan
from scripts.sharing.segment.segment import fold_files, segment

BUNDLES = Path(__file__).resolve().parents[4] / "bundles"
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def refused(array: np.ndarray, tmp_path: Path, modality: str = "MR", least: Any = None) -> str:
    file = write_nifti(tmp_path / "x.nii.gz", array.astype(np.int16), AFFINE)
    with pytest.raises(CaseError) as info:
        read_scan(Scan("x", file=file), tmp_path, modality, least)
    return str(info.value)


def test_scans_that_are_not_the_bundles(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 500, (20, 20, 10))
    assert "as in CT" in refused(noise - 1024, tmp_path)
    assert "no Hounsfield units" in refused(noise, tmp_path, "CT")
    assert "not a volume" in refused(noise[:, :, :1], tmp_path)
    assert "constant" in refused(np.full((5, 5, 5), 7), tmp_path)
    text = refused(noise, tmp_path, least=[50, 39, 41])
    assert "40 mm left to right, 40 mm head to foot" in text
    assert "50 x 39 x 41 mm" in text


def test_a_series_with_a_missing_slice(mr_series: Callable[..., Any], tmp_path: Path) -> None:
    mr_series(missing=(4,))
    scans, _ = find_scans(str(tmp_path / "in"), "MR")
    with pytest.raises(CaseError, match="missing"):
        read_scan(scans[0], tmp_path, "MR")


def test_nothing_to_segment(mr_series: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="neither a NIfTI file nor a folder"):
        find_scans(str(tmp_path / "nowhere"), "MR")
    mr_series(modality="CT")
    with pytest.raises(CaseError, match=r"no scan to segment in it; a series of 12 images is left out: it is CT"):
        find_scans(str(tmp_path / "in"), "MR")


def test_two_scans_of_one_name_would_overwrite_each_other(mr_series: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_nifti(folder / "x.nii.gz", np.ones((4, 4, 4), np.int16), AFFINE)
    write_nifti(folder / "x.nii", np.ones((4, 4, 4), np.int16), AFFINE)
    with pytest.raises(CaseError, match="both be called x"):
        find_scans(str(folder), "MR")
    (folder / "x.nii").rename(folder / "scan001.nii")
    mr_series()
    with pytest.raises(CaseError, match="both be called scan001"):
        find_scans(str(folder), "MR")


def test_series_are_chosen_by_description(mr_series: Callable[..., Any], tmp_path: Path) -> None:
    mr_series("a", description="T2 sag")
    mr_series("b", description="T1 ax")
    scans, left_out = find_scans(str(tmp_path / "in"), "MR", "t2")
    assert [scan.name for scan in scans] == ["scan001"]
    assert left_out == ["a series of 12 images is left out: its description does not match --description"]


def test_bundles_and_weights(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no configs"):
        unpacked(str(tmp_path), tmp_path)
    with pytest.raises(CaseError, match="do not exist"):
        OpenBundle(small_bundle, str(tmp_path / "none.pt"), tmp_path)
    with pytest.raises(CaseError, match=r"0 fold\*/final.pt"):
        fold_files(str(tmp_path))
    broken = tmp_path / "b"
    (broken / "configs").mkdir(parents=True)
    (broken / "configs/inference.json").write_text(json.dumps({"bundle_root": "."}))
    (broken / "configs/metadata.json").write_text("{}")
    (broken / "w.pt").write_bytes(b"")
    with pytest.raises(CaseError, match="has no output_dir"):
        OpenBundle(broken, str(broken / "w.pt"), tmp_path)


def test_options(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="dicom is not known"):
        segment(str(tmp_path), str(tmp_path / "o"), str(small_bundle), formats=["dicom"])
    with pytest.raises(CaseError, match="contradicts --folds"):
        segment(str(tmp_path), str(tmp_path / "o"), str(small_bundle), weights="a", folds="b")
    assert not (tmp_path / "o").exists()


def test_a_field_of_view_below_half_a_patch(small_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    """What the bundle's metadata state, in one sentence, and the exit status 2."""
    noise = np.random.default_rng(0).integers(0, 500, (20, 20, 7)).astype(np.int16)
    file = write_nifti(tmp_path / "slab.nii.gz", noise, AFFINE)
    assert segment(str(file), str(tmp_path / "out"), str(small_bundle)) == 2
    told = capsys.readouterr().err.strip()
    assert told == "slab: its field of view is only 28 mm head to foot; this bundle needs 32 x 32 x 32 mm."


@pytest.mark.parametrize("bundle", sorted(path.name for path in BUNDLES.iterdir()))
def test_every_bundle_states_half_a_patch(bundle: str) -> None:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs/inference.json"))
    used = {name: parser.get_parsed_content(name) for name in ("spacing", "patch_size", "orientation")}
    meta = json.loads((BUNDLES / bundle / "configs/metadata.json").read_text())
    assert meta["least_field_of_view_mm"] == least_field_of_view(used)


def test_half_a_patch_follows_the_axes() -> None:
    settings = {"orientation": "SAR", "patch_size": [10, 20, 30], "spacing": [3.0, 2.0, 1.0]}
    assert least_field_of_view(settings) == [15, 20, 15]
    assert least_field_of_view(settings | {"spacing": [5.0, 2.0, 1.0]}) == [15, 20, 25]
