"""`plan`: the rules, the measurements, and a plan that a bundle takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.transforms import Orientation

from custom_networks import CaseError
from scripts.core.datalist import Datalist
from scripts.core.statistics import KnownStatistics
from scripts.data.phantom.phantom import phantom
from scripts.data.plan.fingerprint import fingerprint
from scripts.data.plan.plan import choose, plan, read_train_config

ROOT = Path(__file__).parents[4]
BUNDLE = ROOT / "bundles/organ_pocketnet"
SAMPLES = Path(os.environ.get("GYN_SAMPLES", ROOT / "../shared/samples"))


def cohort(
    folder: Path, geometry: list[tuple[tuple[int, int, int], tuple[float, float, float]]], axcodes: str = "LPS"
) -> Path:
    """A data set of the given shapes and spacings along L, P, S, stored with other axes."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    entries = []
    for i, (shape, spacing) in enumerate(geometry):
        image = np.random.default_rng(i).integers(1, 200, size=shape).astype(np.uint8)
        label = np.zeros(shape, np.uint8)
        label[tuple(slice(n // 4, n // 2) for n in shape)] = 1
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1])
        for kind, array in (("images", image), ("labels", label)):
            nifti = nib.Nifti1Image(array, affine)
            to = nib.orientations.axcodes2ornt(axcodes)
            nifti = nifti.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), to))
            nib.save(nifti, folder / kind / f"c{i}.nii")
        entries.append({"case": f"c{i}", "patient": f"p{i}", "image": f"images/c{i}.nii", "label": f"labels/c{i}.nii"})
    path = folder / "datalist.json"
    labels = {"0": "background", "1": "organ", "2": "tumor"}
    path.write_text(json.dumps({"name": "set", "labels": labels, "modality": "MRI", "training": entries}))
    return path


@pytest.mark.slow
def test_phantoms_at_the_papers_geometry_give_the_papers_patch_and_spacing(tmp_path: Path) -> None:
    phantom(cases=2, output=str(tmp_path), plane="axial", spacing=0.469, thickness=5.0)
    plan(datalist=str(tmp_path / "datalist.json"), bundle=str(BUNDLE), output=str(tmp_path / "plan.json"))
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["spacing"] == [0.469, 0.469, 5.0]
    assert written["patch_size"] == [256, 256, 32]


def test_paper_geometry_gives_the_papers_patch_and_spacing(tmp_path: Path) -> None:
    sizes = [(512, 512, 36), (448, 512, 34), (512, 400, 40)]
    path = cohort(tmp_path, [(shape, (0.469, 0.469, 5.0)) for shape in sizes])
    plan(datalist=str(path), bundle=str(BUNDLE), output=str(tmp_path / "plan.json"))
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["spacing"] == [0.469, 0.469, 5.0]
    assert written["patch_size"] == [256, 256, 32]
    assert written["clip_percentiles"] == [0.5, 99.5]
    assert written["label_values"] == [0, 1, 2]
    reasons = written.pop("_plan_")
    assert set(written) <= set(reasons)
    assert set(written) <= set(read_train_config(BUNDLE))


