"""The three GynBTNet bundles: training, evaluation, inference, bad input, what a model zoo demands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from monai.data import MetaTensor
from monai.transforms import Compose

from custom_networks import CaseError, ClassPositionsd
from scripts.data.cohorts.totalsegmentator import CLASSES_V1

REPO = Path(__file__).resolve().parents[2]
STAGES = ("gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")
SUPERVISED = STAGES[1:]
PREVIOUS = dict(zip(STAGES[1:], STAGES, strict=False))
SCHEMA = Path(__file__).with_name("metadata_schema.json")
SIZE = {"spacing": [6.0, 6.0, 6.0], "patch_size": [32, 32, 32]}
TINY = {**SIZE, "epochs": 1, "iterations": 1, "batch_size": 2, "val_interval": 1, "num_workers": 0}


def bundle(stage: str) -> Path:
    return REPO / "bundles" / stage


def configs(stage: str, *names: str) -> list[str]:
    return [str(bundle(stage) / "configs" / f"{name}.json") for name in names]


def run(stage: str, *names: str, **overrides: Any) -> ConfigWorkflow:
    kind = "inference" if names[0] == "inference" else "train"
    values = {"bundle_root": str(bundle(stage)), **overrides}
    workflow = ConfigWorkflow(configs(stage, *names), meta_file=None, workflow_type=kind, logging_file=False, **values)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def write_case(folder: Path, name: str, affine: np.ndarray, shape: tuple[int, ...] = (40, 44, 36)) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    image, label = rng.normal(-500, 50, shape), np.zeros(shape, np.uint8)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for value in range(1, 6):
        centre = np.array(shape) * rng.uniform(0.25, 0.75, 3)
        inside = ((grid - centre) ** 2).sum(-1) < 49
        image[inside], label[inside] = 150 * value, value
    for kind, voxels in (("images", image.astype(np.int16)), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), folder / kind / f"{name}.nii.gz")
    return {"case": name, "patient": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    cases = [write_case(folder, f"c{i}", np.diag([4.0, 4.0, 4.0, 1.0])) for i in range(4)]
    training = [{**case, "fold": min(i, 1)} for i, case in enumerate(cases[:3])]
    (folder / "datalist.json").write_text(json.dumps({"name": "t", "training": training, "testing": cases[3:]}))
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Every stage trained for one step, each from the one before; gives the folder of `model.pt`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folders: dict[str, Path] = {}
    for stage in STAGES:
        folders[stage] = tmp_path_factory.mktemp(stage)
        start = {"pretrained": str(folders[PREVIOUS[stage]] / "model.pt")} if stage in PREVIOUS else {}
        run(stage, "train", "small", **places(data, folders[stage]), **TINY, **start)
    yield folders
    torch.set_num_threads(threads)


def places(data: Path, folder: Path) -> dict[str, Any]:
    return {"dataset_dir": str(data), "ckpt_dir": str(folder), "output_dir": str(folder / "out")}


def spread(voxels: np.ndarray) -> int:
    return len(np.unique(voxels))


@pytest.mark.parametrize("stage", STAGES)
def test_train_evaluate_infer(stage: str, data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    weights = torch.load(trained[stage] / "model.pt", weights_only=True)
    assert weights
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    run(stage, "train", "small", "evaluate", **places(data, trained[stage]) | {"output_dir": str(tmp_path)}, **SIZE)
    table = dict(line.split(",") for line in (tmp_path / "metrics.csv").read_text().split())
    expected = {"gynbtnet_pretrain": {"val_mse"}, "gynbtnet_finetune": {"val_dice"}}
    assert set(table) == expected.get(stage, {"val_dice", "val_hd95_mm", "val_asd_mm", "val_missed"})
    assert np.isfinite([float(value) for value in table.values()]).all()
    run(stage, "inference", "small", **places(data / "images" / "c3.nii.gz", trained[stage]), **SIZE)
    image, pred = (nib.load(f) for f in (data / "images/c3.nii.gz", trained[stage] / "out/c3_pred.nii.gz"))
    assert pred.shape == image.shape
    assert np.allclose(pred.affine, image.affine)


@pytest.mark.parametrize(
    ("stage", "numbers"),
    [
        (STAGES[0], (0, 2)),
        pytest.param(STAGES[2], (0, 3), marks=pytest.mark.slow),
        *(pytest.param(stage, (0, 1, 2, 4), marks=pytest.mark.slow) for stage in (STAGES[0], STAGES[2])),
    ],
)
def test_weights_are_the_same_for_any_number_of_workers(
    stage: str, numbers: tuple[int, ...], data: Path, tmp_path: Path
) -> None:
    """Crops, augmentation and the masks of pretraining; a CPU with workers equals one without."""
    found = []
    scratch = {} if stage == STAGES[0] else {"pretrained": None, "batch_size": 1}
    for workers in numbers:
        folder = tmp_path / str(workers)
        values = {**TINY, "epochs": 2, "iterations": 2, "val_interval": 2, **scratch, "num_workers": workers}
        run(stage, "train", "small", **values | places(data, folder) | {"prepared_dir": str(tmp_path / "prepared")})
        found.append(torch.load(folder / "out" / "final.pt", weights_only=True))
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


def test_nothing_turns_left_into_right_in_stage_2(data: Path) -> None:
    """Left and right organs are classes of their own; stage 3 has none and is flipped along every axis."""
    ramp = MetaTensor(torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")), affine=torch.eye(4))
    mirrored = {}
    for stage in SUPERVISED:
        parser = ConfigParser(ConfigParser.load_config_files(configs(stage, "train", "small")))
        parser.update({"patch_size": [32, 32, 32]})
        random = Compose(parser.get_parsed_content("train#random_transforms"))
        directions = []
        for seed in range(24):
            random.set_random_state(seed)
            label = MetaTensor((ramp[:1] >= 0).float(), affine=torch.eye(4))
            image = random({"image": ramp.clone(), "label": label})["image"].as_tensor()
            ends = [image[axis].movedim(axis, 0)[[8, 24]].mean((1, 2)) for axis in range(3)]
            directions.append([bool(end[0] > end[1]) for end in ends])
        mirrored[stage] = np.any(directions, axis=0).tolist()
    assert mirrored == {SUPERVISED[0]: [False] * 3, SUPERVISED[1]: [True] * 3}


@pytest.mark.parametrize("stage", SUPERVISED)
def test_share_of_foreground_crops_is_the_settings(stage: str, data: Path, tmp_path: Path) -> None:
    values = {"patch_size": [1, 1, 1], "fold": -1, "num_workers": 0, "foreground_ratio": 0.8}
    parser = ConfigParser(ConfigParser.load_config_files(configs(stage, "train", "small")))
    parser.update({**SIZE, **values, **places(data, tmp_path), "prepared_dir": str(tmp_path)})
    crop = parser.get_parsed_content("train#random_transforms")[0]
    crop.set_random_state(0)
    case = {key: str(data / f"{key}s" / "c0.nii.gz") for key in ("image", "label")}
    case = Compose([*parser.get_parsed_content("deterministic_transforms"), ClassPositionsd("label")])(case)
    drawn = [int(crop(case)["label"]) for _ in range(2000)]
    shares = np.bincount(drawn, minlength=6) / 2000
    assert shares == pytest.approx([0.2, *[0.16] * 5], abs=0.03)


@pytest.mark.parametrize("stage", SUPERVISED)
def test_previous_weights_arrive(stage: str, data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    values = {**TINY, **places(data, tmp_path), "pretrained": str(trained[PREVIOUS[stage]] / "model.pt")}
    files = configs(stage, "train", "small")
    workflow = ConfigWorkflow(files, meta_file=None, workflow_type="train", logging_file=False, **values)
    workflow.initialize()
    own = workflow.parser.get_parsed_content("network_def").state_dict()
    earlier = torch.load(trained[PREVIOUS[stage]] / "model.pt", weights_only=True)
    same = [n for n in own if n in earlier and own[n].shape == earlier[n].shape and torch.equal(own[n], earlier[n])]
    stages = 6 if stage == "gynbtnet_brachytherapy" else 5
    assert {int(n.split(".")[2]) for n in same if n.startswith("encoder.stages")} == set(range(stages))
    assert all(n in same for n in own if n.startswith("encoder.stages") and int(n.split(".")[2]) < stages)
    assert any(n.startswith("decoder") for n in same) == (stage == "gynbtnet_brachytherapy")


@pytest.mark.parametrize("stage", SUPERVISED)
def test_missing_weights_of_the_previous_stage(
    stage: str, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that was given has to exist; without one a training starts from scratch and says so, in MONAI Label too."""
    values = {**places(data, tmp_path), **TINY}
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", **values, pretrained=str(tmp_path / "absent.pt"))
    assert isinstance(caught.value.__cause__, CaseError)
    assert "absent.pt: the file does not exist" in str(caught.value.__cause__)
    workflow = ConfigWorkflow(
        configs(stage, "train", "small"), meta_file=None, workflow_type="train", logging_file=False, **values
    )
    workflow.initialize()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("pretrained.pt does not exist: a new training starts from scratch" in text for text in said) == 1
    # put there, it is taken, and has to be sound
    (Path(values["ckpt_dir"]) / "pretrained.pt").write_bytes(b"cut")
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", **values)
    assert "pretrained.pt: it is damaged" in str(caught.value.__cause__)


