"""Weights of any size are right with nothing but paths, in every bundle; what contradicts them is refused in every client."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run

from custom_networks import CaseError, load_pretrained, read_settings

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
POCKET: dict[str, Any] = {
    "spacing": [4.0, 4.0, 5.0],
    "orientation": "RAS",
    "patch_size": [16, 16, 8],
    "clip_percentiles": [2.0, 98.0],
    "kernel_sizes": [3, 3],
    "strides": [2],
    "features": 4,
    "norm": "instance",
    "deep_supervision": 0,
}
CT: dict[str, Any] = {"spacing": [6.0, 6.0, 6.0], "orientation": "RAS", "patch_size": [32, 32, 32], "variant": "tiny"}
HEADS: dict[str, Any] = {"num_classes": 6, "intensity_range": [-500.0, 900.0], "deep_supervision": 1}
# of every bundle, settings that no configuration has by itself
SETTINGS: dict[str, dict[str, Any]] = {
    "organ_pocketnet": POCKET,
    "tumor_pocketnet": POCKET | {"organ_features": 6},
    "gynbtnet_pretrain": CT | {"decoder_width": 16, "mask_ratio": 0.5},
    "gynbtnet_finetune": CT | HEADS,
    "gynbtnet_brachytherapy": CT | HEADS,
}
# one that contradicts the weights, and what the refusal shows
CONTRADICTIONS: list[tuple[str, str, Any, str]] = [
    ("organ_pocketnet", "norm", "batch", 'norm "batch" for "instance"'),
    ("tumor_pocketnet", "spacing", [1.0, 1.0, 5.0], r"spacing \[1.0, 1.0, 5.0\] for \[4.0, 4.0, 5.0\]"),
    ("tumor_pocketnet", "organ_features", 4, "organ_features 4 for 6"),
    ("gynbtnet_pretrain", "orientation", "LPS", 'orientation "LPS" for "RAS"'),
    ("gynbtnet_finetune", "intensity_range", [0, 9], r"intensity_range \[0, 9\] for \[-500.0, 900.0\]"),
    ("gynbtnet_brachytherapy", "num_classes", 4, "num_classes 4 for 6"),
]


def parsed(bundle: str, *configs: str, **values: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / f"configs/{name}.json") for name in configs])
    parser.update({"bundle_root": str(BUNDLES / bundle), "device": "cpu", **values})
    return parser


def made(bundle: str, file: Path, seed: int = 1, **values: Any) -> Path:
    """Weights as a training leaves them, only untrained."""
    torch.manual_seed(seed)
    network = parsed(bundle, "inference", **{**SETTINGS[bundle], **values}).get_parsed_content("network_def")
    for name, tensor in network.state_dict().items():
        # heads whose classes are all found somewhere
        if name.endswith("bias"):
            tensor.normal_(std=0.05)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """model.pt of every bundle."""
    folder = tmp_path_factory.mktemp("weights")
    return {bundle: made(bundle, folder / bundle / "model.pt") for bundle in SETTINGS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases that fit every bundle: an organ with a tumour in it."""
    folder, shape = tmp_path_factory.mktemp("data"), (36, 32, 14)
    rng, cases = np.random.default_rng(0), []
    radius = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2) * [2.0, 2.0, 5.0], axis=-1).T
    label = ((radius < 25).astype(np.uint8) + (radius < 12)).astype(np.uint8)
    for i in range(2):
        image = (400.0 * label - 200 + rng.normal(0, 80, shape)).astype(np.int16)
        for kind, voxels in (("image", image), ("label", label), ("organ", np.minimum(label, 1))):
            (folder / f"{kind}s").mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([-2.0, -2.0, 5.0, 1.0])), folder / f"{kind}s/c{i}.nii.gz")
        files = {kind: f"{kind}s/c{i}.nii.gz" for kind in ("image", "label", "organ")}
        cases.append({"case": f"c{i}", "patient": f"c{i}", "fold": i, **files})
    (folder / "datalist.json").write_text(json.dumps({"training": cases, "testing": []}))
    return folder


