"""`three_stages`: real CT through pretraining, 104 structures, and target with organs at risk, at a small size."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from custom_networks import fold_split, read_datalist
from scripts.experiments.evaluate.evaluate import evaluate
from scripts.experiments.evidence.ct_samples import (
    openkbp_parts,
    samples_folder,
    write_brachytherapy,
    write_finetuning,
    write_pretraining,
)
from scripts.experiments.evidence.reconstruction import reconstruction_pictures
from scripts.experiments.training.bundle_run import run_bundle
from scripts.experiments.training.fold import Fold

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
PRETRAIN, FINETUNE, BRACHY = (BUNDLES / f"gynbtnet_{stage}" for stage in ("pretrain", "finetune", "brachytherapy"))


@dataclass
class Size:
    """How large everything is; the defaults are for a CPU, `Size(variant="base", …)` for a GPU.

    Args:
        variant: of GynBTNet.
        spacing: mm, of stages 1 and 3 (OpenKBP's grid is about 4.5 x 4.5 x 2.5 mm).
        fine_spacing: mm, of stage 2.
        patch: voxels per axis of stages 1 and 3, a multiple of 16.
        fine_patch: the same of stage 2, whose 105 classes cost more per voxel and need more steps.
        batch: samples per step of stage 1; stages 2 and 3 have 2.
        decoder_width: of the light decoder.
        steps: optimizer steps of each stage.
        learning_rates: of each stage; those of the paper are for a thousand epochs.
        more: further overrides of all stages.
    """

    variant: str = "small"
    spacing: float = 4.0
    fine_spacing: float = 4.0
    patch: int = 48
    fine_patch: int = 32
    batch: int = 4
    decoder_width: int = 64
    steps: tuple[int, int, int] = (120, 1000, 300)
    learning_rates: tuple[float, float, float] = (1e-3, 1e-3, 1e-3)
    more: dict[str, Any] = field(default_factory=dict)

    def overrides(self, stage: int) -> dict[str, Any]:
        """What differs from the bundle's `train.json`; stages count from 1. Ten epochs, validated once, at the end."""
        fine, patch = (self.fine_spacing, self.fine_patch) if stage == 2 else (self.spacing, self.patch)
        common: dict[str, Any] = {
            "variant": self.variant,
            "spacing": [fine] * 3,
            "patch_size": [patch] * 3,
            "epochs": 10,
            "warmup_epochs": 1,
            "val_interval": 10,
            "iterations": max(1, self.steps[stage - 1] // 10),
            "learning_rate": self.learning_rates[stage - 1],
            "num_workers": 0,
            "tracker": "none",
        }
        if stage == 1:
            common |= {"batch_size": self.batch, "max_batch_per_gpu": self.batch, "decoder_width": self.decoder_width}
        else:
            common |= {"fold": -1, "val_overlap": 0.25, "validate#dataset#data": "$@split[1][:1]"}
        return common | self.more


def write_overrides(file: Path, values: dict[str, Any]) -> str:
    """Write an override file and give its path, for --config_file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=4) + "\n", encoding="utf-8")
    return str(file)


def train_stage(
    bundle: Path,
    datalist: Path,
    folder: Path,
    values: dict[str, Any],
    prepared: Path | None = None,
    retrain: bool = False,
) -> Path:
    """Train a stage, which prepares its data, or take the weights of an earlier run with equal cases, settings and code.

    Args:
        bundle: its folder.
        datalist: of the stage.
        folder: for everything that is written.
        values: overrides of `train.json`.
        prepared: folder of the prepared arrays; default inside `folder`, shared by runs that name the same.
        retrain: train anew where the folder holds a training from other inputs.

    Returns:
        The weights of the last epoch.

    Raises:
        CaseError: the folder holds a training from other inputs, or the training failed.
    """
    fold = values.get("fold", 0)
    training, validation = fold_split(read_datalist(datalist), fold)
    write_overrides(folder / "size.json", {key: values[key] for key in ("spacing", "patch_size", "variant")})
    changed = {key: value for key, value in values.items() if key != "fold"}
    config = write_overrides(
        folder / "overrides.json", {**changed, "prepared_dir": str(prepared or folder / "prepared")}
    )
    stage = Fold(
        bundle,
        [config],
        {key: values[key] for key in ("pretrained",) if key in values},
        datalist,
        fold,
        training,
        validation,
        folder,
    )
    stage.train(retrain)
    return stage.weights("final")


def three_stages(
    output: str = "three_stages",
    samples: str = "",
    train: int = 10,
    test: int = 5,
    seed: int = 0,
    scale: float = 1.0,
    retrain: bool = False,
) -> int:
    """Take real CT through all three stages at a small size, and show each result.

    Stage 1 learns from OpenKBP images and abdominal CT without labels, and draws what it reconstructs. Stage 2 learns 104
    classes from the one CT that has them, and is measured on that same CT. Stage 3 learns a target and organs at risk
    from OpenKBP, in the places of HR-CTV and OARs, and is measured on held-out patients. This shows that the path from a
    real image to a result works; head-and-neck structures say nothing of accuracy for uterus, cervix or HR-CTV.

    Args:
        output: folder for everything that is made.
        samples: folder of real samples; default the variable GYN_SAMPLES.
        train: labelled patients of stage 3.
        test: held-out patients of stage 3, which stage 1 does not see either.
        seed: of the choice of patients and of training.
        scale: of the number of steps; 1 takes about half an hour on two CPU cores.
        retrain: train stages anew that the output holds from other patients or settings; else they are refused.

    Returns:
        0; 1 if the reconstruction is not better than every cell's mean, or a prediction is missing.
    """
    source, folder = samples_folder(samples), Path(output).resolve()
    size = Size(more={"seed": seed})
    size.steps = tuple(max(10, round(scale * n)) for n in size.steps)  # type: ignore[assignment]
    learning, held_out, rest = openkbp_parts(source, train, test, seed)
    lists = (
        write_pretraining(source, [*learning, *rest], folder / "stage1"),
        write_finetuning(source, folder / "stage2"),
        write_brachytherapy(source, learning, held_out, folder / "stage3"),
    )
    clock = [time.monotonic()]
    weights = train_stage(PRETRAIN, lists[0], folder / "stage1", size.overrides(1), retrain=retrain)
    clock.append(time.monotonic())
    gain = reconstruction_pictures(
        str(folder / "stage1" / "overrides.json"), str(weights), str(lists[0]), str(folder / "stage1" / "pictures")
    )
    missing = 0
    for number, bundle in ((2, FINETUNE), (3, BRACHY)):
        place = folder / f"stage{number}"
        values = size.overrides(number) | {"pretrained": str(weights)}
        weights = train_stage(bundle, lists[number - 1], place, values, retrain=retrain)
        clock.append(time.monotonic())
        run_bundle(
            bundle,
            ["configs/inference.json", str(place / "size.json")],
            {
                "dataset_dir": str(lists[number - 1]),
                "ckpt_path": str(weights),
                "output_dir": str(place / "predictions"),
            },
            log=place / "inference.log",
        )
        missing += evaluate(str(lists[number - 1]), str(place / "predictions"), str(place / "evaluation"), workers=1)
    minutes = [(b - a) / 60 for a, b in pairwise(clock)]
    print("minutes of training (stages 2 and 3 with what went before): " + ", ".join(f"{m:.1f}" for m in minutes))
    return int(gain != 0 or missing > 0)