def test_axcodes_lps_is_what_itk_calls_rai() -> None:
    """Decision P10: ITK names an orientation by where an axis comes from, MONAI by where it goes to."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, 1, 0))
    itk_rai = sitk.DICOMOrient(image, "LPS")  # SimpleITK's name for identity direction, "RAI" in ITK's older code
    assert itk_rai.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.diag([-1.0, -1, 1, 1])  # ITK's world is LPS, NIfTI's RAS
    affine[:3, :3] = affine[:3, :3] @ direction
    from monai.data import MetaTensor

    array = MetaTensor(sitk.GetArrayFromImage(image).T[None].copy(), affine=affine)
    ours = Orientation(axcodes="LPS", labels=None)(array)[0].numpy()
    np.testing.assert_array_equal(ours, sitk.GetArrayFromImage(itk_rai).T)
    monais_rai = Orientation(axcodes="RAI", labels=None)(array)[0].numpy()
    assert not np.array_equal(monais_rai, ours)
    assert nib.aff2axcodes(np.diag([-1.0, -1, 1, 1])) == ("L", "P", "S")


def test_bundles_reorient_to_lps() -> None:
    axcodes = [t["axcodes"] for t in read_train_config(BUNDLE)["deterministic_transforms"] if "axcodes" in t]
    assert axcodes == ["@orientation"]
    assert read_train_config(BUNDLE)["orientation"] == "LPS"


def test_memory_budget_sets_patch_and_batch(tmp_path: Path) -> None:
    path = cohort(tmp_path, [((160, 160, 40), (0.5, 0.5, 5.0)) for _ in range(4)])
    options = {"datalist": str(path), "bundle": str(BUNDLE), "patch": "nnunet", "anisotropic": True}
    small = plan_of(tmp_path, memory_gb=1, **options)
    large = plan_of(tmp_path, memory_gb=8, **options)
    assert np.prod(small["patch_size"]) < np.prod(large["patch_size"])
    assert large["patch_size"] == [160, 160, 40]
    assert large["batch_size"] >= 2
    assert large["strides"][0] == [2, 2, 1]


def test_memory_budget_of_two_stages_is_that_of_the_trained_one(tmp_path: Path) -> None:
    path = cohort(tmp_path, [((64, 64, 16), (0.5, 0.5, 5.0)) for _ in range(4)])
    organ, tumor = (
        plan_of(tmp_path, datalist=str(path), bundle=str(BUNDLE.parent / name), patch="nnunet", memory_gb=0.9)
        for name in ("organ_pocketnet", "tumor_pocketnet")
    )
    assert tumor["patch_size"] == organ["patch_size"]
    assert tumor["batch_size"] == organ["batch_size"]


def plan_of(folder: Path, **options: Any) -> dict[str, Any]:
    plan(output=str(folder / "plan.json"), overwrite=True, **options)
    return json.loads((folder / "plan.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": "largest"}, "there is no --patch largest"),
        ({"patch": "nnunet"}, "needs a memory budget"),
        ({"memory_gb": 0.001}, "not even one patch"),
        ({"intensity": "foreground"}, "has no id intensity_range"),
        ({"bundle": "nowhere"}, "pass a bundle's folder"),
    ],
)
def test_impossible_requests(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = cohort(tmp_path, [((16, 16, 8), (1.0, 1.0, 5.0))] * 2)
    with pytest.raises(CaseError, match=message):
        plan(**{"datalist": str(path), "bundle": str(BUNDLE), "output": str(tmp_path / "plan.json"), **options})
    assert not (tmp_path / "plan.json").exists()


def test_an_id_that_the_bundle_has_not_is_refused(tmp_path: Path) -> None:
    path = cohort(tmp_path, [((16, 16, 8), (1.0, 1.0, 5.0))] * 2)
    content = replace(Datalist.read(path), labels={0: "background", 1: "organ"})
    measured, _ = fingerprint(content.training, content.labels, "MR", KnownStatistics(tmp_path))
    with pytest.raises(CaseError, match="has no id spacing"):
        choose({"patch_size": [1, 1, 1]}, measured, content)
    chosen = choose({"spacing": 0, "patch_size": 0, "num_classes": 0}, measured, content)
    assert chosen["num_classes"][0] == 2


def test_the_printed_option_works_in_the_bundles_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort(tmp_path, [((64, 64, 32), (1.0, 1.0, 3.0))])
    monkeypatch.chdir(tmp_path)
    plan(datalist="datalist.json", bundle=str(BUNDLE), output="plan.json")
    assert f"'{tmp_path.resolve()}/plan.json']" in capsys.readouterr().out.splitlines()[-1]


def test_the_bundle_takes_the_plan(tmp_path: Path) -> None:
    path = cohort(tmp_path, [((16, 16, 8), (1.0, 1.0, 5.0))] * 2)
    plan_of(tmp_path, datalist=str(path), bundle=str(BUNDLE), anisotropic=True)
    files = [str(BUNDLE / "configs/train.json"), str(tmp_path / "plan.json")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    assert parser.get_parsed_content("spacing") == [1.0, 1.0, 5.0]
    assert parser.get_parsed_content("network_def").multiple == [8, 8, 2]
    assert parser.get_parsed_content("validate#inferer").roi_size == [16, 16, 8]


def test_a_plan_that_says_something_else_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = cohort(tmp_path, [((16, 16, 8), (1.0, 1.0, 5.0))] * 2)
    options = {"datalist": str(path), "bundle": str(BUNDLE), "output": str(tmp_path / "plan.json")}
    plan(**options)
    assert (tmp_path / "plan_fingerprint.json").is_file()
    plan(**options)  # the same again is no loss
    edited = {**json.loads((tmp_path / "plan.json").read_text()), "spacing": [2.0, 2.0, 5.0]}
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    with pytest.raises(
        CaseError, match=r"plan\.json is there already and says something else \(spacing\); pass another"
    ):
        plan(**options)
    assert json.loads((tmp_path / "plan.json").read_text()) == edited
    plan(**options, overwrite=True)
    assert json.loads((tmp_path / "plan.json").read_text())["spacing"] == [1.0, 1.0, 5.0]
    # another plan has a fingerprint of its own
    plan(**{**options, "output": str(tmp_path / "other.json")}, patch="keep")
    assert (tmp_path / "other_fingerprint.json").read_bytes() == (tmp_path / "plan_fingerprint.json").read_bytes()


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cohort(tmp_path, [((64, 64, 32), (1.0, 1.0, 3.0))] * 2)
    assert plan(datalist=str(path), bundle=str(BUNDLE), output=str(tmp_path / "plan.json")) == 0
    assert (
        capsys.readouterr().out
        == f"""spacing = [1.0, 1.0, 3.0]
    median of 2 cases
