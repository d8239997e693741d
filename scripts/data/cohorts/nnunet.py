"""nnU-Net's raw format, which is how people share data: what its files are called and what its JSON files hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_networks.data.datalist import Case, image_stem, read_json, read_labels
from custom_networks.errors import CaseError

DATASET, SPLITS = "dataset.json", "splits_final.json"
ENDING = ".nii.gz"
# what nnU-Net normalises by: CT by the statistics of the data set, everything else by each image's own
CHANNELS = {"CT": "CT", "MR": "MRI"}


@dataclass(frozen=True)
class RawCase:
    """A case of a raw data set: its name, its image of one channel, its label map or None, and whether it is held out."""

    name: str
    image: Path
    label: Path | None
    held_out: bool


@dataclass(frozen=True)
class RawDataset:
    """A raw data set.

    Args:
        name: of the data set.
        modality: `MR` or `CT`; empty where dataset.json does not say.
        labels: value to name.
        regions: name to values, where labels overlap.
        cases: what lies in the folder.
        patients: case to patient, where dataset.json says so.
    """

    name: str
    modality: str
    labels: Mapping[int, str]
    regions: Mapping[str, Sequence[int]]
    cases: Sequence[RawCase]
    patients: Mapping[str, str] = field(default_factory=dict)


def read_raw(folder: Path, channel: int | None = None) -> RawDataset:
    """Read a data set of nnU-Net (version 1 or 2) or of the Medical Decathlon.

    Args:
        folder: with dataset.json.
        channel: of images with several; None where there is one.

    Raises:
        CaseError: dataset.json is missing or not of that kind, or the channel is not there.
    """
    where = f"data set {folder}"
    content = read_json(folder / DATASET, where, f"pass the folder that holds {DATASET}")
    if not isinstance(content, dict) or "labels" not in content:
        raise CaseError(where, f"{DATASET} has no 'labels'", "pass a data set of nnU-Net or of the Medical Decathlon")
    channels = content.get("channel_names") or content.get("modality") or {"0": ""}
    if not isinstance(channels, dict):
        channels = {"0": str(channels)}
    chosen = _channel(where, channels, channel)
    labels, regions = _labels(where, content["labels"])
    if isinstance(content.get("training"), list):
        cases = _listed(where, folder, content)
    else:
        cases = _found(where, folder, str(content.get("file_ending", ENDING)), chosen)
    name = str(content.get("name") or re.sub(r"^(Dataset|Task)\d+_", "", folder.resolve().name))
    patients = content.get("patients", {})
    return RawDataset(name, _modality(str(channels[str(chosen)])), labels, regions, cases, patients)


def _channel(where: str, channels: Mapping[str, Any], wanted: int | None) -> int:
    if wanted is None and len(channels) > 1:
        shown = ", ".join(f"{number} {name}" for number, name in channels.items())
        raise CaseError(where, f"its images have {len(channels)} channels ({shown})", "choose one with --channel")
    chosen = 0 if wanted is None else wanted
    if str(chosen) not in channels:
        raise CaseError(where, f"it has no channel {chosen}", f"choose one of {', '.join(channels)}")
    return chosen


def _modality(channel: str) -> str:
    if channel.upper() == "CT":
        return "CT"
    return "MR" if re.search(r"MR|T1|T2|FLAIR|ADC|DWI|DCE", channel.upper()) else ""


def _labels(where: str, labels: object) -> tuple[dict[int, str], dict[str, list[int]]]:
    """Names of values, and regions where a name stands for several of them."""
    if not isinstance(labels, dict) or not any(isinstance(value, list) for value in labels.values()):
        names = read_labels(labels, where)
        regions: dict[str, list[int]] = {}
    else:
        whole = {str(name): value if isinstance(value, list) else [value] for name, value in labels.items()}
        values = sorted({int(value) for group in whole.values() for value in group} | {0})
        single = {group[0]: name for name, group in whole.items() if len(group) == 1}
        names = {value: single.get(value, "background" if value == 0 else f"label {value}") for value in values}
        regions = {name: [int(value) for value in group] for name, group in whole.items() if group != [0]}
    if any(name.lower() == "ignore" for name in names.values()):
        raise CaseError(
            where, "its label 'ignore' marks voxels that nobody annotated", "leave out such cases; the bundles cannot"
        )
    return {**({} if 0 in names else {0: "background"}), **names}, regions


def _found(where: str, folder: Path, ending: str, channel: int) -> list[RawCase]:
    """Cases by their file names: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz."""
    cases, tail = [], f"_{channel:04d}{ending}"
    for part, held_out in (("Tr", False), ("Ts", True)):
        for image in sorted((folder / f"images{part}").glob(f"*{tail}")):
            if image.name.startswith("."):
                continue
            name = image.name.removesuffix(tail)
            label = folder / f"labels{part}" / f"{name}{ending}"
            cases.append(RawCase(name, image, label if label.is_file() else None, held_out))
    if not cases:
        raise CaseError(
            where, f"imagesTr holds no *{tail}", "pass the folder of a raw data set, as nnUNet_raw holds it"
        )
    return cases


def _listed(where: str, folder: Path, content: Mapping[str, Any]) -> list[RawCase]:
    """Cases as the Medical Decathlon lists them."""
    cases = []
    for key, held_out in (("training", False), ("test", True), ("testing", True)):
        for entry in content.get(key) or ():
            pair = {"image": entry} if isinstance(entry, str) else entry
            if not isinstance(pair, dict) or not isinstance(pair.get("image"), str):
                raise CaseError(where, f"{DATASET} has an entry of '{key}' without an image", "correct it")
            label = folder / pair["label"] if pair.get("label") else None
            cases.append(RawCase(image_stem(pair["image"]), folder / pair["image"], label, held_out))
    if not cases:
        raise CaseError(where, f"{DATASET} lists no case", "pass a complete data set")
    return cases


def read_splits(file: Path, cases: Sequence[str]) -> dict[str, int]:
    """The fold that validates each case, from splits_final.json.

    Args:
        file: list of `{"train": […], "val": […]}`, a fold each.
        cases: names of the training cases.

    Raises:
        CaseError: it is no such list, or a case is validated by none or several folds.
    """
    where = f"splits {file}"
    content = read_json(file, where, f"pass the {SPLITS} of nnUNet_preprocessed, or leave --splits out")
    if not isinstance(content, list) or not all(
        isinstance(one, dict) and isinstance(one.get("val"), list) for one in content
    ):
        raise CaseError(where, "it is not a list of 'train' and 'val'", f"pass a {SPLITS} that nnU-Net wrote")
    found: dict[str, int] = {}
    for number, fold in enumerate(content):
        for name in fold["val"]:
            if name in found:
                raise CaseError(
                    where, f"{name} is validated by folds {found[name]} and {number}", "leave --splits none"
                )
            found[str(name)] = number
    missing = next((name for name in cases if name not in found), None)
    if missing is not None:
        raise CaseError(where, f"no fold validates {missing}", "pass the splits of this data set, or --splits none")
    return {name: found[name] for name in cases}


def splits(cases: Sequence[Case], names: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """The content of splits_final.json for our folds, in the order of their numbers.

    Args:
        cases: of training.
        names: case to its name in the data set.
    """
    numbers = sorted({case.fold for case in cases if case.fold is not None})
    return [
        {
            "train": sorted(names[case.name] for case in cases if case.fold != number),
            "val": sorted(names[case.name] for case in cases if case.fold == number),
        }
        for number in numbers
    ]
