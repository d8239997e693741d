"""Both PocketNet bundles through monai.bundle, from their own folders, at a tiny size."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_metadata, verify_net_in_out

from custom_networks import CaseError, read_settings

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).with_name("metadata_schema.json")
BUNDLES = ("organ_pocketnet", "tumor_pocketnet")
SIZE = ("spacing", "patch_size")
TINY: dict[str, Any] = {
    "spacing": [4.0, 4.0, 5.0],
    "patch_size": [16, 16, 8],
    "kernel_sizes": [3, 3, 3],
    "strides": [2, 2],
    "features": 4,
    "deep_supervision": 1,
    "epochs": 2,
    "val_interval": 1,
    "num_workers": 0,
    "tracker": "none",
    "device": "cpu",
    "deep_supervision_weights": [0.6, 0.4],
}


def affine(name: str) -> np.ndarray:
    """Axial, sagittal, oblique and flipped grids of about 2 x 2 x 5 mm."""
    matrix = {
        "axial": np.diag([-2.0, -2.0, 5.0]),
        "flipped": np.diag([2.0, -2.0, -5.0]),
        "sagittal": np.array([[0, 0, 5.0], [-2.0, 0, 0], [0, -2.0, 0]]),
        "oblique": np.diag([-2.0, -2.0, 5.0]),
    }[name]
    if name == "oblique":
        c, s = np.cos(0.3), np.sin(0.3)
        matrix = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ matrix
    full = np.eye(4)
    full[:3, :3], full[:3, 3] = matrix, (40.0, 30.0, -20.0)
    return full


def write_case(folder: Path, name: str, grid: str, rng: np.random.Generator) -> dict[str, Any]:
    shape, spacing = (36, 32, 12), np.array([2.0, 2.0, 5.0])
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) * spacing
    centre = points.reshape(-1, 3).mean(0) + rng.uniform(-5, 5, 3)
    distance = np.linalg.norm(points - centre, axis=-1)
    label = np.where(distance < 8, 2, np.where(distance < 20, 1, 0)).astype(np.uint8)
    image = (100 + 150 * label + rng.normal(0, 20, shape)).astype(np.int16)
    for kind, array in (("images", image), ("labels", label), ("organs", (label > 0).astype(np.uint8))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine(grid)), folder / kind / f"{name}.nii.gz")
    files = {kind: f"{kind}s/{name}.nii.gz" for kind in ("image", "label", "organ")}
    return {"case": name, "patient": name, **files}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    grids = ("axial", "sagittal", "oblique", "flipped", "axial")
    cases = [write_case(folder, f"p{i}", grid, rng) | {"fold": i % 2} for i, grid in enumerate(grids)]
    # the same images under other patients: weights are not scored on patients that they were trained on
    testing = [{**cases[i], "patient": f"test{i}"} for i in range(4)]
    for case in testing:
        del case["fold"], case["organ"]
    content = {"labels": {"0": "background", "1": "organ", "2": "tumor"}, "training": cases, "testing": testing}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def bundle_run(name: str, configs: list[str], **overrides: Any) -> None:
    here = Path.cwd()
    os.chdir(ROOT / "bundles" / name)
    try:
        files = [c if os.path.isabs(c) else f"configs/{c}.json" for c in configs]
        run(config_file=files, meta_file="configs/metadata.json", logging_file="configs/logging.conf", **overrides)
    finally:
        os.chdir(here)


def settings(name: str, data: Path, out: Path, organ: Path | None = None, **more: Any) -> dict[str, Any]:
    base = {**TINY, "dataset_dir": str(data), "ckpt_dir": str(out / "models"), "output_dir": str(out / "out"), **more}
    return base | ({"organ_weights": str(organ)} if name == "tumor_pocketnet" and organ else {})


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with models/model.pt of both bundles."""
    folders: dict[str, Path] = {}
    for name in BUNDLES:
        folders[name] = tmp_path_factory.mktemp(name)
        organ = folders["organ_pocketnet"] / "models/model.pt"
        bundle_run(name, ["train"], **settings(name, data, folders[name], organ))
    return folders


def predictions(folder: Path) -> dict[str, nib.Nifti1Image]:
    return {file.name.removesuffix("_pred.nii.gz"): nib.load(file) for file in sorted(folder.glob("*_pred.nii.gz"))}


