"""`preprocess`: the bundle's own transforms, once, nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_networks import CaseError, PreparedDataset
from custom_networks.data.prepare import case_folder
from custom_networks.transforms.mapped import MappedVolume
from scripts.core.datalist import Case
from scripts.core.jobs import in_processes, on_cluster
from scripts.data.preprocess.case import Job, load_config, lost, process
from scripts.data.preprocess.preprocess import preprocess

ROOT = Path(__file__).parents[4]
BUNDLE = ROOT / "bundles/organ_pocketnet"
AFFINE = np.array([[0.0, 0, 4, 10], [0.9, 0, 0, -20], [0, -0.8, 0, 5], [0, 0, 0, 1]])


def cohort(folder: Path, n: int = 3) -> Path:
    """Sagittal images, so that reorientation and resampling have something to do."""
    folder.mkdir(exist_ok=True)
    entries = []
    for i in range(n):
        image = np.random.default_rng(i).gamma(2, 50, (30, 28, 9)).astype(np.int16)
        label = np.zeros(image.shape, np.uint8)
        label[8:20, 8:20, 3:7] = 1
        label[12:16, 12:16, 4:6] = 2
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"i{i}.nii.gz")
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f"l{i}.nii.gz")
        entries.append(
            {"case": f"c{i}", "patient": f"p{i}", "image": f"i{i}.nii.gz", "label": f"l{i}.nii.gz", "fold": i % 2}
        )
    path = folder / "datalist.json"
    labels = {"0": "background", "1": "organ", "2": "tumor"}
    held_out = [{**entries[0], "case": "held", "patient": "h"}]
    path.write_text(json.dumps({"name": "set", "labels": labels, "training": entries, "testing": held_out}))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small_plan.json"
    path.write_text(json.dumps({"spacing": [2.0, 1.0, 1.0], "patch_size": [16, 32, 16], "_plan_": {"spacing": "test"}}))
    return path


def run(data: Path, output: Path, **options: Any) -> int:
    return preprocess(bundle=str(BUNDLE), datalist=str(data), output=str(output), **{"workers": 0, **options})


def journal(output: Path) -> list[str]:
    return [json.loads(line)["case"] for line in (output / "journal.jsonl").read_text().splitlines()]


def arrays(output: Path) -> Path:
    """Where a run with one recipe has its cases."""
    return next(path for path in output.iterdir() if path.is_dir())


def bundle_config(*files: Path, **ids: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files([str(f) for f in (BUNDLE / "configs/train.json", *files)]))
    parser.update({"cache_rate": 0.0, "num_workers": 0, **ids})
    return parser


def test_arrays_are_what_the_bundle_itself_computes(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data")
    assert run(data, tmp_path / "out", overrides=str(small), dtype="float32") == 0
    ids = {"dataset_dir": str(data.parent), "datalist": str(data)}
    expected = bundle_config(small, **ids).get_parsed_content("validate#dataset")[0]
    ids = {"dataset_dir": str(tmp_path / "out"), "datalist": str(tmp_path / "out/datalist.json")}
    mapped = bundle_config(tmp_path / "out/prepared.json", **ids)
    found = mapped.get_parsed_content("validate#dataset")[0]
    for key in ("image", "label"):
        assert torch.equal(found[key].as_tensor(), expected[key].as_tensor())
        assert found[key].dtype == expected[key].dtype
        np.testing.assert_allclose(found[key].affine, expected[key].affine, atol=1e-6)
    assert found["image"].shape == expected["image"].shape
    assert {key: found[key] for key in ("case", "patient", "fold")} == {
        key: expected[key] for key in ("case", "patient", "fold")
    }


def test_the_bundle_trains_on_crops_of_them(tmp_path: Path, small: Path) -> None:
    run(cohort(tmp_path / "data"), tmp_path / "out", overrides=[str(small)])
    content = json.loads((tmp_path / "out/prepared.json").read_text())
    assert content["spacing"] == [2.0, 1.0, 1.0]
    ids = {
        "dataset_dir": str(tmp_path / "out"),
        "datalist": str(tmp_path / "out/datalist.json"),
        "features": 4,
        "fold": 1,
    }
    mapped = bundle_config(tmp_path / "out/prepared.json", **ids)
    for part in ("train", "validate"):
        dataset = mapped.get_parsed_content(f"{part}#dataset")
        assert isinstance(dataset, PreparedDataset)
        assert dataset.missing() == []
    assert mapped.get_parsed_content("train#dataset").crops
    batch = next(iter(mapped.get_parsed_content("train#dataloader")))
    assert batch["image"].shape == (2, 1, 16, 32, 16)
    output = mapped.get_parsed_content("network_def")(batch["image"].as_tensor())
    assert np.isfinite(float(mapped.get_parsed_content("loss")(output, batch["label"].as_tensor())))
    assert len(journal(tmp_path / "out")) == 3


@pytest.mark.parametrize("name", ["gynbtnet_pretrain", "gynbtnet_finetune"])
def test_what_was_prepared_is_what_training_asks_for(tmp_path: Path, name: str) -> None:
    """A bundle that prepares its cases itself has nothing left to do, even when the folder was moved."""
    bundle, data = ROOT / "bundles" / name, cohort(tmp_path / "data")
    size = tmp_path / "size.json"
    size.write_text(json.dumps({"spacing": [4.0, 4.0, 4.0], "patch_size": [16, 16, 16]}))
    assert preprocess(str(bundle), str(data), str(tmp_path / "out"), workers=0, overrides=str(size)) == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    files = [str(bundle / "configs/train.json"), str(tmp_path / "moved/prepared.json")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update({"dataset_dir": str(tmp_path / "moved"), "num_workers": 0})
    for part in ("train", "validate"):
        dataset = parser.get_parsed_content(f"{part}#dataset")
        assert dataset.missing() == []
        assert dataset[0]["image"].shape[0] == 1


def test_resumes_and_does_again_only_what_has_changed(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = cohort(tmp_path / "data"), tmp_path / "out"
    run(data, output, overrides=str(small))
    assert journal(output) == ["c0", "c1", "c2"]
    run(data, output, overrides=str(small))
    assert journal(output) == ["c0", "c1", "c2"]
    assert "0 cases preprocessed, 3 kept" in capsys.readouterr().out
    (arrays(output) / "c1/meta.json").unlink()  # as if it had never been finished
    nib.save(nib.Nifti1Image(np.random.default_rng(9).gamma(2, 50, (30, 28, 9)), AFFINE), data.parent / "i2.nii.gz")
    run(data, output, overrides=str(small))
    assert journal(output)[3:] == ["c1", "c2"]
    small.write_text(json.dumps({"spacing": [2.0, 2.0, 2.0]}))
    run(data, output, overrides=str(small))
    assert journal(output)[5:] == ["c0", "c1", "c2"]
    small.write_text(json.dumps({"spacing": [2.0, 2.0, 2.0], "learning_rate": 0.1}))
    run(data, output, overrides=str(small))
    assert len(journal(output)) == 8


def test_bad_cases_are_quarantined_and_the_rest_goes_on(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 7)
    folder = data.parent
    (folder / "i1.nii.gz").write_bytes((folder / "i1.nii.gz").read_bytes()[:500])
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), AFFINE), folder / "l2.nii.gz")
    image = np.ones((30, 28, 9), np.float32)
    image[0, 0, 0], image[1] = np.nan, 2
    nib.save(nib.Nifti1Image(image, AFFINE), folder / "i3.nii.gz")
    (folder / "l4.nii.gz").unlink()
    nib.save(nib.Nifti1Image(np.ones((30, 28, 9, 2), np.float32), AFFINE), folder / "i5.nii.gz")
    assert run(data, tmp_path / "out", overrides=str(small), workers=2) == 1
    reasons = json.loads((tmp_path / "out/quarantine.json").read_text())
    assert set(reasons) == {"c1", "c2", "c3", "c4", "c5"}
    words = {"c1": "cannot be read", "c2": "has shape", "c3": "NaN", "c4": "does not exist", "c5": "4-D"}
    for name, word in words.items():
        assert word in reasons[name]
        assert "\n" not in reasons[name]
    written = json.loads((tmp_path / "out/datalist.json").read_text())
    assert [case["case"] for case in written["training"]] == ["c0", "c6"]
    held_out = written["testing"][0]
    assert (tmp_path / "out" / held_out["image"]).resolve() == (folder / "i0.nii.gz").resolve()
    assert not list((tmp_path / "out").rglob(".partial*"))


def test_noise_in_a_label_is_refused(tmp_path: Path, small: Path) -> None:
    """The transforms would round it to classes, and training would learn them."""
    data = cohort(tmp_path / "data", 4)
    noise = np.random.default_rng(0)
    for i, label in ((0, noise.integers(0, 200, (30, 28, 9)).astype(np.uint8)), (2, noise.random((30, 28, 9)))):
        nib.save(nib.Nifti1Image(label, AFFINE), data.parent / f"l{i}.nii.gz")
    assert run(data, tmp_path / "out", overrides=str(small)) == 1
    reasons = json.loads((tmp_path / "out/quarantine.json").read_text())
    assert set(reasons) == {"c0", "c2"}
    assert "unknown label values" in reasons["c0"]
    assert "not whole numbers" in reasons["c2"]


def test_an_image_that_two_programs_would_place_differently_is_refused(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 2)
    for kind in "il":
        nifti = nib.load(data.parent / f"{kind}1.nii.gz")
        nifti.set_qform(AFFINE + np.eye(4)[:, [3, 0, 1, 2]].T * 5 * (np.arange(4) == 3), code=1)
        nib.save(nifti, data.parent / f"{kind}1.nii.gz")
    assert run(data, tmp_path / "out", overrides=str(small)) == 1
    assert "sform and the qform" in json.loads((tmp_path / "out/quarantine.json").read_text())["c1"]


def test_the_datalist_of_the_data_is_not_overwritten(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 1)
    before = data.read_bytes()
    with pytest.raises(CaseError, match=r"it holds the datalist\.json of another data set; pass a folder of its own"):
        run(data, data.parent, overrides=str(small))
    assert data.read_bytes() == before
    assert {path.name for path in data.parent.iterdir()} == {"datalist.json", "i0.nii.gz", "l0.nii.gz"}


def test_what_differs_from_before_is_said(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = cohort(tmp_path / "data", 1), tmp_path / "out"
    run(data, output, overrides=str(small))
    run(data, output, overrides=str(small))
    assert "made anew" not in capsys.readouterr().out
    small.write_text(json.dumps({"spacing": [2.0, 2.0, 2.0]}))
    run(data, output, overrides=str(small), dtype="float16")
    assert "made anew with another dtype, SeparableSpacingd; " in capsys.readouterr().out


def test_types_of_what_is_stored(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 2)
    kinds: dict[str, dict[str, str]] = {"float32": {"dtype": "float32"}, "float16": {"dtype": "float16"}, "int16": {}}
    for name, option in kinds.items():
        run(data, tmp_path / name, overrides=str(small), **option)
        assert np.load(arrays(tmp_path / name) / "c0/image.npy").dtype == name
        assert np.load(arrays(tmp_path / name) / "c0/label.npy").dtype == np.uint8
    full, half, short = (MappedVolume(str(arrays(tmp_path / name) / "c0"), "image").whole() for name in kinds)
    torch.testing.assert_close(half, full, rtol=2**-10, atol=1e-4)
    torch.testing.assert_close(short, full, rtol=0, atol=float(full.max() - full.min()) / 130_000)


def test_names_are_made_safe_and_stay_apart(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 3)
    content = json.loads(data.read_text())
    for case, name in zip(content["training"], ("../../evil", "a/b'\"$", "n" * 300), strict=True):
        case["case"] = name
    data.write_text(json.dumps(content))
    assert run(data, tmp_path / "out", overrides=str(small)) == 0
    folders = sorted(path.name for path in arrays(tmp_path / "out").iterdir())
    assert len(folders) == 3
    assert all(len(name) <= 200 and "/" not in name and not name.startswith(".") for name in folders)
    assert not (tmp_path / "evil").exists()
    assert case_folder(tmp_path, {"case": "plain-1_a"}) == tmp_path / "plain-1_a"
    assert case_folder(tmp_path, {"case": "a/b"}) != case_folder(tmp_path, {"case": "a_b"})


def test_bad_requests(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 2)
    with pytest.raises(CaseError, match="there is no --dtype int8"):
        run(data, tmp_path / "out", dtype="int8")
    with pytest.raises(CaseError, match="cannot be read"):
        preprocess(bundle=str(tmp_path), datalist=str(data), output=str(tmp_path / "out"))
    small.write_text(json.dumps({"spacing": "$1/0"}))
    with pytest.raises(CaseError, match=r"preprocessing cannot be built"):
        run(data, tmp_path / "out", overrides=str(small))
    content = json.loads(data.read_text())
    content["training"][1]["case"] = "c0"
    data.write_text(json.dumps(content))
    with pytest.raises(CaseError, match="two cases of"):
        run(data, tmp_path / "out")
    small.write_text(json.dumps({"validate#preprocessing#transforms": [{"_target_": "LoadImaged", "keys": "image"}]}))
    data = cohort(tmp_path / "data", 1)
    with pytest.raises(CaseError, match="validation begins with other transforms"):
        run(data, tmp_path / "out", overrides=str(small))


def test_a_worker_that_dies_takes_only_its_own_case_along(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 5)
    # a transform that kills its process when it meets the third image
    kill = "$lambda x: __import__('os').kill(__import__('os').getpid(), 9) if 'i2' in str(x) else x"
    transforms = json.loads((BUNDLE / "configs/train.json").read_text())["deterministic_transforms"]
    poisoned = {"deterministic_transforms": [{"_target_": "Lambdad", "keys": "image", "func": kill}, *transforms]}
    small.write_text(json.dumps({**json.loads(small.read_text()), **poisoned}))
    assert run(data, tmp_path / "out", overrides=str(small), workers=2) == 1
    reasons = json.loads((tmp_path / "out/quarantine.json").read_text())
    assert list(reasons) == ["c2"]
    assert "died" in reasons["c2"]
    made = json.loads((tmp_path / "out/datalist.json").read_text())["training"]
    assert [case["case"] for case in made] == ["c0", "c1", "c3", "c4"]
    # a worker that the pool ends between a result and its note leaves a case that is kept, and never one made twice
    noted = journal(tmp_path / "out")
    assert set(noted) <= {"c0", "c1", "c3", "c4"}
    assert len(noted) == len(set(noted))


def test_two_processes_at_the_same_case_leave_one_result(tmp_path: Path, small: Path) -> None:
    data = cohort(tmp_path / "data", 1)
    config = load_config([BUNDLE / "configs/train.json", small])
    job = Job(str(BUNDLE), json.dumps(config), str(tmp_path / "out"), "float32")
    (tmp_path / "out").mkdir()
    case = Case("c0", {"image": "i0.nii.gz", "label": "l0.nii.gz"}, "p0", folder=data.parent)
    first = [outcome.status for _, outcome in in_processes(partial(process, job), [case] * 6, 3, lost)]
    assert sorted(set(first)) in (["done"], ["done", "kept"])
    assert first.count("done") == 1
    assert journal(tmp_path / "out") == ["c0"]
    assert process(job, case).status == "kept"


def test_an_interrupted_run_is_taken_up_again(tmp_path: Path, small: Path) -> None:
    data, output = cohort(tmp_path / "data", 12), tmp_path / "out"
    slow = "$lambda x: (__import__('time').sleep(0.4), x)[1]"
    transforms = json.loads((BUNDLE / "configs/train.json").read_text())["deterministic_transforms"]
    slowed = {"deterministic_transforms": [*transforms, {"_target_": "Lambdad", "keys": "image", "func": slow}]}
    small.write_text(json.dumps({**json.loads(small.read_text()), **slowed}))
    command = [*(sys.executable, "-m", "scripts", "preprocess", "--bundle", str(BUNDLE), "--datalist", str(data))]
    command += ["--output", str(output), "--overrides", str(small), "--workers", "2"]
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not (output / "journal.jsonl").exists():
            time.sleep(0.1)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    before = journal(output)
    assert 0 < len(before) < 12
    assert not (output / "datalist.json").exists()
    assert run(data, output, overrides=str(small), workers=2) == 0
    assert sorted(journal(output)) == sorted(f"c{i}" for i in range(12))
    assert len(json.loads((output / "datalist.json").read_text())["training"]) == 12


@pytest.mark.slow
def test_dask_cluster_with_a_worker_killed_in_the_middle(tmp_path: Path, small: Path) -> None:
    distributed = pytest.importorskip("distributed")
    data, output = cohort(tmp_path / "data", 14), tmp_path / "out"
    slow = "$lambda x: (__import__('time').sleep(0.5), x)[1]"
    transforms = json.loads((BUNDLE / "configs/train.json").read_text())["deterministic_transforms"]
    slowed = {"deterministic_transforms": [*transforms, {"_target_": "Lambdad", "keys": "image", "func": slow}]}
    small.write_text(json.dumps({**json.loads(small.read_text()), **slowed}))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        killed = []

        def kill_one() -> None:
            deadline = time.monotonic() + 120
            path = output / "journal.jsonl"
            while time.monotonic() < deadline and not (path.exists() and len(journal(output)) >= 4):
                time.sleep(0.05)
            victim = next(iter(cluster.workers.values()))
            killed.append(victim.process.pid)
            os.kill(victim.process.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill_one)
        thread.start()
        status = run(data, output, overrides=str(small), scheduler=cluster.scheduler_address)
        thread.join()
    assert status == 0
    assert killed
    assert sorted(journal(output)) == sorted(f"c{i}" for i in range(14))
    assert len(json.loads((output / "datalist.json").read_text())["training"]) == 14
    pids = {json.loads(line)["pid"] for line in (output / "journal.jsonl").read_text().splitlines()}
    assert len(pids) >= 2


def test_a_scheduler_that_does_not_answer() -> None:
    pytest.importorskip("distributed")
    job = Job("bundle", "{}", "nowhere", "float32")
    with pytest.raises(CaseError, match=r"scheduler tcp://127.0.0.1:9: it does not answer"):
        next(on_cluster(partial(process, job), [Case("c", {})], "tcp://127.0.0.1:9", lost, timeout=1))