@pytest.mark.parametrize("stage", STAGES)
def test_bad_input_stops_before_training(stage: str, tmp_path: Path) -> None:
    cases = [write_case(tmp_path, f"c{i}", np.diag([4.0, 4.0, 4.0, 1.0]), (20, 20, 20)) for i in range(2)]
    training = [{**case, "fold": i} for i, case in enumerate(cases)]
    (tmp_path / "datalist.json").write_text(json.dumps({"name": "t", "training": training, "testing": []}))
    broken = tmp_path / ("images" if stage == "gynbtnet_pretrain" else "labels") / "c1.nii.gz"
    if stage == "gynbtnet_pretrain":
        broken.write_bytes(broken.read_bytes()[:200])
        expected = "damaged"
    else:
        nib.save(nib.Nifti1Image(np.full((20, 20, 20), 105, np.uint8), np.diag([4.0, 4.0, 4.0, 1.0])), broken)
        expected = r"unknown label values \[105\]"
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", **places(tmp_path, tmp_path), **TINY)
    assert isinstance(caught.value.__cause__, CaseError)
    with pytest.raises(CaseError, match=f"^c1: .*{broken.name}.*{expected}"):
        raise caught.value.__cause__
    assert not (tmp_path / "out").exists()


def cause(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The sentence that users see: monai.bundle wraps what its expressions raise."""
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, CaseError):
        error = error.__cause__
    assert error is not None
    return str(error)


@pytest.mark.parametrize("stage", SUPERVISED)
def test_unlabelled_cases_are_one_sentence(stage: str, data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "datalist.json").read_text())
    del content["training"][1]["label"]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    values = {**TINY, **places(data, tmp_path), "datalist": str(tmp_path / "datalist.json"), "pretrained": None}
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", **values)
    assert re.fullmatch(r"c1: image .*c1\.nii\.gz has no label; .*", cause(caught))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("configuration", [("train",), ("train", "evaluate"), ("inference",)])
def test_a_switch_given_as_a_word_is_refused(
    stage: str, configuration: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    """`--check_data false` comes as the word 'false', which Python takes as true."""
    with pytest.raises(RuntimeError) as caught:
        run(stage, *configuration, "small", **TINY, **places(data, tmp_path), check_data="false")
    assert cause(caught).startswith("option --check_data: 'false' is neither True nor False")


@pytest.mark.parametrize("stage", STAGES)
def test_external_test_set_needs_no_folds(stage: str, data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads((data / "datalist.json").read_text()) | {"training": []}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    where = {**places(data, trained[stage]), "output_dir": str(tmp_path), "datalist": str(tmp_path / "datalist.json")}
    run(stage, "train", "small", "evaluate", **where, **SIZE, section="testing")
    assert list(tmp_path.glob("*/c3_pred.nii.gz"))


@pytest.mark.parametrize("stage", STAGES)
def test_overrides_name_what_exists(stage: str) -> None:
    train, inference = (json.loads(Path(configs(stage, name)[0]).read_text()) for name in ("train", "inference"))
    added = {"backend", "train#sampler", "validate#sampler", "finalize", "section", "ckpt_path", "allow_training_cases"}
    added |= {
        "folds",
        "folds_dir",
        "fold_weights",
        "ensemble",
        "train#dataloader#sampler",
        "validate#dataloader#sampler",
    }
    added |= {"validate#handlers#0#_disabled_", "trt_args"}
    # the process group's id must not be anything else's
    assert "backend" not in train
    for path in (bundle(stage) / "configs").glob("*.json"):
        if path.stem in {"train", "inference", "metadata"}:
            continue
        # with a plus it is added to what is there
        for key in (written.removeprefix("+") for written in json.loads(path.read_text())):
            assert key in added or _has(train, key) or _has(inference, key), f"{path.name}: {key}"


def _has(config: Any, key: str) -> bool:
    for part in key.split("#"):
        if isinstance(config, list) and part.isdecimal() and int(part) < len(config):
            config = config[int(part)]
            continue
        if not isinstance(config, dict) or (part not in config and part != "val_asd_mm"):
            return False
        config = config.get(part)
    return True


def _image_steps(transforms: Any) -> list[tuple[str, str]]:
    steps = []
    for transform in transforms:
        name = type(transform).__name__
        if name in {"CopyItemsd", "DeleteItemsd"} or "image" not in transform.keys:
            continue
        inner = {k: v for k, v in vars(transform).items() if k not in {"keys", "allow_missing_keys", "mode", "dtype"}}
        values = {k: v for k, v in inner.items() if isinstance(v, int | float | str | list | tuple)}
        first = [transform.mode[0]] if hasattr(transform, "mode") and not isinstance(transform.mode, str) else []
        pixdim = getattr(getattr(transform, "spacing_transform", None), "pixdim", None)
        steps.append((name, repr((sorted((k, v) for k, v in values.items() if len(str(v)) < 99), first, pixdim))))
    return steps


@pytest.mark.parametrize("stage", STAGES)
def test_preprocessing_is_the_same_everywhere(stage: str, data: Path) -> None:
    results, steps = [], []
    for names, key in (
        (["train"], "deterministic_transforms"),
        (["train", "evaluate"], "deterministic_transforms"),
        (["inference"], "preprocessing"),
    ):
        parser = ConfigParser()
        parser.read_config(configs(stage, *names))
        parser.update({"bundle_root": str(bundle(stage)), "spacing": [6.0, 6.0, 6.0]})
        content = parser.get_parsed_content(key)
        transforms = list(content.transforms) if isinstance(content, Compose) else list(content)
        steps.append(_image_steps(transforms))
        case = {k: str(data / f"{k}s" / "c0.nii.gz") for k in ("image", "label")}
        results.append(Compose(transforms)(case)["image"])
    assert [name for name, _ in steps[0]] == [name for name, _ in steps[1]] == [name for name, _ in steps[2]]
    assert all(torch.equal(results[0], result) and results[0].shape == result.shape for result in results)
    assert all(torch.equal(results[0].affine, result.affine) for result in results)


def _affines() -> dict[str, np.ndarray]:
    rotation = nib.eulerangles.euler2mat(0.3, 0.2, 0.1)
    return {
        "axial": np.diag([-4.0, -4.0, 5.0, 1.0]),
        "sagittal": np.array([[0, 0, 4.0, 5], [-4, 0, 0, 6], [0, -4, 0, 7], [0, 0, 0, 1.0]]),
        "oblique": np.block([[rotation * 4.0, np.array([[9.0], [-8], [7]])], [np.zeros((1, 3)), np.ones((1, 1))]]),
        "flipped": np.diag([4.0, -4.0, -3.0, 1.0]),
    }


@pytest.mark.parametrize("stage", SUPERVISED)
def test_prediction_lies_on_the_image(stage: str, trained: dict[str, Path], tmp_path: Path) -> None:
    for name, affine in _affines().items():
        write_case(tmp_path, name, affine, (36, 30, 24))
    run(
        stage,
        "inference",
        "small",
        **places(tmp_path / "images", trained[stage]) | {"output_dir": str(tmp_path)},
        **SIZE,
    )
    for name, affine in _affines().items():
        pred = nib.load(tmp_path / f"{name}_pred.nii.gz")
        assert pred.shape == (36, 30, 24), name
        assert np.allclose(pred.affine, affine, atol=1e-4), name
        assert pred.get_data_dtype() == np.uint8


def test_intensities_decide_where_the_label_is(trained: dict[str, Path], tmp_path: Path) -> None:
    """A network that thresholds the image: its label map must lie on the bright voxels of the original grid."""
    stage = "gynbtnet_brachytherapy"
    for name, affine in _affines().items():
        write_case(tmp_path, name, affine, (36, 30, 24))
    threshold = (
        "$type('T', (torch.nn.Module,), {'forward': lambda s, x: torch.cat([0.5 - x, x - 0.5, *[x * 0 - 9] * 4], 1)})()"
    )
    spacing = {"spacing": [3.0, 3.0, 3.0], "patch_size": [32, 32, 32], "network_def": threshold, "initialize": []}
    run(stage, "inference", "small", **places(tmp_path / "images", tmp_path) | {"output_dir": str(tmp_path)}, **spacing)
    for name in _affines():
        image = nib.load(tmp_path / "images" / f"{name}.nii.gz").get_fdata()
        bright = (image - image.mean()) / image.std() > 0.5
        pred = nib.load(tmp_path / f"{name}_pred.nii.gz").get_fdata() == 1
        assert 2 * (bright & pred).sum() / (bright.sum() + pred.sum()) > 0.85, name


@pytest.mark.parametrize("stage", STAGES)
def test_zoo_checks(stage: str, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle(stage))
    meta, inference = "configs/metadata.json", "configs/inference.json"
    small: dict[str, Any] = {**SIZE, "variant": "small"}
    if stage == "gynbtnet_pretrain":
        small["decoder_width"] = 64
    verify_net_in_out("network_def", meta_file=meta, config_file=inference, device="cpu", n=2, **small)
    ckpt_export(
        "network_def",
        filepath=tmp_path / "model.ts",
        ckpt_file=str(trained[stage] / "model.pt"),
        meta_file=meta,
        config_file=inference,
        **small,
    )
    x = torch.rand(1, 1, 32, 32, 32)
    parser = ConfigParser(json.loads(Path(inference).read_text()) | small)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(trained[stage] / "model.pt", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), network(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_check_properties(stage: str, kind: str, data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    scratch = {"pretrained": None} if kind == "train" and stage != "gynbtnet_pretrain" else {}
    values = {
        **scratch,
        "bundle_root": str(bundle(stage)),
        **places(data if kind == "train" else data / "images", tmp_path),
        **TINY,
    }
    names = ("train", "small") if kind == "train" else ("inference", "small")
    meta = str(bundle(stage) / "configs" / "metadata.json")
    workflow = ConfigWorkflow(configs(stage, *names), meta_file=meta, workflow_type=kind, logging_file=False, **values)
    if kind == "inference":
        (tmp_path / "model.pt").write_bytes((trained[stage] / "model.pt").read_bytes())
    workflow.initialize()
    assert not workflow.check_properties()


@pytest.mark.parametrize("stage", STAGES)
def test_metadata(stage: str, tmp_path: Path) -> None:
    folder = bundle(stage)
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "large_files.yml"):
        assert (folder / name).stat().st_size > 0
    meta = json.loads((folder / "configs/metadata.json").read_text())
    classes = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
    expected = {"gynbtnet_finetune": ["background", *CLASSES_V1]}
    expected["gynbtnet_brachytherapy"] = ["background", "HR-CTV", "bladder", "rectum", "uterus", "sigmoid"]
    assert list(classes.values()) == expected.get(stage, ["reconstruction"])
    assert list(classes) == [str(i) for i in range(len(classes))]
    verify_metadata(meta_file=str(folder / "configs/metadata.json"), filepath=str(SCHEMA))
    assert not any(path.suffix in {".py", ".pt"} for path in folder.rglob("*") if "output" not in path.parts)


@pytest.mark.parametrize("stage", SUPERVISED)
def test_ensemble(stage: str, data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    paths = [str(trained[stage] / "model.pt")] * 2
    values = {**SIZE, "folds": 2, "fold_weights": paths, **places(data / "images" / "c3.nii.gz", tmp_path)}
    run(stage, "inference", "small", "ensemble", **values)
    run(stage, "inference", "small", **{**values, "ckpt_dir": str(trained[stage]), "output_dir": str(tmp_path / "one")})
    pair, one = (nib.load(tmp_path / f / "c3_pred.nii.gz").get_fdata() for f in ("out", "one"))
    # the mean of two equal networks is that network
    assert (pair == one).mean() > 0.999


@pytest.mark.parametrize("stage", SUPERVISED)
def test_an_ensemble_is_evaluated_on_held_out_cases(
    stage: str, data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    paths = [str(trained[stage] / "model.pt")] * 2
    names = ("train", "small", "evaluate", "ensemble", "ensemble_evaluate")
    values = {**SIZE, **places(data, tmp_path), "folds": 2, "fold_weights": paths}
    run(stage, *names, **values)
    assert [p.name for p in (tmp_path / "out/predictions").iterdir()] == ["c3_pred.nii.gz"]
    alone = {**SIZE, **places(data, trained[stage]), "output_dir": str(tmp_path / "one"), "section": "testing"}
    run(stage, "train", "small", "evaluate", **alone)
    pair, one = ((tmp_path / place / "val_dice_raw.csv").read_text().splitlines()[1] for place in ("out", "one"))
    assert float(pair.split(",")[-1]) == pytest.approx(float(one.split(",")[-1]), abs=0.01)
    with pytest.raises(RuntimeError) as caught:
        run(stage, *names, **values, section="validation", fold=1)
    assert "they were trained on" in cause(caught)


@pytest.mark.parametrize("stage", STAGES)
def test_an_evaluation_of_what_was_trained_on_is_refused(
    stage: str, data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    values = {**SIZE, **places(data, trained[stage]), "output_dir": str(tmp_path / "out")}
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", "evaluate", **values, fold=1)
    assert "they were trained on 2 of the 2 cases to score" in cause(caught)
    with pytest.raises(RuntimeError) as caught:
        run(stage, "train", "small", "evaluate", **values, section="test")
    assert cause(caught).startswith("option --section: 'test' is no section")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_large_variant_verifies(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle(stage))
    verify_net_in_out(
        "network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", device="cpu", n=2
    )
