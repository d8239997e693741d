"""What a study would run, and what it would cost, before it runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.core.datalist import Case, safe_name
from scripts.core.tables import text_table
from scripts.experiments.study.definition import Study
from scripts.experiments.study.trainings import PlannedArm, predicts
from scripts.experiments.training.bundle_run import bundle_command, shown_command
from scripts.experiments.training.fold import Fold
from scripts.experiments.training.organ_masks import ensemble_run

# weights of the last epoch and of the best one, and weights with two moments of Adam to go on from; float32 each
COPIES = 1 + 1 + 3
HOW = (
    "disk: five copies of the parameters for each training (last, best, and the state with two moments), and label maps as "
    "large as the labels; not the arrays that GynBTNet prepares. "
)
UNTIMED = "time: not known without measuring; --time_steps 3 times three training steps of each arm on this machine."


@dataclass(frozen=True)
class Cost:
    """What one training takes: parameters, optimizer steps, and seconds of a step where it was measured."""

    parameters: int
    steps: int
    step_seconds: float | None


def show_plan(study: Study, planned: Sequence[PlannedArm], sets: Mapping[str, Sequence[Case]], time_steps: int) -> None:
    """Print every command of a study and an estimate of its time and disk.

    Args:
        study: what is to run.
        planned: its stages and arms.
        sets: held-out and external cases by set.
        time_steps: training steps to time of each arm; 0 for none.
    """
    rows = []
    for one in planned:
        print(f"\n# {'stage' if one.arm.stage else 'arm'} {one.arm.name}")
        for fold in one.folds:
            runs = [fold.training_run(), *([fold.evaluation_run(study.checkpoint)] if predicts(one.arm) else [])]
            for files, overrides in runs:
                print(shown_command(fold.bundle, bundle_command(fold.bundle, files, overrides, fold.processes)))
        for name in sets if not one.arm.stage else ():
            place = one.place / safe_name(name)
            files, overrides = ensemble_run(one.folds, place / "cases.json", place / "run", study.checkpoint)
            print(shown_command(one.arm.bundle, bundle_command(one.arm.bundle, files, overrides)))
        rows.append(_row(one, sets, cost_of(one.folds[0], time_steps)))
    print(f"\n{text_table(rows)}\n\n{HOW}")
    if time_steps:
        print("time: training steps alone, measured on this machine; validation, prediction and start-up come on top.")
    else:
        print(UNTIMED)


def _row(one: PlannedArm, sets: Mapping[str, Sequence[Case]], cost: Cost) -> dict[str, Any]:
    seconds = None if cost.step_seconds is None else cost.step_seconds * cost.steps * len(one.folds)
    labels = [case.label for case in one.content.training] if predicts(one.arm) else []
    if not one.arm.stage:
        labels += [case.label for cases in sets.values() for case in cases]
    predictions = sum(Path(label).stat().st_size for label in labels if label and Path(label).is_file())
    return {
        "arm": one.arm.name,
        "trainings": len(one.folds),
        "steps each": cost.steps,
        "million parameters": round(cost.parameters / 1e6, 2),
        "s per step": cost.step_seconds,
        "hours": None if seconds is None else round(seconds / 3600, 3),
        "disk (GB)": round((4 * COPIES * cost.parameters * len(one.folds) + predictions) / 1e9, 3),
    }


def cost_of(fold: Fold, time_steps: int = 0) -> Cost:
    """What one training takes, from the bundle's own configuration.

    Args:
        fold: the training.
        time_steps: steps to time, after one that is not counted; 0 for none.
    """
    import torch
    from monai.bundle import ConfigParser

    content: dict[str, Any] = {}
    files, overrides = fold.training_run()
    for file in files:
        content.update(json.loads((fold.bundle / file).read_text(encoding="utf-8")))
    # ids such as train#trainer#max_epochs are set by the parser
    parser = ConfigParser({**content, "bundle_root": str(fold.bundle)})
    for name, value in overrides.items():
        parser[name.replace("#", "::")] = value
    parser.parse()
    epochs, batch = (int(parser.get_parsed_content(name)) for name in ("epochs", "batch_size"))
    if "iterations" in content:
        steps = epochs * int(parser.get_parsed_content("iterations"))
    else:
        steps = epochs * math.ceil(len(fold.training) / batch)
    if not time_steps:
        with torch.device("meta"):
            network = parser.get_parsed_content("network_def")
        return Cost(sum(p.numel() for p in network.parameters()), steps, None)
    network = parser.get_parsed_content("network")
    size = sum(p.numel() for p in network.parameters())
    return Cost(size, steps, _seconds_of_step(parser, network, batch, time_steps))


def _seconds_of_step(parser: Any, network: Any, batch: int, count: int) -> float | None:
    """Mean seconds of a step on random voxels; None for a network that has a loss of another kind than segmentation."""
    import torch

    if "label_values" not in parser.config:
        return None
    device = torch.device(parser.get_parsed_content("device"))
    loss, optimizer = (parser.get_parsed_content(name) for name in ("loss", "optimizer"))
    channels = next(network.parameters()).shape[1]
    shape = [batch, channels, *map(int, parser.get_parsed_content("patch_size"))]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator).to(device)
    label = torch.randint(0, 2, [batch, 1, *shape[2:]], generator=generator).float().to(device)
    network.train()
    start = 0.0
    for i in range(count + 1):
        if i == 1:
            start = time.perf_counter()
        optimizer.zero_grad()
        value = loss(network(image), label)
        value.backward()
        optimizer.step()
        # waits for a GPU
        value.item()
    return (time.perf_counter() - start) / count