@pytest.mark.parametrize("name", BUNDLES)
def test_model_is_a_flat_state_dict_and_resume_state_is_apart(trained, name):
    weights = torch.load(trained[name] / "models/model.pt", weights_only=True)
    assert all(isinstance(v, torch.Tensor) for v in weights.values())
    assert {k.split(".")[0] for k in weights} >= (
        {"organ", "tumor"} if name == "tumor_pocketnet" else {"encoder", "head"}
    )
    files = sorted(f.name for f in (trained[name] / "models").iterdir())
    assert files == ["model.json", "model.pt", "training_cases.json"]
    for file in ("models/model", "out/final"):
        told = json.loads((trained[name] / f"{file}.json").read_text())
        assert told["settings"] == read_settings(trained[name] / f"{file}.pt")
        assert told["versions"]["torch"]
    assert torch.load(trained[name] / "out/resume.pt", weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("name", BUNDLES)
def test_evaluate_on_the_native_grid(trained, data, tmp_path, name):
    options = settings(name, data, tmp_path, section="testing", ckpt_path=str(trained[name] / "models/model.pt"))
    bundle_run(name, ["train", "evaluate"], **options)
    made = predictions(tmp_path / "out/predictions")
    assert len(made) == 4
    for case, pred in made.items():
        image = nib.load(data / "images" / f"{case}.nii.gz")
        assert pred.shape == image.shape
        np.testing.assert_allclose(pred.affine, image.affine, atol=1e-4)
    rows = (tmp_path / "out/val_dice_raw.csv").read_text().splitlines()
    assert len(rows) == 5
    assert (tmp_path / "out/val_asd_mm_summary.csv").is_file()
    # the table says what the files say
    truth = np.asanyarray(nib.load(data / "labels/p0.nii.gz").dataobj) > 0
    found = np.asanyarray(made["p0"].dataobj) > 0
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert float(rows[1].split(",")[1]) == pytest.approx(dice, abs=1e-4)


@pytest.mark.parametrize("name", BUNDLES)
def test_inference_from_the_image_alone_comes_back_on_its_grid(trained, data, tmp_path, name):
    weights = str(trained[name] / "models/model.pt")
    bundle_run(name, ["inference"], **settings(name, data / "images", tmp_path, ckpt_path=weights))
    made = predictions(tmp_path / "out")
    assert len(made) == 5
    for case, pred in made.items():
        image = nib.load(data / "images" / f"{case}.nii.gz")
        assert pred.shape == image.shape
        np.testing.assert_allclose(pred.affine, image.affine, atol=1e-4)
        assert nib.aff2axcodes(pred.affine) == nib.aff2axcodes(image.affine)
        assert set(np.unique(pred.dataobj)) <= {0, 1, 2}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_flipped_or_turned_copy_gives_the_same_anatomy(trained, data, tmp_path, name):
    image = nib.load(data / "images/p0.nii.gz")
    (tmp_path / "images").mkdir()
    nib.save(image, tmp_path / "images/plain.nii.gz")
    flipped = image.slicer[::-1, :, ::-1]
    turned = nib.Nifti1Image(
        np.transpose(np.asanyarray(image.dataobj), (2, 0, 1)), image.affine[:, [2, 0, 1, 3]], dtype=np.int16
    )
    nib.save(flipped, tmp_path / "images/flipped.nii.gz")
    nib.save(turned, tmp_path / "images/turned.nii.gz")
    weights = str(trained[name] / "models/model.pt")
    bundle_run(name, ["inference"], **settings(name, tmp_path / "images", tmp_path, ckpt_path=weights))
    made = predictions(tmp_path / "out")
    plain = np.asanyarray(made["plain"].dataobj)
    assert plain.any()
    assert np.array_equal(np.asanyarray(made["flipped"].dataobj)[::-1, :, ::-1], plain)
    assert np.array_equal(np.transpose(np.asanyarray(made["turned"].dataobj), (1, 2, 0)), plain)


@pytest.mark.parametrize("name", BUNDLES)
def test_train_evaluate_and_inference_preprocess_identically(data, name):
    os.chdir(ROOT / "bundles" / name)
    try:
        images = []
        for configs in (["train"], ["train", "evaluate"], ["inference"]):
            parser = ConfigParser()
            parser.read_config([f"configs/{c}.json" for c in configs])
            parser.update({**TINY, "dataset_dir": str(data)})
            key = "preprocessing" if configs == ["inference"] else "validate#preprocessing"
            case = {kind: str(data / f"{kind}s/p2.nii.gz") for kind in ("image", "label", "organ")}
            images.append(parser.get_parsed_content(key)(case)["image"][:1])
        for other in images[1:]:
            assert torch.equal(images[0], other)
            torch.testing.assert_close(images[0].affine, other.affine)
        # and the random part of training starts from the same image
        parser = ConfigParser()
        parser.read_config("configs/train.json")
        parser.update({**TINY, "dataset_dir": str(data), "train#random_transforms": []})
        assert torch.equal(parser.get_parsed_content("train#preprocessing")(case)["image"][:1], images[0])
    finally:
        os.chdir(ROOT)


@pytest.mark.parametrize("name", BUNDLES)
def test_predictions_leave_the_gpu_before_they_are_resampled(name):
    """The inverse takes the image's spline order along; on a CUDA tensor MONAI's splines need cupy, which nobody has."""
    found = 0
    for file in sorted((ROOT / "bundles" / name / "configs").glob("*.json")):
        config = json.loads(file.read_text())
        for key in ("postprocessing", "validate#postprocessing"):
            steps = config.get(key, {}).get("transforms", [])
            for before, step in zip([{}, *steps], steps, strict=False):
                if step["_target_"] == "Invertd":
                    moved = ["pred", "label"] if key.startswith("validate") else "pred"
                    assert before == {"_target_": "ToDeviced", "keys": moved, "device": "cpu"}, file.name
                    found += 1
    assert found >= 2


def test_lps_is_what_itk_calls_rai(data):
    """Decision P10: first index to the left, second to posterior, third to superior; ITK names where the axes start."""
    from monai.transforms import Orientation

    image = nib.load(data / "images/p1.nii.gz")
    from monai.data import MetaTensor

    turned = Orientation(axcodes="LPS", labels=None)(
        MetaTensor(np.asanyarray(image.dataobj)[None].astype(np.float32), affine=image.affine)
    )
    assert nib.aff2axcodes(turned.affine.numpy()) == ("L", "P", "S")


def documented(name: str) -> list[str]:
    """The commands of a bundle's README, one per row of its table."""
    text = (ROOT / "bundles" / name / "docs/README.md").read_text()
    return re.findall(r"^\|[^|]+\| `((?:python|torchrun)[^`]+)`", text, flags=re.MULTILINE)


def arguments(line: str) -> tuple[list[str], list[str], dict[str, str]]:
    """Words before the options, configuration files, other options."""
    words = shlex.split(line)
    first = next(
        i for i, word in enumerate(words) if word.startswith("--") and "=" not in word and word != "--standalone"
    )
    options = {words[i].removeprefix("--"): words[i + 1] for i in range(first, len(words), 2)}
    files = options.pop("config_file")
    return words[:first], json.loads(files.replace("'", '"')) if files.startswith("[") else [files], options


@pytest.mark.parametrize(("name", "line"), [(n, line) for n in BUNDLES for line in documented(n)])
def test_every_command_of_the_readme(data, tmp_path, monkeypatch, name, line):  # noqa: PLR0912, PLR0915  (one path per verb)
    words, configs, given = arguments(line)
    monkeypatch.chdir(ROOT / "bundles" / name)
    if "plan.json" in configs:
        (tmp_path / "plan.json").write_text(json.dumps({"spacing": [5.0, 5.0, 5.0]}))
        configs = [str(tmp_path / c) if c == "plan.json" else c for c in configs]
    tiny = {
        k: v for k, v in TINY.items() if k not in {key for c in configs[1:] for key in json.loads(Path(c).read_text())}
    }
    if any(
        word in c for word in ("anisotropic", "small", "demonstration") for c in configs
    ):  # these keep their own four levels
        tiny = {k: v for k, v in tiny.items() if k not in {"kernel_sizes", "strides"}}
        tiny |= {
            "deep_supervision": 2,
            "deep_supervision_weights": [0.5, 0.3, 0.2],
            # these normalise in 16 groups
            "features": 16 if any("small" in c or "demonstration" in c for c in configs) else 4,
            "patch_size": [16, 16, 8],
            # so small a patch is refused in bfloat16 on a CPU
            "amp": False,
        }
    if any("default_column" in c for c in configs):
        tiny.pop("deep_supervision_weights")
    places = {"DATA": str(data), "IMAGES": str(data / "images"), "ORGAN/model.pt": str(tmp_path / "organ.pt")}
    places["FOLDS"] = str(tmp_path / "FOLDS")
    options = {**tiny, "epochs": 1, "output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    options |= {key: places.get(value, value) for key, value in given.items()}
    if "fold" in options:
        options["fold"] = int(options["fold"])
    if words[0] == "torchrun":  # as torchrun starts its only process
        for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
            monkeypatch.setenv(key, value)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
        options.pop("device", None)

    # weights of the very network that this command is about, untrained
    parser = ConfigParser()
    parser.read_config(configs)
    parser.update({k: v for k, v in options.items() if k not in {"filepath", "ckpt_file", "meta_file"}})
    network = parser.get_parsed_content("network_def")
    if name == "tumor_pocketnet" and hasattr(network, "organ"):
        torch.save(network.organ.state_dict(), tmp_path / "organ.pt")
    weights = tmp_path / "model.pt"
    torch.save(network.state_dict(), weights)
    if any("ensemble" in c for c in configs):
        for i in range(5):
            (tmp_path / f"FOLDS/fold{i}").mkdir(parents=True)
            torch.save(network.state_dict(), tmp_path / f"FOLDS/fold{i}/final.pt")

    verb = words[-1]
    if verb == "network_def":
        options = {k: v for k, v in options.items() if k in TINY and k not in {"epochs", "val_interval", "tracker"}}
        assert words[-2] == "ckpt_export"
        target = tmp_path / Path(given["filepath"]).name
        ckpt_export(
            net_id=verb,
            filepath=str(target),
            ckpt_file=str(weights),
            meta_file="configs/metadata.json",
            config_file=configs,
            **{
                k: options[k]
                for k in ("spacing", "patch_size", "kernel_sizes", "strides", "features", "deep_supervision")
            },
        )
        assert target.stat().st_size > 1000
        return
    assert verb == "run"
    options["val_interval"] = 1
    trains = configs[0].endswith("train.json") and not any("evaluate" in c for c in configs)
    if not trains:
        options["ckpt_path"] = str(weights)
    try:
        run(config_file=configs, meta_file="configs/metadata.json", logging_file="configs/logging.conf", **options)
    finally:  # ignite would remember that this process was one of a group
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        idist.utils._set_model(idist.utils._SerialModel())
    if trains:
        assert (tmp_path / "models/model.pt").is_file()
    elif configs[0].endswith("inference.json"):
        assert len(predictions(tmp_path / "out")) == 5
    else:
        expected = 4 if given.get("section") == "testing" else 3
        assert len(predictions(tmp_path / "out/predictions")) == expected
    if any("mlflow" in c for c in configs):
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
        assert "val_dice" in runs[0].data.metrics


def test_early_stopping_stops(data, tmp_path):
    options = settings(
        "organ_pocketnet", data, tmp_path, epochs=6, early_stop_patience=1, learning_rate=1e-30, l2_norm_weight=0.0
    )
    bundle_run("organ_pocketnet", ["train", "early_stop"], **options)
    stopped = torch.load(tmp_path / "out/resume.pt", weights_only=True)["epoch"]
    assert stopped < 6
    # and stays stopped; more patience goes on from there
    bundle_run("organ_pocketnet", ["train", "early_stop"], **options)
    assert torch.load(tmp_path / "out/resume.pt", weights_only=True)["epoch"] == stopped
    bundle_run("organ_pocketnet", ["train", "early_stop"], **options | {"early_stop_patience": 2})
    content = torch.load(tmp_path / "out/resume.pt", weights_only=True)
    assert content["epoch"] == stopped + 1
    assert content["early_stop"]["counter"] == 2


def five_folds(trained: Path, folder: Path) -> Path:
    """A folder as cross-validation leaves it, with the same weights in every fold."""
    for fold in range(5):
        (folder / f"fold{fold}").mkdir(parents=True)
        for file, kept in (("model.pt", "final.pt"), ("training_cases.json", "training_cases.json")):
            (folder / f"fold{fold}" / kept).write_bytes((trained / "models" / file).read_bytes())
    return folder


@pytest.mark.parametrize("name", BUNDLES)
def test_ensemble_of_five_folds(trained, data, tmp_path, name):
    folds = str(five_folds(trained[name], tmp_path / "folds"))
    options = settings(name, data / "images", tmp_path)
    bundle_run(name, ["inference", "ensemble"], **options, folds_dir=folds)
    alone = tmp_path / "alone"
    weights = str(trained[name] / "models/model.pt")
    bundle_run(name, ["inference"], **options | {"output_dir": str(alone), "ckpt_path": weights})
    # five times the same network decides as that network does, up to ties of rounding
    for (_, a), (_, b) in zip(predictions(tmp_path / "out").items(), predictions(alone).items(), strict=True):
        assert np.mean(np.asanyarray(a.dataobj) == np.asanyarray(b.dataobj)) > 0.98


@pytest.mark.parametrize("name", BUNDLES)
def test_an_ensemble_is_evaluated_on_held_out_cases(trained, data, tmp_path, name):
    folds = str(five_folds(trained[name], tmp_path / "folds"))
    configs = ["train", "evaluate", "ensemble", "ensemble_evaluate"]
    options = settings(name, data, tmp_path, folds_dir=folds)
    bundle_run(name, configs, **options)
    alone = options | {"output_dir": str(tmp_path / "alone"), "ckpt_path": str(trained[name] / "models/model.pt")}
    bundle_run(name, ["train", "evaluate"], **alone, section="testing")
    tables = [(tmp_path / place / "val_dice_raw.csv").read_text().splitlines()[1:] for place in ("out", "alone")]
    assert len(tables[0]) == 4
    for row, other in zip(*tables, strict=True):
        assert float(row.split(",")[-1]) == pytest.approx(float(other.split(",")[-1]), abs=0.02)
    with pytest.raises(Exception) as info:  # noqa: PT011  (monai.bundle wraps it)
        bundle_run(name, configs, **options, section="validation", fold=1)
    assert "they were trained on" in str(cause(info.value))


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 1}, "they were trained on 2 of the 2 cases to score, such as p1; pass the --fold they were trained"),
        ({"section": "test"}, "option --section: 'test' is no section; pass one of validation, testing"),
        (
            {"fold": 1, "allow_training_cases": "true"},
            "option --allow_training_cases: 'true' is neither True nor False",
        ),
    ],
)
def test_an_evaluation_of_what_was_trained_on_is_refused(trained, data, tmp_path, name, change, message):
    weights = str(trained[name] / "models/model.pt")
    with pytest.raises(Exception) as info:  # noqa: PT011  (monai.bundle wraps it)
        bundle_run(name, ["train", "evaluate"], **settings(name, data, tmp_path, ckpt_path=weights, **change))
    assert message in str(cause(info.value))
    assert not (tmp_path / "out").exists()