def bundle_run(bundle: str, *configs: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """`python -m monai.bundle run` in the bundle's folder."""
    monkeypatch.chdir(BUNDLES / bundle)
    files = [f"configs/{name}.json" for name in configs]
    run(config_file=files, meta_file="configs/metadata.json", device="cpu", num_workers=0, **options)


def segmented(folder: Path) -> np.ndarray:
    (file,) = folder.glob("**/c0*.nii.gz")
    return np.asarray(nib.load(file).dataobj)


def refusal(error: BaseException | None) -> CaseError:
    while error is not None and not isinstance(error, CaseError):
        error = error.__cause__ or error.__context__
    assert error is not None
    return error


@pytest.mark.parametrize("bundle", SETTINGS)
def test_inference_needs_nothing_but_paths(
    bundle: str, weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dataset_dir": str(data / "images/c0.nii.gz"), "ckpt_path": str(weights[bundle])}
    for name, more in {"paths": {}, "spelled": SETTINGS[bundle]}.items():
        bundle_run(bundle, "inference", monkeypatch=monkeypatch, **options, output_dir=str(tmp_path / name), **more)
    found = segmented(tmp_path / "paths")
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found, segmented(tmp_path / "spelled"))


@pytest.mark.parametrize("bundle", SETTINGS)
def test_evaluation_needs_nothing_but_paths(
    bundle: str, weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dataset_dir": str(data), "ckpt_path": str(weights[bundle])}
    tables = []
    for name, more in {"paths": {}, "spelled": SETTINGS[bundle]}.items():
        place = {"output_dir": str(tmp_path / name)}
        place |= {"prepared_dir": str(tmp_path / name / "prepared")} if bundle.startswith("gynbtnet") else {}
        bundle_run(bundle, "train", "evaluate", monkeypatch=monkeypatch, **options, **place, **more)
        tables.append((tmp_path / name / "metrics.csv").read_text())
    assert tables[0] == tables[1]
    if bundle != "gynbtnet_pretrain":
        np.testing.assert_array_equal(segmented(tmp_path / "paths"), segmented(tmp_path / "spelled"))


@pytest.mark.parametrize(("bundle", "name", "value", "shown"), CONTRADICTIONS)
def test_a_contradiction_is_refused(
    bundle: str,
    name: str,
    value: Any,
    shown: str,
    weights: dict[str, Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    options = {"dataset_dir": str(data / "images"), "ckpt_path": str(weights[bundle]), "output_dir": str(tmp_path)}
    with pytest.raises(Exception) as caught:  # noqa: PT011  (monai.bundle wraps it)
        bundle_run(bundle, "inference", monkeypatch=monkeypatch, **options, **{name: value})
    with pytest.raises(CaseError, match=shown + ".*--force_settings True"):
        raise refusal(caught.value)
    assert not list(tmp_path.iterdir())


def test_who_means_it_passes_force_settings(
    weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dataset_dir": str(data / "images/c0.nii.gz"), "ckpt_path": str(weights["organ_pocketnet"])}
    for name, more in {"own": {}, "forced": {"spacing": [2.0, 2.0, 5.0], "force_settings": True}}.items():
        more |= {"output_dir": str(tmp_path / name)}
        bundle_run("organ_pocketnet", "inference", monkeypatch=monkeypatch, **options, **more)
    assert (segmented(tmp_path / "forced") != segmented(tmp_path / "own")).any()


@pytest.mark.parametrize(
    ("bundle", "other"),
    [("organ_pocketnet", "tumor_pocketnet"), ("gynbtnet_brachytherapy", "gynbtnet_finetune")],
)
def test_weights_of_another_bundle_are_refused(
    bundle: str, other: str, weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dataset_dir": str(data / "images"), "ckpt_path": str(weights[other]), "output_dir": str(tmp_path)}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle_run(bundle, "inference", monkeypatch=monkeypatch, **options)
    with pytest.raises(CaseError, match=f'bundle "{bundle}" for "{other}"'):
        raise refusal(caught.value)


def labels_loading(bundle: str, weights: Path, **edited: Any) -> torch.nn.Module:
    """What MONAI Label does: the edited configuration's network, then the weights with strict=False."""
    network = parsed(bundle, "inference", ckpt_path=str(weights), **edited).get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    return network


@pytest.mark.parametrize(
    ("bundle", "forgotten"),
    [(bundle, name) for bundle in SETTINGS for name in ("spacing", "norm", "orientation") if name in SETTINGS[bundle]],
)
def test_a_configuration_edited_by_half_is_refused(bundle: str, forgotten: str, weights: dict[str, Path]) -> None:
    """Plain values written over the configuration's expressions, but for one that stays at the paper's."""
    labels_loading(bundle, weights[bundle], settings={}, **SETTINGS[bundle])
    edited = {name: value for name, value in SETTINGS[bundle].items() if name != forgotten}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        labels_loading(bundle, weights[bundle], settings={}, **edited)
    with pytest.raises(CaseError, match=f"{forgotten}|another architecture"):
        raise refusal(caught.value)


@pytest.mark.parametrize("bundle", [name for name in SETTINGS if name != "gynbtnet_pretrain"])
def test_folds_of_other_settings_are_no_ensemble(
    bundle: str, weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fold, spacing in enumerate(([6.0, 6.0, 6.0], [5.0, 5.0, 5.0])):
        made(bundle, tmp_path / f"fold{fold}/final.pt", spacing=spacing)
    options = {"dataset_dir": str(data / "images"), "folds_dir": str(tmp_path), "folds": 2}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle_run(bundle, "inference", "ensemble", monkeypatch=monkeypatch, **options, output_dir=str(tmp_path / "o"))
    with pytest.raises(
        CaseError, match=r"fold1/final.pt: they were trained with another spacing than .*fold0/final.pt"
    ):
        raise refusal(caught.value)


def test_folds_of_one_training_need_nothing_but_paths(
    weights: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fold in range(2):
        made("organ_pocketnet", tmp_path / f"fold{fold}/final.pt", seed=fold)
    options = {"dataset_dir": str(data / "images/c0.nii.gz"), "folds_dir": str(tmp_path), "folds": 2}
    for name, more in {"paths": {}, "spelled": POCKET}.items():
        place = {"output_dir": str(tmp_path / name)}
        bundle_run("organ_pocketnet", "inference", "ensemble", monkeypatch=monkeypatch, **options, **more, **place)
    np.testing.assert_array_equal(segmented(tmp_path / "paths"), segmented(tmp_path / "spelled"))


SHORT = {"epochs": 1, "val_interval": 1, "tracker": "none"}


@pytest.mark.parametrize("bundle", ["organ_pocketnet", "gynbtnet_brachytherapy"])
def test_a_training_goes_on_at_the_settings_of_the_weights_in_its_folder(
    bundle: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_settings(made(bundle, tmp_path / "models/model.pt"))
    places = {"dataset_dir": str(data), "ckpt_dir": str(tmp_path / "models"), "output_dir": str(tmp_path / "out")}
    if bundle == "gynbtnet_brachytherapy":
        places |= {"prepared_dir": str(tmp_path / "prepared"), "pretrained": str(tmp_path / "models/model.pt")}
    more = {"iterations": 1} if bundle == "gynbtnet_brachytherapy" else {}
    bundle_run(bundle, "train", monkeypatch=monkeypatch, **places, **SHORT, **more)
    assert read_settings(tmp_path / "out/final.pt") == read_settings(tmp_path / "models/model.pt") == before


@pytest.mark.parametrize("bundle", SETTINGS)
def test_train_of_monai_label_has_the_network_of_the_weights(
    bundle: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    """Its Train takes `network` from train.json and loads model.pt into it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.pt").write_bytes(weights[bundle].read_bytes())
    content = torch.load(weights[bundle], weights_only=True)
    network = parsed(bundle, "train", bundle_root=str(tmp_path)).get_parsed_content("network")
    network.load_state_dict(content, strict=False)
    assert all(torch.equal(value, content[name]) for name, value in network.state_dict().items())
    with pytest.raises(Exception) as caught:  # noqa: PT011
        parsed(bundle, "train", bundle_root=str(tmp_path), spacing=[9.0, 9.0, 9.0]).get_parsed_content("network")
    assert "spacing [9.0, 9.0, 9.0] for" in str(refusal(caught.value))


def test_an_organ_network_of_another_spacing_is_no_first_stage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organ = made("organ_pocketnet", tmp_path / "organ.pt", spacing=[3.0, 3.0, 5.0])
    places = {"dataset_dir": str(data), "ckpt_dir": str(tmp_path / "models"), "output_dir": str(tmp_path / "out")}
    options = {**places, **SHORT, **POCKET, "organ_weights": str(organ)}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle_run("tumor_pocketnet", "train", monkeypatch=monkeypatch, **options)
    with pytest.raises(CaseError, match=r"organ.pt: .*spacing \[3.0, 3.0, 5.0\], not \[4.0, 4.0, 5.0\]"):
        raise refusal(caught.value)
    assert not os.path.exists(tmp_path / "models")


def test_pretraining_in_another_orientation_is_no_start(weights: dict[str, Path], tmp_path: Path) -> None:
    values = {**SETTINGS["gynbtnet_finetune"], "ckpt_dir": str(tmp_path)}
    turned = parsed("gynbtnet_finetune", "train", **{**values, "orientation": "LPS"}).get_parsed_content("network_def")
    with pytest.raises(CaseError, match="trained with orientation RAS, not LPS"):
        load_pretrained(turned, weights["gynbtnet_pretrain"])
    own = parsed("gynbtnet_finetune", "train", **values).get_parsed_content("network_def")
    report = load_pretrained(own, weights["gynbtnet_pretrain"])
    assert report is not None
    assert report.loaded
