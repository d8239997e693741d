"""Training that can be killed at any moment and goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import logging
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.dataloader import set_rnd
from monai.engines import Workflow
from monai.handlers import CheckpointSaver, EarlyStopHandler

from custom_networks.datalist import case_name
from custom_networks.errors import CaseError

logger = logging.getLogger(__name__)


class ResumeTraining:
    """Handler that writes the whole state of a training after each epoch and takes it up again.

    Randomness is a function of seed, epoch and rank alone: every epoch starts by seeding Python, numpy, torch and the
    transforms, so the random state need not be stored and an epoch that was cut short is repeated exactly. The file
    is replaced atomically. Attach it last: what the other handlers do at the end of an epoch is then in the file.

    A file written with other training cases is refused: a second fold in the same folder would start from weights that
    saw its validation cases, or end at once.

    Args:
        path: the file; it is apart from `model.pt`, which stays the flat state dict of the best model.
        state: objects with `state_dict` and `load_state_dict`, by name: network, optimizer, scheduler.
        seed: of the training.
        evaluator: engine whose best metric is kept, with its key metric's CheckpointSaver in `saver`.
        saver: the CheckpointSaver of the best model, so that a worse model does not replace it after resuming.
        resume: False starts anew and overwrites the file.
        interval: epochs between two writes; the last epoch is always written.
        early_stop: its patience goes on being counted, and a training that it has ended stays ended.
    """

    def __init__(
        self,
        path: str | Path,
        state: dict[str, Any],
        seed: int = 0,
        evaluator: Workflow | None = None,
        saver: CheckpointSaver | None = None,
        resume: bool = True,
        interval: int = 1,
        early_stop: EarlyStopHandler | None = None,
    ) -> None:
        self.path = Path(path)
        self.state = state
        self.seed = seed
        # MONAI adds its best metric to ignite's state
        self.best: Any = None if evaluator is None else evaluator.state
        self.saver = saver
        self.resume = resume
        self.interval = interval
        self.early_stop = early_stop

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _seed(self, engine: Engine) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        # epochs and ranks get seeds far apart, within numpy's 32 bits
        seed = (self.seed + 1_000_003 * engine.state.epoch + 7919 * rank) % (2**32 - 1)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (third-party transforms draw from it)
        torch.manual_seed(seed)
        loader: Any = engine.state.dataloader
        if hasattr(loader, "dataset"):
            set_rnd(loader.dataset, seed)

    def _save(self, engine: Engine) -> None:
        last = engine.state.epoch == engine.state.max_epochs
        if engine.state.epoch % self.interval and not last:
            return
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        scaler = getattr(engine, "scaler", None)
        content: dict[str, Any] = {
            "epoch": int(engine.state.epoch),
            "iteration": int(engine.state.iteration),
            "state": {name: item.state_dict() for name, item in self.state.items()},
            "scaler": scaler.state_dict() if scaler is not None else None,
            "cases": _digest(engine),
        }
        if self.best is not None:
            # plain floats: numpy's scalars do not pass weights_only
            content["best_metric"] = float(self.best.best_metric)
            content["best_epoch"] = int(self.best.best_metric_epoch)
        if self.saver is not None and self.saver._key_metric_checkpoint is not None:
            saved: Sequence[Any] = self.saver._key_metric_checkpoint._saved
            content["saved"] = [(float(item.priority), str(item.filename)) for item in saved]
        stopper: Any = None if self.early_stop is None else self.early_stop._handler
        if stopper is not None and stopper.best_score is not None:
            content["early_stop"] = {"counter": int(stopper.counter), "best_score": float(stopper.best_score)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        torch.save(content, unfinished)
        os.replace(unfinished, self.path)

    def _load(self, engine: Engine) -> None:
        if not self.resume or not self.path.is_file():
            return
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content.get("cases", "") not in {"", _digest(engine)}:
                raise ValueError("it was written with other training cases")
            for name, item in self.state.items():
                item.load_state_dict(content["state"][name])
        except Exception as error:
            raise CaseError(
                f"resume file {self.path}",
                f"it does not fit this training ({str(error).splitlines()[0]})",
                "pass another --output_dir and --ckpt_dir, or --resume False to start anew, or the configuration it was "
                "written with",
            ) from error
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and content["scaler"]:
            scaler.load_state_dict(content["scaler"])
        engine.state.epoch = content["epoch"]
        engine.state.iteration = content["iteration"]
        if self.best is not None and "best_metric" in content:
            self.best.best_metric = content["best_metric"]
            self.best.best_metric_epoch = content["best_epoch"]
        if self.saver is not None and content.get("saved"):
            self.saver.load_state_dict({"_saved": content["saved"]})
        stopper: Any = None if self.early_stop is None else self.early_stop._handler
        if stopper is not None and "early_stop" in content:
            # what was counted, not the settings, which the configuration gives
            stopper.counter, stopper.best_score = content["early_stop"]["counter"], content["early_stop"]["best_score"]
            if stopper.counter >= stopper.patience:
                engine.terminate()
        logger.info("resumed after epoch %d from %s", content["epoch"], self.path)
        if engine.state.max_epochs is not None and engine.state.epoch >= engine.state.max_epochs:
            engine.terminate()


def _digest(engine: Engine) -> str:
    """Which cases are trained on, by name, so that a data set may be moved; empty where they have no names."""
    cases = getattr(getattr(engine.state.dataloader, "dataset", None), "data", None)
    if not isinstance(cases, Sequence) or not all(isinstance(case, Mapping) for case in cases):
        return ""
    names = sorted(case_name(case) for case in cases)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