def test_training_cases_are_scored_where_that_is_said(trained, data, tmp_path):
    weights = str(trained["organ_pocketnet"] / "models/model.pt")
    options = settings("organ_pocketnet", data, tmp_path, ckpt_path=weights, fold=1, allow_training_cases=True)
    bundle_run("organ_pocketnet", ["train", "evaluate"], **options)
    assert len(predictions(tmp_path / "out/predictions")) == 2


def test_the_organ_mask_comes_from_where_the_configuration_says(trained, data, tmp_path):
    content = json.loads((data / "datalist.json").read_text())
    for case in content["training"]:
        for kind in ("image", "label", "organ"):
            case[kind] = str(data / case[kind])
        if case["case"] != "p0":
            del case["organ"]
    content["testing"] = []
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    organ = trained["organ_pocketnet"] / "models/model.pt"
    options = settings("tumor_pocketnet", data, tmp_path, organ, datalist=str(tmp_path / "datalist.json"), epochs=1)
    with pytest.raises(Exception) as info:  # noqa: PT011  (monai.bundle wraps it)
        bundle_run("tumor_pocketnet", ["train"], **options)
    assert str(cause(info.value)).startswith("p1: it and 3 more of 5 cases name no organ; make out-of-fold masks")
    assert not (tmp_path / "models").exists()
    bundle_run("tumor_pocketnet", ["train"], **options, organ_source="label")
    assert (tmp_path / "models/model.pt").is_file()


