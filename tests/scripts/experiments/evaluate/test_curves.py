"""Learning curves from what trainings leave: the log, and the record of the weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.evaluate.curves import read_history, training_folders, weights_of

BEGIN = "x - ignite.engine.engine.MixedPrecisionTrainer - INFO - Engine run resuming from iteration 0, epoch {} until 4 epochs\n"


def epoch(number: int, loss: float, dice: str = "") -> str:
    text = f"x - INFO - Epoch[{number}] Metrics -- train_loss: {loss} \n"
    return text + (f"x - INFO - Epoch[{number}] Metrics -- val_dice: {dice} \n" if dice else "")


def test_a_resumed_training_goes_on_and_a_new_one_starts_over(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(BEGIN.format(0) + epoch(1, 0.9) + epoch(2, 0.8, "0.5") + epoch(3, 0.7))
    assert read_history(tmp_path) == {"train_loss": {1: 0.9, 2: 0.8, 3: 0.7}, "val_dice": {2: 0.5}}
    log.write_text(log.read_text() + BEGIN.format(2) + epoch(3, 0.6, "1e-05"))
    assert read_history(tmp_path) == {"train_loss": {1: 0.9, 2: 0.8, 3: 0.6}, "val_dice": {2: 0.5, 3: 1e-5}}
    log.write_text(log.read_text() + BEGIN.format(0) + epoch(1, 0.4))
    assert read_history(tmp_path) == {"train_loss": {1: 0.4}}


def test_which_trainings(tmp_path: Path) -> None:
    for name in ("fold10", "fold2"):
        (tmp_path / "cv" / name).mkdir(parents=True)
        (tmp_path / "cv" / name / "log.txt").touch()
    assert list(training_folders(tmp_path / "cv/out_of_fold")) == ["fold2", "fold10"]
    assert training_folders(tmp_path / "cv/others") == {}
    assert list(training_folders(tmp_path, [str(tmp_path / "cv")])) == ["cv, fold2", "cv, fold10"]
    assert list(training_folders(tmp_path, [str(tmp_path / "cv/fold2")])) == ["fold2"]
    with pytest.raises(CaseError, match=r"neither log\.txt nor"):
        training_folders(tmp_path, [str(tmp_path)])


def test_which_weights(tmp_path: Path) -> None:
    assert weights_of({"fold0": tmp_path}) == {}
    record = {"evaluation": {"checkpoint": "final", "weights": "0123456789abcdef"}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert weights_of({"fold0": tmp_path}) == {"weights": "fold0 final (0123456789ab)"}
