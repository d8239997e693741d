"""Training and validation in mixed precision, on a CPU by the very path that a GPU takes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from ignite.engine import EventEnum
from monai.data.meta_tensor import MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys
from torch.utils._python_dispatch import TorchDispatchMode

from custom_networks.errors import CaseError

Case = TypeVar("Case", bound=Mapping[str, Any])


class TrainingEvents(EventEnum):
    """What `MixedPrecisionTrainer` fires beyond ignite's and MONAI's events.

    GRADIENTS_READY: once per optimizer step, when all its micro-batches are summed and the loss scale is divided out.
    ENDED: once, when `run` is left, by an error too.
    """

    GRADIENTS_READY = "gradients_ready"
    ENDED = "ended"


class _WrongGradients(TorchDispatchMode):
    """Refuses convolutions whose bfloat16 weight gradient torch 2.13 computes wrongly on CPUs (docs/reliability.md).

    They are three voxels wide and one step long on the first axis, over images of two voxels there.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            images, weight, _, stride = args[:4]
            wrong = (torch.bfloat16, 5, 2, 3, 1)
            if (images.dtype, images.ndim, images.shape[2], weight.shape[2], stride[0]) == wrong:
                raise CaseError(
                    "training",
                    f"in bfloat16 on a CPU torch computes wrong gradients of convolutions over {tuple(images.shape[2:])} voxels",
                    "pass --amp False, or a --patch_size of another length on its first axis",
                )
        return func(*args, **(kwargs or {}))


class MixedPrecisionTrainer(SupervisedTrainer):
    """MONAI's `SupervisedTrainer` whose precision, loss scale and accumulation are right for every optimizer and device.

    MONAI's scales the loss in bfloat16 too, hands scaled gradients to whatever stands between the backward pass and a
    fused optimizer, and autocasts on CUDA alone. Here bfloat16 and float32 go without a scale, float16 has one that is
    divided out before `TrainingEvents.GRADIENTS_READY`, and autocast is that of the device and ends before the loss.
    The first step refuses what is known to be computed wrongly.

    Args:
        amp: autocast the network.
        amp_dtype: `torch.bfloat16`, or `torch.float16` with a loss scale; see `mixed_precision_dtype`.
        loss_in_float32: hand float32 scores to the loss; False for one that converts them itself, in less memory.
        kwargs: as MONAI's. `accumulation_steps` micro-batches make a step, and fewer at the end of an epoch: their mean
            gradient is taken. Batches are copied without blocking, and outputs are not decollated, unless told otherwise.
    """

    def __init__(
        self,
        *,
        amp: bool = False,
        amp_dtype: torch.dtype = torch.bfloat16,
        loss_in_float32: bool = True,
        **kwargs: Any,
    ) -> None:
        self.train_handlers: Sequence[Any] = kwargs.get("train_handlers") or ()
        defaults: dict[str, Any] = {"non_blocking": True, "decollate": False}
        super().__init__(amp=amp, event_names=[TrainingEvents], **(defaults | kwargs))
        self.amp_dtype, self.loss_in_float32 = amp_dtype, loss_in_float32
        scaled = amp and amp_dtype == torch.float16
        self.scaler: Any = torch.amp.GradScaler(self.state.device.type, enabled=scaled)
        self._unchecked = amp and amp_dtype == torch.bfloat16 and self.state.device.type == "cpu"

    def run(self) -> None:  # type: ignore[override]
        """Train; the scaler of before is kept, which MONAI's would replace."""
        try:
            Workflow.run(self)
        finally:
            self.fire_event(TrainingEvents.ENDED)

    def _window(self) -> tuple[int, int]:
        """Place of this micro-batch among those of its step, and their number."""
        done, length = self.state.iteration - 1, self.state.epoch_length
        place = done % length if length else done
        size = self.accumulation_steps
        if length:
            size = min(size, length - place // size * size)
        return place % self.accumulation_steps, size

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        inputs, targets = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        place, size = self._window()
        last = place == size - 1
        self.network.train()
        if place == 0:
            self.optimizer.zero_grad(set_to_none=True)
        output = self.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        network: Any = self.network
        waits = isinstance(network, torch.nn.parallel.DistributedDataParallel) and not last
        with network.no_sync() if waits else contextlib.nullcontext():
            with (
                torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp),
                _WrongGradients() if self._unchecked else contextlib.nullcontext(),
            ):
                output[Keys.PRED] = self.inferer(inputs, self.network)
            self._unchecked = False
            self.fire_event(IterationEvents.FORWARD_COMPLETED)
            scores = _in_float32(output[Keys.PRED]) if self.loss_in_float32 else output[Keys.PRED]
            output[Keys.LOSS] = self.loss_function(scores, targets).mean()
            self.fire_event(IterationEvents.LOSS_COMPLETED)
            self.scaler.scale(output[Keys.LOSS] / size).backward()
        output[Keys.LOSS] = output[Keys.LOSS].detach()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if last:
            self.scaler.unscale_(self.optimizer)
            self.fire_event(TrainingEvents.GRADIENTS_READY)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return output


class MixedPrecisionEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` that autocasts on its own device, not on CUDA alone.

    Args:
        amp: autocast the network.
        amp_dtype: see `mixed_precision_dtype`.
        kwargs: as MONAI's; batches are copied without blocking unless told otherwise.
    """

    def __init__(self, *, amp: bool = False, amp_dtype: torch.dtype = torch.bfloat16, **kwargs: Any) -> None:
        super().__init__(amp=amp, **({"non_blocking": True} | kwargs))
        self.amp_dtype = amp_dtype

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        inputs, targets = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        output: dict[str, Any] = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        self.state.output = output
        autocast = torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp)
        with self.mode(self.network), autocast:
            output[Keys.PRED] = self.inferer(inputs, self.network)
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        # decollating and postprocessing replace it
        result: dict[str, Any] = self.state.output
        return result


def _in_float32(scores: Any) -> Any:
    if isinstance(scores, (list, tuple)):
        return type(scores)(_in_float32(item) for item in scores)
    if isinstance(scores, torch.Tensor) and scores.dtype in {torch.float16, torch.bfloat16}:
        return (scores.as_tensor() if isinstance(scores, MetaTensor) else scores).float()
    return scores


def mixed_precision_dtype(device: str | torch.device) -> torch.dtype:
    """What to autocast to: bfloat16 wherever it is computed in hardware or on a CPU, else float16.

    Args:
        device: that the network is on.
    """
    cuda = torch.device(device).type == "cuda"
    return torch.float16 if cuda and not torch.cuda.is_bf16_supported(including_emulation=False) else torch.bfloat16


def choose_fastest_kernels(enabled: bool) -> None:
    """Let cuDNN time its algorithms and take the fastest, for the `initialize` section; nothing changes on a CPU.

    Args:
        enabled: False keeps what `set_determinism` chose: the same result in every run, but slower.
    """
    torch.backends.cudnn.benchmark = enabled
    torch.backends.cudnn.deterministic = not enabled


def share_batch(batch_size: int, ranks: int) -> int:
    """Samples of a step on each of several processes.

    Args:
        batch_size: samples of a step on all of them together.
        ranks: processes.

    Raises:
        CaseError: they cannot be shared evenly.
    """
    if batch_size % ranks:
        fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
        raise CaseError(
            f"batch of {batch_size}",
            f"it cannot be shared evenly among {ranks} processes",
            f"start {', '.join(map(str, fitting))} of them, or pass another --batch_size",
        )
    return batch_size // ranks


def validation_subset(cases: Sequence[Case], count: int | None) -> list[Case]:
    """The cases that a training validates on: always the same, spread evenly over the given ones.

    Args:
        cases: of the validation fold.
        count: how many; None, or as many as there are, takes all.

    Raises:
        CaseError: the count is not a positive whole number.
    """
    if count is None:
        return list(cases)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise CaseError("option --val_cases", f"{count!r} is not a positive whole number", "pass one, or None for all")
    step = max(1.0, len(cases) / count)
    return [cases[int(i * step)] for i in range(min(count, len(cases)))]