@pytest.mark.parametrize("name", BUNDLES)
def test_what_the_zoo_checks(trained, tmp_path, name):
    folder = ROOT / "bundles" / name
    os.chdir(folder)
    try:
        configs = ("train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_evaluate", "metadata")
        for file in (
            *(f"configs/{c}.json" for c in configs),
            "configs/logging.conf",
            "LICENSE",
            "docs/README.md",
            "docs/data_license.txt",
            "large_files.yml",
        ):
            assert Path(file).is_file(), file
        for file in Path("configs").glob("*.json"):
            text = file.read_text()
            assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n", (
                f"{file} is not indented by 4"
            )
        meta = json.loads(Path("configs/metadata.json").read_text())
        assert meta["version"] in meta["changelog"]
        tiny = {k: TINY[k] for k in (*SIZE, "kernel_sizes", "strides", "features", "deep_supervision")}
        verify_net_in_out(
            net_id="network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", **tiny
        )
        weights = str(trained[name] / "models/model.pt")
        ckpt_export(
            net_id="network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=weights,
            meta_file="configs/metadata.json",
            config_file=["configs/inference.json"],
            **tiny,
        )
        exported = torch.jit.load(tmp_path / "model.ts")
        channels = meta["network_data_format"]["outputs"]["pred"]["num_channels"]
        assert exported(torch.zeros(1, 1, 16, 16, 8)).shape == (1, channels, 16, 16, 8)
    finally:
        os.chdir(ROOT)


