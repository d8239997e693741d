"""Learning curves of the trainings behind predictions, from the logs that they left."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks import CaseError

LOG = "log.txt"
# what MONAI's StatsHandler writes at the end of an epoch
EPOCH = re.compile(r"Epoch\[(\d+)\] Metrics -- (.*)")
VALUE = re.compile(r"(\w+): (-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
START = re.compile(r"Trainer - INFO - Engine run resuming from iteration \d+, epoch (\d+) until")
# name of a metric -> its values by epoch
History = dict[str, dict[int, float]]


def training_folders(predictions: Path, given: Sequence[str] | None = None) -> dict[str, Path]:
    """Folders of the trainings behind predictions.

    Args:
        predictions: folder of the predictions; a cross-validation's lie beside its folds.
        given: folders that the user names instead; each a training, or the output of a cross-validation.

    Returns:
        Name of each training -> its folder.

    Raises:
        CaseError: a folder that the user names holds no log of a training.
    """
    if given is None:
        beside = predictions.resolve().parent
        return {folder.name: folder for folder in _folds(beside)} if predictions.name == "out_of_fold" else {}
    found: dict[str, Path] = {}
    for text in given:
        folder = Path(str(text))
        inside = [folder] if (folder / LOG).is_file() else _folds(folder)
        if not inside:
            raise CaseError(
                f"training {folder}", f"it has neither {LOG} nor fold*/{LOG}", "name the folder of a training"
            )
        name = folder.resolve().name
        found |= {name if one == folder else f"{name}, {one.name}": one for one in inside}
    return found


def _folds(folder: Path) -> list[Path]:
    logs = folder.glob(f"fold*/{LOG}")
    return sorted((log.parent for log in logs), key=lambda path: (len(path.name), path.name))


def read_history(folder: Path) -> History:
    """Metrics of a training by epoch. A training that went on writes after what it had reached; one anew starts over.

    Args:
        folder: of the training.

    Returns:
        `train_loss`, `val_dice` and what else the log names -> epoch -> value.
    """
    history: History = {}
    for line in (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
        begun = START.search(line)
        if begun:
            history = {
                name: {epoch: value for epoch, value in values.items() if epoch <= int(begun[1])}
                for name, values in history.items()
            }
        ended = EPOCH.search(line)
        if ended:
            for name, value in VALUE.findall(ended[2]):
                history.setdefault(name, {})[int(ended[1])] = float(value)
    return {name: values for name, values in history.items() if values}


def weights_of(folders: Mapping[str, Path]) -> dict[str, str]:
    """Which weights predicted, as the records of a cross-validation say: one line of heading -> text; empty without records."""
    found = []
    for name, folder in folders.items():
        try:
            record: Any = json.loads((folder / "training.json").read_text(encoding="utf-8"))
            used = record["evaluation"]
            found.append(f"{name} {used['checkpoint']} ({used['weights'][:12]})")
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {"weights": ", ".join(found)} if found else {}
