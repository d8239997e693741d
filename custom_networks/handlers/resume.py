"""Training that can be killed at any moment and goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Workflow
from monai.handlers import CheckpointLoader, EarlyStopHandler

from custom_networks.data.datalist import case_name
from custom_networks.engines import TrainingEvents
from custom_networks.errors import CaseError
from custom_networks.handlers.checkpoints import BackgroundWriter, FolderLock, process_rank, read_checkpoint
from custom_networks.handlers.training import BestModelSaver
from custom_networks.settings import write_settings
from custom_networks.weights import read_weights

logger = logging.getLogger(__name__)

FILE_KEYS = ("image", "label", "organ")


class ResumeTraining:
    """Handler that writes the whole state of a training and takes it up again, and its last weights at the end.

    Randomness is a function of seed, epoch and rank alone: every epoch starts by seeding Python, numpy and torch, and
    `SeededSampler` gives each sample a seed for its transforms, so the random state need not be stored and an epoch that
    was cut short is repeated exactly, with any number of workers. On a CPU a training that was killed therefore ends with the very weights of one that was not; on a GPU as far as its kernels
    repeat themselves. Attach it last: what the other handlers do at the end of an epoch is then in the file.

    A training goes on only as what it was. Other cases, files or settings are refused by name. Another number of epochs
    is taken: the learning rate then follows the schedule of that number from where it is. One that has ended is not
    trained again. Where the trainer has a `CheckpointLoader` (MONAI Label puts one there for every training but the
    first) the training starts anew from the weights that it loads.

    Args:
        path: the file; it is apart from `model.pt`, which stays the flat state dict of the best model.
        state: objects with `state_dict` and `load_state_dict`, by name: network, optimizer, lr_scheduler.
        final: file for the network's flat state dict at the end of the training; None for none.
        settings: values by name that a resumed training must share, plain numbers, strings and lists of them.
        cases: what is trained and validated on, by name; their names and the sizes of their files must stay.
        seed: of the training.
        evaluator: engine whose best metric is kept.
        saver: of the best model, so that a worse model does not replace it after resuming.
        resume: False starts anew and overwrites the files.
        epochs: between two writes of the file; after the last epoch it is always written.
        minutes: after which it is written at the end of an epoch in any case.
        early_stop: its patience goes on being counted, and a training that it has ended stays ended.
    """

    def __init__(
        self,
        path: str | Path,
        state: dict[str, Any],
        final: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        cases: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        seed: int = 0,
        evaluator: Workflow | None = None,
        saver: BestModelSaver | None = None,
        resume: bool = True,
        epochs: int = 1,
        minutes: float = 15.0,
        early_stop: EarlyStopHandler | None = None,
    ) -> None:
        self.path = Path(path)
        self.state = state
        self.final = None if final is None else Path(final)
        self.settings = dict(settings or {}) | {"seed": seed}
        self.cases = dict(cases or {})
        self.seed = seed
        # MONAI adds its best metric to ignite's state
        self.best: Any = None if evaluator is None else evaluator.state
        self.saver = saver
        self.resume = resume
        self.epochs, self.minutes = epochs, minutes
        self.early_stop = early_stop
        # the best model is on the disk before the state that counts on it
        self.writer = BackgroundWriter() if saver is None else saver.writer
        folders = {self.path.parent} | ({saver.path.parent} if saver is not None else set())
        self.locks = [FolderLock(folder) for folder in sorted(folders)]
        self._inputs: dict[str, str] = {}
        self._written = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(TrainingEvents.ENDED, self._release)

    def _start(self, engine: Engine) -> None:
        if process_rank() == 0:
            for lock in self.locks:
                lock.acquire()
        self._written = time.monotonic()
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        self._inputs = {
            name: json.dumps(value, default=str) for name, value in (self.settings | {"processes": ranks}).items()
        }
        self._inputs |= {f"{name} cases": _digest(cases) for name, cases in self.cases.items()}
        given = any(isinstance(handler, CheckpointLoader) for handler in getattr(engine, "train_handlers", ()))
        if self.resume and not given and self.path.is_file():
            self._load(engine)
        elif process_rank() == 0:
            # killed before its first file, this training must not go on as the one before
            for file in filter(None, (self.path, self.final)):
                file.unlink(missing_ok=True)

    def _seed(self, engine: Engine) -> None:
        # epochs and ranks get seeds far apart, within numpy's 32 bits
        seed = (self.seed + 1_000_003 * engine.state.epoch + 7919 * process_rank()) % (2**32 - 1)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (third-party transforms draw from it)
        torch.manual_seed(seed)

    def _save(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        late = time.monotonic() - self._written > 60 * self.minutes
        ends = epoch == engine.state.max_epochs or bool(engine.should_terminate)
        if process_rank() != 0 or not (ends or late or epoch % self.epochs == 0):
            return
        scaler = getattr(engine, "scaler", None)
        content: dict[str, Any] = {
            "epoch": int(epoch),
            "epochs": int(engine.state.max_epochs or 0),
            "iteration": int(engine.state.iteration),
            "state": {name: item.state_dict() for name, item in self.state.items()},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "inputs": self._inputs,
        }
        if self.best is not None:
            # plain floats: numpy's scalars do not pass weights_only
            content["best_metric"] = float(self.best.best_metric)
            content["best_epoch"] = int(self.best.best_metric_epoch)
        if self.saver is not None:
            content["saved"] = [(float(item.priority), str(item.filename)) for item in self.saver.saved]
        stopper: Any = None if self.early_stop is None else self.early_stop._handler
        if stopper is not None and stopper.best_score is not None:
            content["early_stop"] = {"counter": int(stopper.counter), "best_score": float(stopper.best_score)}
        self.writer.write(self.path, content)
        self._written = time.monotonic()

    def _load(self, engine: Any) -> None:
        remedy = "delete it to start anew; the best model so far is in another file"
        content = read_checkpoint(self.path, remedy)
        self._compare(content, engine.state.max_epochs)
        longer = content["epochs"] != engine.state.max_epochs
        try:
            for name, item in self.state.items():
                if not (longer and name == "lr_scheduler"):
                    item.load_state_dict(content["state"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise self._refusal(str(error).splitlines()[0]) from error
        if longer and "lr_scheduler" in self.state:
            _replay(self.state["optimizer"], self.state["lr_scheduler"], content["epoch"])
        scaler = getattr(engine, "scaler", None)
        # nothing is in it if one of the two trainings goes without a scale
        if scaler is not None and scaler.is_enabled() and content["scaler"]:
            scaler.load_state_dict(content["scaler"])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        if self.best is not None and "best_metric" in content:
            self.best.best_metric, self.best.best_metric_epoch = content["best_metric"], content["best_epoch"]
        if self.saver is not None and content.get("saved"):
            self.saver.load_state_dict({"_saved": content["saved"]})
        stopper: Any = None if self.early_stop is None else self.early_stop._handler
        if stopper is not None and "early_stop" in content:
            # what was counted, not the settings, which the configuration gives
            stopper.counter, stopper.best_score = content["early_stop"]["counter"], content["early_stop"]["best_score"]
        stopped = stopper is not None and stopper.counter >= stopper.patience
        ended = stopped or content["epoch"] >= engine.state.max_epochs
        self._check_best_model(engine, ended)
        if ended:
            logger.info("this training has ended, after epoch %d (%s): nothing is trained", content["epoch"], self.path)
            engine.terminate()
            return
        logger.info("resumed after epoch %d from %s", content["epoch"], self.path)
        if longer:
            rates = [f"{group['lr']:g}" for group in self.state["optimizer"].param_groups]
            logger.warning(
                "%d epochs where there were %d: the learning rate goes on at %s, on the schedule of %d",
                engine.state.max_epochs,
                content["epochs"],
                ", ".join(rates),
                engine.state.max_epochs,
            )

    def _compare(self, content: Mapping[str, Any], epochs: int) -> None:
        earlier: Mapping[str, str] = content.get("inputs", {})
        different = [name for name in self._inputs if earlier.get(name) != self._inputs[name]]
        said = [
            f"other {name}" if name.endswith(" cases") else f"{name} {earlier.get(name)}, not {self._inputs[name]}"
            for name in different
        ]
        if said:
            raise self._refusal(f"it was written with {'; '.join(said)}")
        if content["epoch"] > epochs:
            raise self._refusal(f"it has trained {content['epoch']} epochs, more than the {epochs} that are asked for")

    def _refusal(self, reason: str) -> CaseError:
        return CaseError(
            f"resume file {self.path}",
            f"it does not fit this training ({reason})",
            "pass another --output_dir and --ckpt_dir, or --resume False to start anew, or the settings it was written with",
        )

    def _check_best_model(self, engine: Any, ended: bool) -> None:
        if self.saver is None or not self.saver.saved:
            return
        try:
            read_weights(self.saver.path)
        except CaseError as error:
            best = int(self.best.best_metric_epoch) if self.best is not None else -1
            if best == engine.state.epoch:
                logger.warning("%s was missing or damaged: it is written again from %s", self.saver.path, self.path)
                if process_rank() == 0:
                    self.writer.write(self.saver.path, self.state["network"].state_dict())
            elif not ended:
                logger.warning("%s is missing or damaged: the next validation writes it anew", self.saver.path)
                self.saver.forget()
                if self.best is not None:
                    self.best.best_metric, self.best.best_metric_epoch = -1, -1
            else:
                raise CaseError(
                    f"weights {self.saver.path}",
                    f"this training has ended, and its best model, of epoch {best}, is missing or damaged",
                    f"take the last one ({self.final or self.path}), or train anew with --resume False",
                ) from error

    def _finish(self, engine: Any) -> None:
        if process_rank() != 0:
            return
        network = self.state["network"]
        if self.saver is not None and not self.saver.saved:
            logger.warning("no validation chose a model: %s holds the weights of the last epoch", self.saver.path)
            self.writer.write(self.saver.path, network.state_dict())
            write_settings(self.saver.path, network.state_dict())
        if self.final is not None:
            self.writer.write(self.final, network.state_dict())
            write_settings(self.final, network.state_dict())

    def _release(self, engine: Engine) -> None:
        try:
            self.writer.wait()
        finally:
            for lock in self.locks:
                lock.release()


def _replay(optimizer: torch.optim.Optimizer, scheduler: Any, epochs: int) -> None:
    """Bring a new schedule to where it would be after some epochs."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer has not stepped yet
        for _ in range(epochs):
            scheduler.step()


def _digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """Which cases, by name and size of their files, so that a data set may be moved."""
    names = sorted(f"{case_name(case)} {_sizes(case)}" for case in cases)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _sizes(case: Mapping[str, Any]) -> list[int]:
    files = [Path(case[key]) for key in FILE_KEYS if isinstance(case.get(key), (str, Path))]
    return [file.stat().st_size for file in files if file.is_file()]