@pytest.mark.parametrize("name", BUNDLES)
def test_properties_are_clean(trained, data, tmp_path, name):
    os.chdir(ROOT / "bundles" / name)
    try:
        weights = str(trained[name] / "models/model.pt")
        organ = str(trained["organ_pocketnet"] / "models/model.pt")
        for workflow, source in (("train", data), ("inference", data / "images")):
            flow = ConfigWorkflow(
                config_file=f"configs/{workflow}.json",
                meta_file="configs/metadata.json",
                workflow_type=workflow,
                **settings(
                    name, source, tmp_path, Path(organ), **({"ckpt_path": weights} if workflow == "inference" else {})
                ),
            )
            flow.initialize()
            assert flow.check_properties() == [], workflow
            assert flow.network_def is not None
    finally:
        os.chdir(ROOT)


@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_follows_the_schema(name):
    verify_metadata(meta_file=str(ROOT / f"bundles/{name}/configs/metadata.json"), filepath=str(SCHEMA))


def cause(error: BaseException) -> CaseError:
    while not isinstance(error, CaseError):
        assert error.__cause__ is not None, error
        error = error.__cause__
    return error


@pytest.mark.parametrize(
    ("name", "configs", "change", "message"),
    [
        ("organ_pocketnet", ["train"], {"fold": 9}, "fold 9: it has no validation cases"),
        ("organ_pocketnet", ["train"], {"label_values": [0, 1]}, "unknown label values"),
        ("organ_pocketnet", ["train"], {"datalist": "nowhere.json"}, "does not exist"),
        ("organ_pocketnet", ["inference"], {"ckpt_path": "nowhere.pt"}, "the file does not exist"),
        ("organ_pocketnet", ["inference"], {"features": 8}, "features 8 for 4"),
        ("organ_pocketnet", ["train", "evaluate"], {"features": 8}, "features 8 for 4"),
        ("tumor_pocketnet", ["train"], {"organ_weights": "nowhere.pt"}, "the file does not exist"),
    ],
)
def test_bad_input_is_one_sentence_before_any_step(trained, data, tmp_path, name, configs, change, message):
    source = data / "images" if configs == ["inference"] else data
    weights = {"ckpt_path": str(trained[name] / "models/model.pt")} if configs != ["train"] else {}
    with pytest.raises(Exception) as info:  # noqa: PT011  (monai.bundle wraps it; the cause is what counts)
        bundle_run(name, configs, **{**settings(name, source, tmp_path), **weights, **change})
    assert message in str(cause(info.value))
    assert not (tmp_path / "models").exists()


