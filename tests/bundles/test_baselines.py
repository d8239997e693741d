"""Networks that a study compares with: each trains, is scored and segments through the bundle's own configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
BASELINES = ("unet", "dynunet", "segresnet", "swin_unetr")
TINY: dict[str, Any] = {
    "spacing": [2.0, 2.0, 2.0],
    "epochs": 1,
    "iterations": 1,
    "batch_size": 1,
    "val_interval": 1,
    "num_workers": 0,
    "cache_rate": 0.0,
    "tracker": "none",
}
BUNDLES_COMPARED = ("organ_pocketnet", "gynbtnet_brachytherapy")
EACH = [(bundle, name) for bundle in BUNDLES_COMPARED for name in BASELINES]
# one of each kind is enough for every day
QUICK = {("organ_pocketnet", "segresnet"), ("gynbtnet_brachytherapy", "unet")}


def small(name: str) -> list[int]:
    """A patch of which all strides leave more than one voxel, which instance norm wants."""
    return [64, 64, 32] if name in {"dynunet", "swin_unetr"} else [32, 32, 16]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, cases = tmp_path_factory.mktemp("data"), []
    rng = np.random.default_rng(0)
    for i in range(2):
        label = np.zeros((24, 24, 20), np.uint8)
        label[6:18, 6:18, 5:15], label[9:12, 9:12, 8:12] = 1, 2
        for kind, voxels in (("image", rng.normal(0, 1, label.shape).astype(np.float32) + label), ("label", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), folder / f"{kind}{i}.nii.gz")
        cases.append(
            {"case": f"c{i}", "patient": f"c{i}", "image": f"image{i}.nii.gz", "label": f"label{i}.nii.gz", "fold": i}
        )
    (folder / "datalist.json").write_text(json.dumps({"training": cases, "testing": []}))
    return folder


def run(bundle: str, names: list[str], options: dict[str, Any]) -> None:
    files = [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]
    known = {key for file in files for key in json.loads(Path(file).read_text())}
    values = {key: value for key, value in options.items() if key in known}
    kind = "inference" if names[0] == "inference" else "train"
    workflow = ConfigWorkflow(
        files, meta_file=None, workflow_type=kind, logging_file=False, bundle_root=str(BUNDLES / bundle), **values
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.mark.parametrize(
    ("bundle", "name"), [pytest.param(*one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in EACH]
)
def test_a_baseline_trains_is_scored_and_segments(bundle: str, name: str, data: Path, tmp_path: Path) -> None:
    options = TINY | {
        "patch_size": small(name),
        "dataset_dir": str(data),
        "ckpt_dir": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
        "val_overlap": 0.0,
    }
    run(bundle, ["train", name], options)
    weights = torch.load(tmp_path / "out/final.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    options |= {"ckpt_path": str(tmp_path / "out/final.pt"), "output_dir": str(tmp_path / "scored")}
    run(bundle, ["train", name, "evaluate"], options)
    assert len((tmp_path / "scored/val_dice_raw.csv").read_text().splitlines()) == 2
    options |= {"dataset_dir": str(data / "image0.nii.gz"), "output_dir": str(tmp_path / "made")}
    run(bundle, ["inference", name], options)
    pred, image = nib.load(tmp_path / "made/image0_pred.nii.gz"), nib.load(data / "image0.nii.gz")
    assert pred.shape == image.shape
    np.testing.assert_allclose(pred.affine, image.affine, atol=1e-4)


@pytest.mark.parametrize(("bundle", "name"), EACH)
def test_a_baseline_takes_the_patch_of_the_bundle(bundle: str, name: str) -> None:
    """At the size that the paper trains with, on fake tensors: shapes without memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / f"{config}.json") for config in ("train", name)])
    classes = 2 if bundle == "organ_pocketnet" else parser.get_parsed_content("num_classes")
    network, patch = parser.get_parsed_content("network_def").eval(), parser.get_parsed_content("patch_size")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert network(torch.empty(1, 1, *patch)).shape == (1, classes, *patch)


def test_unet_doubles_its_features_and_is_else_the_pocketnet() -> None:
    files = [str(BUNDLES / "organ_pocketnet/configs" / f"{name}.json") for name in ("train", "unet")]
    pocket, unet = ConfigParser(), ConfigParser()
    pocket.read_config(files[0])
    unet.read_config(files)
    networks = [parser.get_parsed_content("network_def") for parser in (pocket, unet)]
    assert type(networks[0]) is type(networks[1])
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts[1] > 5 * counts[0]
    assert unet.get("features") == [32, 64, 128, 256]
