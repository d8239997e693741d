"""Handlers of a training: where it stops, what its steps are held to, when it validates, which model it keeps."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointSaver, ValidationHandler

from custom_networks.engines import TrainingEvents
from custom_networks.errors import CaseError
from custom_networks.handlers.checkpoints import BackgroundWriter, process_rank
from custom_networks.settings import write_settings

logger = logging.getLogger(__name__)


class StopAtNaN:
    """Handler that ends a training whose loss or weights are no longer numbers. Attach it before all that save.

    With a loss scale (float16) a loss that overflows is passed over while the scale can still fall, as the scaler skips
    that step.
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a `MixedPrecisionTrainer`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._check_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check_weights)

    def _check_loss(self, engine: Any) -> None:
        loss = float(engine.state.output["loss"])
        if math.isfinite(loss) or (engine.scaler.is_enabled() and engine.scaler.get_scale() > 1):
            return
        raise self._error(engine, f"the loss became {loss}")

    def _check_weights(self, engine: Any) -> None:
        if not all(bool(torch.isfinite(weight).all()) for weight in engine.network.parameters()):
            raise self._error(engine, "the weights became infinite or NaN")

    def _error(self, engine: Any, what: str) -> CaseError:
        place = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        return CaseError(
            "training",
            f"{what} in epoch {engine.state.epoch}, iteration {place}; what was saved before is unharmed",
            "lower --learning_rate, or try --amp False, and check the images' intensities",
        )


class ClipGradient:
    """Handler that shortens the gradient of a step to at most a given length.

    The length before, over all parameters of the optimizer, is `engine.state.gradient_norm`; its mean over an epoch is
    the metric `gradient_norm`. Attach it before the handlers that print metrics.

    Args:
        max_norm: 2-norm that is kept.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm
        self._norms: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a `MixedPrecisionTrainer`."""
        engine.add_event_handler(TrainingEvents.GRADIENTS_READY, self._clip)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _clip(self, engine: Any) -> None:
        weights = [weight for group in engine.optimizer.param_groups for weight in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.max_norm)
        engine.state.gradient_norm = norm
        self._norms.append(norm)

    def _report(self, engine: Engine) -> None:
        norms, self._norms = self._norms, []
        if norms:
            # steps that overflowed in float16 were skipped
            measured = torch.stack(norms)
            engine.state.metrics["gradient_norm"] = float(measured[measured.isfinite()].mean())


class ValidateRegularly(ValidationHandler):
    """MONAI's `ValidationHandler` by epochs that also validates after the last one, whatever the interval.

    Args:
        interval: epochs between two validations.
        validator: the evaluator.
    """

    def __init__(self, interval: int, validator: Any) -> None:
        super().__init__(interval=interval, validator=validator)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""

        def due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)


class _WholeFile(BaseSaveHandler):
    """Where ignite's `Checkpoint` puts the best model: one file that is replaced, by the first rank."""

    def __init__(self, path: Path, writer: BackgroundWriter) -> None:
        self.path, self.writer = path, writer

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        if process_rank() == 0:
            self.writer.write(self.path, checkpoint)
            write_settings(self.path, checkpoint)

    def remove(self, filename: str) -> None:
        """Nothing: the next one replaces it."""


class BestModelSaver(CheckpointSaver):
    """MONAI's `CheckpointSaver` of the best model by key metric, written in the background and whole or not at all.

    A validation whose metric is NaN, as of cases that have no class in label or prediction, is no candidate, and a warning
    says so; ignite would save the first such model and then no other, for nothing is greater than NaN.

    Args:
        save_dir: folder.
        save_dict: the network by any name; the file is its flat state dict.
        key_metric_filename: the file's name.
        key_metric_negative_sign: for metrics of which less is better.
    """

    def __init__(
        self,
        save_dir: str,
        save_dict: dict[str, Any],
        key_metric_filename: str = "model.pt",
        key_metric_negative_sign: bool = False,
    ) -> None:
        super().__init__(
            save_dir,
            save_dict,
            save_key_metric=True,
            key_metric_filename=key_metric_filename,
            key_metric_negative_sign=key_metric_negative_sign,
        )
        self.path = Path(save_dir) / key_metric_filename
        self.writer = BackgroundWriter()
        self._checkpoint = cast(Any, self._key_metric_checkpoint)
        self._checkpoint.save_handler = _WholeFile(self.path, self.writer)

    def metrics_completed(self, engine: Engine) -> None:
        """Save the network if it is the best so far."""
        name = str(getattr(engine.state, "key_metric_name", ""))
        value = engine.state.metrics.get(name)
        if isinstance(value, (int, float)) and math.isnan(value):
            logger.warning(
                "epoch %d: %s is NaN and chooses no model: no class is present in labels or predictions of the %s "
                "validation cases",
                engine.state.epoch,
                name,
                engine.state.epoch_length,
            )
            return
        super().metrics_completed(engine)

    @property
    def saved(self) -> list[Any]:
        """What ignite remembers of the best one, `priority` and `filename`; empty before the first."""
        items: list[Any] = self._checkpoint._saved
        return items

    def forget(self) -> None:
        """The next model is the best."""
        self._checkpoint._saved.clear()