patch_size = [64, 64, 32]
    per axis the largest power of two not above the median resampled size 64 x 64 x 32, at most 256
clip_percentiles = [0.5, 99.5]
    MR: each volume is clipped at its own 0.5 and 99.5 percentiles, then z-scored (P9); the foreground of the data set \
reaches from 2 to 199
label_values = [0, 1, 2]
    the datalist's labels: background, organ, tumor
2 training cases, 0.13 million voxels each after resampling (median); image and label together take 0.00 GiB in memory \
at cache_rate 1

written: {tmp_path}/plan.json, {tmp_path}/plan_fingerprint.json
use: --config_file "['configs/train.json','{tmp_path.resolve()}/plan.json']"
"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openkbp", "sts_t1"])
def test_a_plan_of_real_data_trains_as_it_is(tmp_path: Path, name: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("GYN_SAMPLES is absent")
    index = json.loads((SAMPLES / name / "index.json").read_text())
    cases = [
        {
            "case": case["case"],
            "patient": case["case"],
            "image": str(SAMPLES.resolve() / name / f"images/{case['case']}.nii.gz"),
            "label": str(SAMPLES.resolve() / name / f"labels/{case['case']}.nii.gz"),
            "fold": i % 2,
        }
        for i, case in enumerate(index["cases"][:4])
    ]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"name": name, "labels": index["labels"], "training": cases}))
    plan(datalist=str(path), bundle=str(BUNDLE), output=str(tmp_path / "plan.json"))
    command = [
        *(sys.executable, "-m", "monai.bundle", "run"),
        *("--bundle_root", str(BUNDLE), "--config_file", f"['{BUNDLE}/configs/train.json','{tmp_path}/plan.json']"),
        *(
            "--dataset_dir",
            str(tmp_path),
            "--output_dir",
            str(tmp_path / "out"),
            "--ckpt_dir",
            str(tmp_path / "models"),
        ),
        *("--epochs", "1", "--val_interval", "1", "--num_workers", "0", "--tracker", "none"),
    ]
    done = subprocess.run(command, cwd=BUNDLE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "models/model.pt").is_file()