def test_the_last_line_of_a_failed_run_is_the_sentence(data):
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", "configs/train.json"]
    done = subprocess.run(
        [*words, "--dataset_dir", str(data), "--fold", "9"],
        cwd=ROOT / "bundles/organ_pocketnet",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: fold 9: it has no validation cases")
    assert "Traceback" not in done.stderr


def command(configs: list[str], options: dict[str, Any], ranks: int = 1) -> list[str]:
    launch = ["torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "-m"] if ranks > 1 else []
    words = [sys.executable, "-W", "ignore", "-m", *launch, "monai.bundle", "run", "--config_file", str(configs)]
    for key, value in options.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words


def test_killed_and_resumed_ends_with_the_same_weights(data, tmp_path):
    name, configs = "organ_pocketnet", ["configs/train.json"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    # no validation in between, so that most of the time is training; the last epoch validates
    more = {"epochs": 8, "val_interval": 4, "batch_size": 1}
    bundle_run(name, ["train"], **settings(name, data, whole, **more))
    options = settings(name, data, cut, **more)
    process = subprocess.Popen(
        command(configs, options), cwd=ROOT / "bundles" / name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    state = cut / "out/resume.pt"
    deadline = time.monotonic() + 300
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().uniform(0, 0.5)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= torch.load(state, weights_only=True)["epoch"] < 8
    bundle_run(name, ["train"], **options)
    a, b = (torch.load(f / "out/resume.pt", weights_only=True) for f in (whole, cut))
    assert b["epoch"] == a["epoch"] == 8
    for key, value in a["state"]["network"].items():
        assert torch.equal(value, b["state"]["network"][key]), key
    assert a["best_metric"] == b["best_metric"]
    x, y = (torch.load(f / "models/model.pt", weights_only=True) for f in (whole, cut))
    assert all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("name", ["organ_pocketnet", pytest.param("tumor_pocketnet", marks=pytest.mark.slow)])
def test_two_ranks_equal_one_rank_with_the_doubled_batch(trained, data, tmp_path, name):
    cases = json.loads((data / "datalist.json").read_text())
    # one step an epoch: two training cases, of which both ways see both; validation cases are the others
    cases["training"] = [
        {**c, "fold": int(i > 1), **{kind: str(data / c[kind]) for kind in ("image", "label", "organ")}}
        for i, c in enumerate(cases["training"])
    ]
    (tmp_path / "datalist.json").write_text(json.dumps(cases))
    fixed = {"_target_": "ResizeWithPadOrCropd", "spatial_size": [16, 16, 8]}
    keys = ["image", "label"] if name == "organ_pocketnet" else ["image", "organ", "label"]
    more: dict[str, Any] = {
        "fold": 1,
        "train#random_transforms": [{**fixed, "keys": keys}],
        "epochs": 3,
        "val_interval": 3,
        "datalist": str(tmp_path / "datalist.json"),
        "learning_rate": 0.05,
        # Adam would blow up rounding where a gradient is almost zero
        "optimizer#_target_": "torch.optim.SGD",
    }
    organ = trained["organ_pocketnet"] / "models/model.pt"
    one, two = (settings(name, data, tmp_path / place, organ, **more) for place in ("one", "two"))
    bundle_run(name, ["train"], **one, batch_size=2)
    two.pop("device")
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    done = subprocess.run(
        command(configs, {**two, "batch_size": 1}, ranks=2),
        cwd=ROOT / "bundles" / name,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, "\n".join(x for x in done.stderr.splitlines() if "Error" in x or "error" in x)
    a, b = (torch.load(tmp_path / p / "out/resume.pt", weights_only=True) for p in ("one", "two"))
    for key, value in a["state"]["network"].items():
        torch.testing.assert_close(
            value, b["state"]["network"][key], rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
        )
    assert a["best_metric"] == pytest.approx(b["best_metric"], abs=0.02)
