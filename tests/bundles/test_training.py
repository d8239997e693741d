"""Training as the five configurations have it: mixed precision, accumulation, what only a GPU would run, MONAI Label."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run

from custom_networks import CaseError, read_settings
from custom_networks.engines import TrainingEvents

REPO = Path(__file__).resolve().parents[2]
CLIPPED = ("gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")
BUNDLES = (*CLIPPED, "organ_pocketnet", "tumor_pocketnet")
COMMON: dict[str, Any] = {
    "device": "cpu",
    "spacing": [6.0, 6.0, 6.0],
    "fold": -1,
    "num_workers": 0,
    "cache_rate": 0.0,
    "tracker": "none",
    "val_cases": 1,
    "check_data": False,
}
# torch 2.13 computes a wrong bfloat16 gradient of convolutions over 2 x 2 voxels on CPUs, where a side of 32 would end
CT = {"patch_size": [48, 48, 16], "variant": "small", "warmup_epochs": 0, "gradient_clip": 0.05}
OWN: dict[str, dict[str, Any]] = {
    "gynbtnet_pretrain": {**CT, "decoder_width": 32, "batch_size": 2, "max_batch_per_gpu": 2},
    "gynbtnet_finetune": {**CT, "pretrained": None, "num_classes": 3, "batch_size": 1, "iterations": 2},
    "gynbtnet_brachytherapy": {**CT, "pretrained": None, "num_classes": 3, "batch_size": 1, "iterations": 2},
    "organ_pocketnet": {"patch_size": [16, 16, 16], "kernel_sizes": [3, 3, 3], "strides": [2, 2], "features": 4},
}
OWN["organ_pocketnet"] |= {"deep_supervision": 1, "batch_size": 1}
OWN["tumor_pocketnet"] = OWN["organ_pocketnet"]
# the trainer of stage 3 is that of stage 2
SLOW_TWIN = pytest.param("gynbtnet_finetune", marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    here, threads = Path.cwd(), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.chdir(here)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng, cases = tmp_path_factory.mktemp("cases"), np.random.default_rng(0), []
    for i in range(4):
        label = np.zeros((28, 28, 24), np.uint8)
        label[6:22, 6:22, 6:20] = 1
        label[10:16, 10:16, 9 : 14 + i] = 2
        image = (label * 200.0 + rng.normal(0, 60, label.shape)).astype(np.int16)
        for kind, voxels in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([6.0, 6.0, 6.0, 1.0])), folder / f"{kind}{i}.nii.gz")
        cases.append(
            {
                "case": f"c{i}",
                "patient": f"c{i}",
                "image": f"image{i}.nii.gz",
                "label": f"label{i}.nii.gz",
                "fold": i % 2,
            }
        )
    (folder / "datalist.json").write_text(json.dumps({"name": "t", "training": cases[:2], "testing": cases[2:]}))
    return folder


def values(name: str, data: Path, folder: Path, **more: Any) -> dict[str, Any]:
    places = {"dataset_dir": str(data), "ckpt_dir": str(folder / "models"), "output_dir": str(folder / "out")}
    own = {**COMMON, **OWN[name], **places, "bundle_root": str(REPO / "bundles" / name), "epochs": 2, **more}
    if name == "tumor_pocketnet":
        own |= {"organ_source": "label", "organ_weights": _organ_weights(folder.parent / "organ.pt", own)}
    return own


def _organ_weights(file: Path, own: dict[str, Any]) -> str:
    if not file.is_file():
        network = configuration("organ_pocketnet", {k: own[k] for k in ("spacing", *OWN["organ_pocketnet"])})
        torch.save(network.get_parsed_content("network_def").state_dict(), file)
    return str(file)


def configuration(name: str, given: dict[str, Any], *more: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(REPO / "bundles" / name / "configs" / f"{file}.json") for file in ("train", *more)])
    parser.update(given)
    return parser


def start(name: str, data: Path, folder: Path, **more: Any) -> tuple[Any, torch.Tensor]:
    """The trainer of a configuration, not yet run, and the weights it starts from."""
    parser = configuration(name, values(name, data, folder, **more))
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    return trainer, vector(trainer)


def vector(trainer: Any) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for group in trainer.optimizer.param_groups for w in group["params"]])


@pytest.mark.parametrize("name", [SLOW_TWIN, *(name for name in BUNDLES if name != "gynbtnet_finetune")])
def test_mixed_precision_learns_what_full_precision_does(name: str, data: Path, tmp_path: Path) -> None:
    """Gradients that are clipped times their scale leave nothing to learn; a growing scale makes that worse."""
    ends: dict[str, torch.Tensor] = {}
    norms: dict[str, list[float]] = {}
    for way, scale, more in (
        ("plain", None, {}),
        ("scaled", 2.0**16, {}),
        ("scaled more", 2.0**24, {}),
        ("bfloat16", None, {"amp": True}),
    ):
        trainer, begin = start(name, data, tmp_path / way.replace(" ", "_"), epochs=1, **more)
        if scale is not None:
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        else:
            assert not trainer.scaler.is_enabled()
        seen = norms.setdefault(way, [])
        if name in CLIPPED:
            trainer.add_event_handler(
                TrainingEvents.GRADIENTS_READY, lambda engine, seen=seen: seen.append(float(engine.state.gradient_norm))
            )
        trainer.run()
        ends[way] = vector(trainer) - begin
    moved = ends["plain"].norm()
    assert moved > 0
    for way in ("scaled", "scaled more"):
        assert (ends[way] - ends["plain"]).norm() < 1e-2 * moved, way
        assert norms[way] == pytest.approx(norms["plain"], rel=1e-3)
    # not the same direction: the first steps of Adam follow signs, which rounding turns where a gradient is almost zero
    assert ends["bfloat16"].norm() == pytest.approx(float(moved), rel=0.1)
    if name in CLIPPED:
        assert norms["bfloat16"] == pytest.approx(norms["plain"], rel=0.3)
        assert min(norms["plain"]) > CT["gradient_clip"]
        assert "gradient_norm" in trainer.state.metrics


@pytest.mark.parametrize("name", ["gynbtnet_pretrain", SLOW_TWIN, "gynbtnet_brachytherapy"])
def test_a_step_of_several_micro_batches_is_clipped_once(name: str, data: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = (
        {"batch_size": 2, "max_batch_per_gpu": 1} if name == "gynbtnet_pretrain" else {"accumulation": 2}
    )
    trainer, _ = start(name, data, tmp_path, epochs=1, **more)
    steps: list[int] = []
    trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, lambda engine: steps.append(engine.state.iteration))
    trainer.run()
    assert trainer.accumulation_steps == 2
    assert steps == list(range(2, trainer.state.epoch_length + 1, 2))


@pytest.mark.parametrize("name", BUNDLES)
def test_rate_falls_to_zero_over_the_epochs_that_are_trained(name: str, data: Path, tmp_path: Path) -> None:
    """Those of MONAI Label too, which says how many in another place."""
    for given in ({"epochs": 8}, {"epochs": 1000, "train#trainer#max_epochs": 8}):
        parser = configuration(name, values(name, data, tmp_path) | given)
        scheduler, optimizer = (parser.get_parsed_content(key) for key in ("lr_scheduler", "optimizer"))
        rates = []
        for _ in range(9):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        rate = parser.get_parsed_content("learning_rate")
        cosine = [rate * (1 + np.cos(np.pi * epoch / 8)) / 2 for epoch in range(9)]
        assert rates == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in BUNDLES if name != "gynbtnet_pretrain"])
def test_heads_of_deep_supervision_count_half_as_much_each(name: str) -> None:
    weights = configuration(name, {}).get_parsed_content("deep_supervision_weights")
    assert len(weights) > 1
    assert sum(weights) == pytest.approx(1)
    assert all(deeper == pytest.approx(weight / 2) for weight, deeper in itertools.pairwise(weights))


@pytest.mark.parametrize("name", BUNDLES)
def test_what_only_a_gpu_would_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every expression about CUDA, evaluated as on a machine that has it."""
    known = {"device", "backend", "amp", "initialize", "device_ids", "memory_format", "pin_memory"}
    for file in (REPO / "bundles" / name / "configs").glob("*.json"):
        for key, text in _strings(json.loads(file.read_text())):
            if "cuda" in text:
                assert key.split("#")[-1] in known or "initialize" in key, (file.name, key)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    alone = configuration(name, {})
    assert alone.get_parsed_content("device") == torch.device("cuda:0")
    assert alone.get_parsed_content("amp") is True
    assert alone.get_parsed_content("amp_dtype") == torch.float16
    assert alone.get_parsed_content("train#dataloader#pin_memory") is True
    ranks = configuration(name, {}, "multi_gpu_train")
    assert ranks.get_parsed_content("backend") == "nccl"
    assert ranks.get_parsed_content("device") == torch.device("cuda:3")
    assert ranks.get_parsed_content("network#device_ids") == [torch.device("cuda:3")]
    # a CPU that is asked for on such a machine, as MONAI Label hands it over
    asked = configuration(name, {"device": "cpu"})
    assert asked.get_parsed_content("amp") is False
    assert asked.get_parsed_content("amp_dtype") == torch.bfloat16
    assert asked.get_parsed_content("train#dataloader#pin_memory") is False
    layouts = {torch.channels_last_3d, torch.contiguous_format}
    assert {parser.get_parsed_content("memory_format") for parser in (alone, asked)} <= layouts
    inference = ConfigParser()
    inference.read_config(str(REPO / "bundles" / name / "configs/inference.json"))
    assert inference.get_parsed_content("amp") is True
    assert inference.get_parsed_content("amp_dtype") == torch.float16


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, (dict, list)):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in items:
            yield from _strings(value, f"{key}#{name}")


