"""A bundle runs alone, so blocks repeat among bundles: they are equal but for the differences that this table names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
ALL = frozenset(path.parent.name for path in BUNDLES.glob("*/configs"))
POCKETS = ("organ_pocketnet", "tumor_pocketnet")
STAGES = ("gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")
# files that are the same in all bundles that have them
EQUAL = {
    "early_stop": ALL,
    "inference_trt": STAGES[1:],
    "mlflow": ALL,
    "ensemble": ALL - {"gynbtnet_pretrain"},  # a mean of reconstructions is nothing that anyone wants
    "ensemble_evaluate": ALL - {"gynbtnet_pretrain"},
    "multi_gpu_train": STAGES[1:],  # pretraining shares one batch among the ranks; the tumor loads organ weights
    "multi_gpu_evaluate": STAGES[1:],  # reconstructions have no labels to check
    "no_pretraining": STAGES[1:],
    "variant_base": STAGES,
    "variant_small": STAGES,
    **dict.fromkeys(("anisotropic", "default_column", "dense", "multi_gpu_evaluate", "toolkit"), POCKETS),
}
# ids that two bundles do not share or that differ by intent; all others are equal
ONE_HOT = {f"validate#postprocessing#transforms#EnsureTyped#{key}" for key in ("_target_", "dtype", "to_onehot")}
ORGAN = {f"organ_{key}" for key in ("kernel_sizes", "strides", "features", "deep_supervision")}
TWO_STAGES = {"used_settings", "checked_options", "network_def", "contain", *ORGAN}
ORGAN_CHANNEL = {"organ_source", "loaded_keys", "label_transforms", "resampled_label_transforms", "concat_transforms"}
METRICS = [f"validate#additional_metrics#val_{name}#metric_fn" for name in ("hd95_mm", "asd_mm", "missed")]
MEANT: dict[tuple[str, str], dict[str, set[str]]] = {
    STAGES[1:]: {
        # classes and grid are the data's; six classes are left as one-hot, 105 would not fit; 105 tell left from right
        "train": {"num_classes", "spacing", "patch_size", "val_interval", "val_cases"}
        | {"train#random_transforms#RandFlipd", "validate#key_metric#val_dice#metric_fn#num_classes", *ONE_HOT},
        "evaluate": {*ONE_HOT, "validate#additional_metrics"}
        | {f"validate#handlers#MetricsSaver#{key}" for key in ("metrics", "metric_details")},
        "inference": {"num_classes", "spacing", "patch_size"},
        "small": {"spacing", "patch_size"},
    },
    POCKETS: {
        "train": TWO_STAGES
        | ORGAN_CHANNEL
        | {"organ_weights", "tumor_value", "initialize", "loss#network", "optimizer#params"}
        | {"resampled_keys", "resample_modes", "deterministic_transforms", "load_transforms", "resample_transforms"}
        | {"intensity_transforms", "train#preprocessing#transforms", "validate#preprocessing#transforms"}
        | {f"train#random_transforms#{name}#keys" for name in ("RandPatchCropd", "RandZoomd", "RandFlipd")}
        | {"train#random_transforms#RandZoomd#mode", "train#random_transforms#RandZoomd#align_corners"}
        | {"train#handlers#RecordTrainingCases#parts"}
        | {"validate#postprocessing#transforms#MaskIntensityd"},
        # the network of two stages returns an organ and a tumor that overlap no longer
        "evaluate": ORGAN_CHANNEL
        | {"validate#inferer", "validate#postprocessing#transforms"}
        | {f"{metric}#include_background" for metric in (*METRICS, "validate#key_metric#val_dice#metric_fn")},
        "inference": TWO_STAGES | {"inferer#_target_", "inferer#contain", "postprocessing#transforms"},
        "multi_gpu_train": {"initialize"},
        "small": {"epochs", "val_interval"},
        "demonstration": {"epochs"},
        "inference_trt": {"network"},  # the inferer calls each stage by itself
    },
}
# of one bundle, training and inference share every id but these
BETWEEN_FILES = {"imports", "settings", "output_dir", "num_workers", "checked_options", "initialize", "run"}


def content(bundle: str, file: str) -> Any:
    """A configuration, with the bundle's name taken out of it."""
    return json.loads((BUNDLES / bundle / "configs" / f"{file}.json").read_text("utf-8").replace(bundle, "BUNDLE"))


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Ids that differ, as deep as they go; what only one list has is named by its `_target_`."""
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            deeper = f"{path}#{key}" if path else key
            if key in a and key in b:
                yield from differences(a[key], b[key], deeper)
            else:
                yield deeper
    elif isinstance(a, list) and isinstance(b, list) and a and b and isinstance(a[0], dict) and isinstance(b[0], dict):
        texts = [[json.dumps(item) for item in items] for items in (a, b)]
        for kind, i, j, k, m in difflib.SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
            if kind == "replace" and j - i == m - k:
                for left, right in zip(a[i:j], b[k:m], strict=True):
                    yield from differences(left, right, f"{path}#{left['_target_'].split('.')[-1]}")
            elif kind != "equal":
                yield from (f"{path}#{item['_target_'].split('.')[-1]}" for item in [*a[i:j], *b[k:m]])
    else:
        yield path


def unexplained(a: Any, b: Any, meant: set[str]) -> tuple[set[str], set[str]]:
    """Differences that no entry of the table covers, and entries that cover none."""
    found = set(differences(a, b))
    covers = {entry: {path for path in found if path == entry or path.startswith(f"{entry}#")} for entry in meant}
    return found - set().union(*covers.values()), {entry for entry, paths in covers.items() if not paths}


@pytest.mark.parametrize("file", EQUAL)
def test_files_that_are_the_same_everywhere(file: str) -> None:
    having = {bundle for bundle in ALL if (BUNDLES / bundle / "configs" / f"{file}.json").is_file()}
    texts = {(BUNDLES / bundle / "configs" / f"{file}.json").read_text("utf-8") for bundle in EQUAL[file]}
    assert having >= set(EQUAL[file])
    assert len(texts) == 1


@pytest.mark.parametrize("pair", MEANT, ids="-".join)
def test_two_bundles_differ_in_nothing_else(pair: tuple[str, str]) -> None:
    files = [{path.stem for path in (BUNDLES / bundle / "configs").glob("*.json")} for bundle in pair]
    for file in sorted((files[0] & files[1]) - {"metadata"}):
        a, b = (content(bundle, file) for bundle in pair)
        assert unexplained(a, b, MEANT[pair].get(file, set())) == (set(), set()), file
        # in the same order, so that a reader of one knows the other
        assert [key for key in a if key in b] == [key for key in b if key in a], file


@pytest.mark.parametrize("bundle", sorted(ALL))
def test_training_and_inference_share_their_ids(bundle: str) -> None:
    train, inference = content(bundle, "train"), content(bundle, "inference")
    shared = [key for key in train if key in inference]
    found = unexplained({k: train[k] for k in shared}, {k: inference[k] for k in shared}, BETWEEN_FILES)
    assert found == (set(), set())
    assert len(shared) > 20
    assert shared == [key for key in inference if key in train]


def test_both_stages_of_the_tumor_network_are_the_organ_network() -> None:
    organ, tumor = (content(bundle, "train")["network_def"] for bundle in POCKETS)
    del organ["settings"]
    stage = json.dumps(organ)
    for key in ("features", "kernel_sizes", "strides", "deep_supervision"):
        stage = stage.replace(f"@{key}", f"@organ_{key}")
    assert tumor["organ"] == json.loads(stage)
    assert tumor["tumor"] == {**organ, "in_channels": 2}  # image and organ


def test_differences_are_found() -> None:
    a: dict[str, Any] = {"x": 1, "deep": {"list": [{"_target_": "m.A", "p": 1}, {"_target_": "B"}]}}
    b: dict[str, Any] = {"x": 1, "deep": {"list": [{"_target_": "m.A", "p": 2}, {"_target_": "B"}, {"_target_": "C"}]}}
    assert set(differences(a, b)) == {"deep#list#A#p", "deep#list#C"}
    assert unexplained(a, b, {"deep#list#A", "x"}) == ({"deep#list#C"}, {"x"})
    assert not list(differences(a, a))
