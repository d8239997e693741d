"""Datalists of the three stages from real CT samples: what `three_stages` and `pretraining_gain` train on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from custom_networks import CaseError, read_volume
from scripts.core.datalist import Case, Datalist, write_datalist
from scripts.core.files import write_nifti
from scripts.data.cohorts.totalsegmentator import CLASSES_V1

REPO = Path(__file__).resolve().parents[3]
# both parotids are one class: flips exchange left and right, and stage 3 has one target and four organs at risk
OPENKBP = {0: "background", 1: "PTV70", 2: "Brainstem", 3: "SpinalCord", 4: "Parotids", 5: "Mandible"}
MERGED = np.array([0, 1, 2, 3, 4, 4, 5], np.uint8)


def samples_folder(samples: str = "") -> Path:
    """The folder of real samples: the argument, else the variable GYN_SAMPLES, else its default beside the repository.

    Raises:
        CaseError: it does not exist.
    """
    folder = Path(samples or os.environ.get("GYN_SAMPLES", REPO.parent / "shared" / "samples"))
    if not (folder / "openkbp" / "index.json").is_file():
        raise CaseError(
            "samples",
            f"{folder} is no folder of the public samples that docs/evidence.md was made with (no openkbp/index.json), "
            "which are not part of the repository",
            "pass yours with --samples or the variable GYN_SAMPLES; `python -m scripts demo` needs none",
        )
    return folder


def openkbp_parts(samples: Path, train: int, test: int, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Divide the OpenKBP cases, one per patient: labelled training, test, and the rest, which only pretraining sees.

    Args:
        samples: see `samples_folder`.
        train: cases that have every structure.
        test: further ones.
        seed: of the shuffle.

    Returns:
        Names of training, test and other cases.

    Raises:
        CaseError: there are fewer complete cases than asked for.
    """
    index = json.loads((samples / "openkbp" / "index.json").read_text(encoding="utf-8"))
    names = set(index["labels"].values()) - {"background"}
    complete = [case["case"] for case in index["cases"] if names <= set(case["present"])]
    if len(complete) < train + test:
        raise CaseError("openkbp", f"{len(complete)} complete cases, {train + test} wanted", "ask for fewer")
    order = [complete[i] for i in np.random.default_rng(seed).permutation(len(complete))]
    chosen = set(order[: train + test])
    rest = [case["case"] for case in index["cases"] if case["case"] not in chosen]
    return order[:train], order[train : train + test], rest


def write_pretraining(samples: Path, names: Sequence[str], folder: Path) -> Path:
    """Stage 1: OpenKBP images and the abdominal CTs, without labels; every tenth OpenKBP case validates (fold 0)."""
    cases = [
        Case(name, {"image": str(_image(samples, name))}, name, int(i % 10 != 0))
        for i, name in enumerate(sorted(names))
    ]
    for name in ("ct_abd_crlm1004_unlabelled", "ct_abdpelvis_totalseg"):
        image = samples / "cases" / name / "image.nii.gz"
        if image.is_file():
            cases.append(Case(name, {"image": str(image)}, name, 1))
    return write_datalist(folder / "datalist.json", Datalist("unlabelled CT", "CT", training=cases))


def write_finetuning(samples: Path, folder: Path) -> Path:
    """Stage 2: the one CT with all 104 classes of TotalSegmentator v1; it trains, validates and tests."""
    source = samples / "cases" / "ct_abdpelvis_totalseg"
    case = Case(source.name, {key: str(source / f"{key}.nii.gz") for key in ("image", "label")}, source.name)
    labels = dict(enumerate(("background", *CLASSES_V1)))
    tested = replace(case, name=f"{case.name}_trained_on")
    return write_datalist(folder / "datalist.json", Datalist("one CT", "CT", labels, [replace(case, fold=0)], [tested]))


def write_brachytherapy(samples: Path, train: Sequence[str], test: Sequence[str], folder: Path) -> Path:
    """Stage 3: OpenKBP's target and organs at risk in the places of HR-CTV and organs at risk; writes merged labels."""
    cases = {name: _labelled(samples, name, folder) for name in (*train, *test)}
    training = [replace(cases[name], fold=i % 5) for i, name in enumerate(train)]
    return write_datalist(
        folder / "datalist.json",
        Datalist("OpenKBP planning CT", "CT", OPENKBP, training, [cases[name] for name in test]),
    )


def _image(samples: Path, name: str) -> Path:
    return samples / "openkbp" / "images" / f"{name}.nii.gz"


def _labelled(samples: Path, name: str, folder: Path) -> Case:
    label, affine = read_volume(samples / "openkbp" / "labels" / f"{name}.nii.gz", name, "label")
    file = folder / "labels" / f"{name}.nii.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(file, MERGED[np.asarray(label, np.int64)], affine)
    files = {"image": str(_image(samples, name)), "label": f"labels/{name}.nii.gz"}
    return Case(name, files, name, folder=folder)