@pytest.mark.parametrize("name", BUNDLES)
def test_nothing_expensive_is_measured_while_training(name: str, data: Path, tmp_path: Path) -> None:
    parser = configuration(name, values(name, data, tmp_path))
    assert set(parser.get("train#key_metric")) == {"train_loss"}
    assert not parser.get("validate#additional_metrics")
    assert not re.search('"metric": "(hd95|asd|nsd)"', json.dumps(parser.get()))
    assert len(parser.get_parsed_content("validate#dataset#data")) == 1


@pytest.mark.parametrize("name", [name for name in BUNDLES if name != "gynbtnet_pretrain"])
def test_a_false_positive_costs_in_what_chooses_the_best_weights(name: str, data: Path, tmp_path: Path) -> None:
    parser = configuration(name, values(name, data, tmp_path))
    finish = parser.get_parsed_content("validate#postprocessing")
    metric = parser.get_parsed_content("validate#key_metric")["val_dice"].metric_fn
    found, nothing = torch.zeros(1, 8, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    found[:, 2:5, 2:5, 2:5] = 1
    scored = []
    for label in (found, nothing):
        # a PocketNet gives a score for each class, a GynBTNet's inferer the label map
        pred = torch.cat([1 - found, found]).float() if name.endswith("pocketnet") else found
        scored.append(finish({"pred": pred.clone(), "label": label.clone(), "organ": torch.ones_like(label)}))
    metric([case["pred"] for case in scored], [case["label"] for case in scored])
    assert metric.aggregate().item() == pytest.approx(0.5)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    parser = configuration("gynbtnet_pretrain", {"world_size": 3})
    assert [parser.get_parsed_content(key) for key in ("micro_batch", "accumulation")] == [8, 1]
    with pytest.raises(RuntimeError) as caught:
        configuration("gynbtnet_pretrain", {"world_size": 5}).get_parsed_content("micro_batch")
    assert "batch of 24: it cannot be shared evenly among 5 processes" in str(cause(caught.value))


def cause(error: BaseException) -> CaseError:
    while not isinstance(error, CaseError):
        assert error.__cause__ is not None, error
        error = error.__cause__
    return error


@pytest.mark.parametrize("name", ["gynbtnet_brachytherapy", "organ_pocketnet"])
def test_a_rate_beyond_reason_is_one_sentence(name: str, data: Path, tmp_path: Path) -> None:
    trainer, _ = start(name, data, tmp_path, learning_rate=1e30, epochs=9)
    with pytest.raises(CaseError, match=r"^training: the .*lower --learning_rate"):
        trainer.run()
    assert not (tmp_path / "out/final.pt").exists()


def run(name: str, data: Path, folder: Path, **more: Any) -> None:
    os.chdir(REPO / "bundles" / name)
    bundle_run(
        config_file="configs/train.json", meta_file="configs/metadata.json", **values(name, data, folder, **more)
    )


@pytest.mark.parametrize("name", ["organ_pocketnet", "gynbtnet_brachytherapy"])
def test_label_trains_again_and_again(name: str, data: Path, tmp_path: Path) -> None:
    """MONAI Label's calls: the device as a string, cases and epochs by their own ids, a loader of the present weights.

    What the first Train was given as configuration overrides, the later ones take from the weights.
    """
    handlers = json.loads((REPO / "bundles" / name / "configs/train.json").read_text())["train"]["handlers"]
    weights = tmp_path / "models/model.pt"
    loader = {"_target_": "CheckpointLoader", "load_path": str(weights), "load_dict": {"model": "$@network"}}
    cases = [{key: str(data / f"{key}{i}.nii.gz") for key in ("image", "label")} for i in range(4)]
    given = values(name, data, tmp_path, learning_rate=0.01)
    given.pop("pretrained", None)
    if name == "gynbtnet_brachytherapy":
        given |= {"variant": "tiny", "prepared_dir": str(tmp_path / "prepared")}
    states, settings = [], []
    for present in (cases[:3], cases[:3], cases):
        given |= {
            "train#trainer#max_epochs": 2,
            "train#dataset#data": present[:-1],
            "validate#dataset#data": present[-1:],
            "train#handlers": [{**loader, "strict": False}, *handlers] if weights.is_file() else handlers,
        }
        os.chdir(REPO / "bundles" / name)
        bundle_run(config_file="configs/train.json", meta_file="configs/metadata.json", **given)
        states.append(torch.load(tmp_path / "out/final.pt", weights_only=True))
        settings.append(read_settings(weights))
        assert torch.load(tmp_path / "out/resume.pt", weights_only=True)["epoch"] == 2
        assert settings[-1]["patch_size"] == OWN[name]["patch_size"]
        given = {key: value for key, value in given.items() if key not in settings[-1]}
    assert settings[0] == settings[1] == settings[2]
    for before, after in itertools.pairwise(states):
        assert not all(torch.equal(before[key], after[key]) for key in before)


def test_weights_that_come_after_a_start_from_scratch_are_not_passed_over(data: Path, tmp_path: Path) -> None:
    name, more = "gynbtnet_brachytherapy", {"variant": "tiny", "epochs": 1, "prepared_dir": str(tmp_path / "prepared")}
    run(name, data, tmp_path, **more)
    (tmp_path / "out/final.pt").rename(tmp_path / "pretrained.pt")
    with pytest.raises(RuntimeError) as caught:
        run(name, data, tmp_path, **more, pretrained=str(tmp_path / "pretrained.pt"))
    assert "written with pretrained false, not true" in str(cause(caught.value))


def test_final_weights_are_those_of_the_last_epoch(data: Path, tmp_path: Path) -> None:
    run("organ_pocketnet", data, tmp_path)
    final = torch.load(tmp_path / "out/final.pt", weights_only=True)
    last = torch.load(tmp_path / "out/resume.pt", weights_only=True)["state"]["network"]
    assert set(final) == set(last)
    assert all(torch.equal(final[key], last[key]) for key in final)
    assert [file.name for file in (tmp_path / "models").glob("*.pt")] == ["model.pt"]


@pytest.mark.parametrize(
    "changed",
    [{"learning_rate": 0.5}, {"spacing": [5.0, 5.0, 5.0], "force_settings": True}, {"seed": 3}, {"batch_size": 2}],
)
def test_a_resumed_training_is_what_it_was(data: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    run("organ_pocketnet", data, tmp_path, epochs=1)
    with pytest.raises(RuntimeError) as caught:
        run("organ_pocketnet", data, tmp_path, **changed)
    assert f"written with {next(iter(changed))} " in str(cause(caught.value))
