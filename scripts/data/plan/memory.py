"""How much memory a bundle's training step and its inference take at full size, without running them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed._tools.mem_tracker import MemTracker
from torch.overrides import TorchFunctionMode

from custom_networks.errors import CaseError
from custom_networks.losses import ChunkedDiceCELoss, chunk_of

PRECISIONS = ("bf16", "fp32")
# what a device takes beside live tensors: its context and libraries, and the allocator's rounding and work space
CONTEXT_BYTES = 0.7 * 2**30
MARGIN = 1.1


class _Shapes(TorchFunctionMode):
    """Gives values to the two things whose values shapes follow from: ranges, and the places of visible voxels."""

    def __init__(self, visible: float) -> None:
        super().__init__()
        self.visible = visible

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.arange:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is Tensor.nonzero:
            return args[0].new_empty((round(self.visible * args[0].numel()), 1), dtype=torch.int64)
        return func(*args, **kwargs)


class _PeakTracker(MemTracker):
    """The peak of the whole alone: statistics of every module after every operation would take most of the time."""

    def _update_peak_stats(self, peak_state: Any) -> None:
        for device, kinds in self._curr_mem_snap.items():
            if kinds["Total"] > self._peak_mem.get(device, 0):
                self._peak_mem[device], self._peak_mem_snap[device] = kinds["Total"], dict(kinds)


class Made(NamedTuple):
    """What a training step works with."""

    network: nn.Module
    image: Tensor
    target: Tensor
    loss: Any
    optimizer: torch.optim.Optimizer


class Step:
    """A bundle's network, loss and optimizer, as its `train.json` makes them, at a size of one's choice.

    Args:
        config: the bundle's train configuration, unresolved.
        patch: voxels per axis; default the bundle's.
        precision: `bf16` (autocast) or `fp32`.
        memory: bytes of the device, which the loss's chunk follows.

    Raises:
        CaseError: an unknown precision, or the configuration lacks network or loss.
    """

    def __init__(
        self,
        config: dict[str, Any],
        patch: Sequence[int] | None = None,
        precision: str = "bf16",
        memory: float = 24 * 2**30,
    ) -> None:
        name = f"memory of {config.get('_name_', 'the bundle')}"
        if precision not in PRECISIONS:
            raise CaseError(name, f"precision {precision!r} is unknown", f"choose one of {', '.join(PRECISIONS)}")
        lacking = [key for key in ("network_def", "loss", "optimizer", "patch_size") if key not in config]
        if lacking:
            raise CaseError(name, f"its train.json has no id {', '.join(lacking)}", "pass a bundle's folder")
        self.config, self.precision, self.memory = config, precision, memory
        self.patch = [int(n) for n in (config["patch_size"] if patch is None else patch)]

    def training_peak(self, batch: int) -> int:
        """Bytes of live tensors at the highest point of a training step of `batch` patches, optimizer state included."""

        return self._tracked(batch, self.train)

    def train(self, made: Made, between: Callable[[], None] = lambda: None) -> None:
        """A training step like any but the first: a step with gradients of zero gives the optimizer its state before."""
        made.network.train()
        for weight in made.network.parameters():
            weight.grad = torch.zeros_like(weight)
        made.optimizer.step()
        made.optimizer.zero_grad(set_to_none=True)
        between()
        with self._autocast():
            value = made.loss(made.network(made.image), made.target)
        value.backward()
        made.optimizer.step()
        made.optimizer.zero_grad(set_to_none=True)
        between()

    def inference_peak(self, windows: int) -> int:
        """The same for `windows` windows at once, scores included; an inferer's arrays of a whole volume come on top."""

        return self._tracked(windows, self.predict)

    def predict(self, made: Made, between: Callable[[], None] = lambda: None) -> None:
        """One forward pass without gradients."""
        made.network.eval()
        with torch.no_grad(), self._autocast():
            made.network(made.image)
        between()

    def make(self, batch: int) -> Made:
        """Everything that a step of `batch` patches needs; inside a `FakeTensorMode` it takes no memory."""
        from monai.bundle import ConfigParser

        # as on a GPU: channels-last, and one fused step of the optimizer
        # of two stages the second is trained: it takes the image and the organ's mask
        part = "network_def#tumor" if "tumor" in self.config["network_def"] else "network_def"
        given = {"memory_format": torch.channels_last_3d, "network": f"@{part}", "device": "cpu", "compile": False}
        parser = ConfigParser({**self.config, **given})
        parser["optimizer#fused"] = True
        network = parser.get_parsed_content(part)
        for weight in network.parameters():
            if weight.ndim == 5:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        loss, optimizer = (parser.get_parsed_content(key) for key in ("loss", "optimizer"))
        for module in loss.modules():
            if isinstance(module, ChunkedDiceCELoss):
                module.chunk_voxels = chunk_of(int(parser.get_parsed_content("num_classes")), batch, self.memory)
        image = torch.zeros(batch, int(parser.get_parsed_content(f"{part}#in_channels")), *self.patch)
        # an autoencoder's target is the image
        target = torch.zeros(batch, 1, *self.patch)
        return Made(network, image, target, loss, optimizer)

    def _tracked(self, batch: int, work: Callable[[Made, Callable[[], None]], None]) -> int:
        tracker = _PeakTracker()
        with _without_memory(self._visible()):
            made = self.make(batch)
            tracker.track_external(made.network, made.optimizer, made.image, made.target)
            with tracker:
                work(made, tracker.reset_mod_stats)
        return int(sum(kinds["Total"] for kinds in tracker.get_tracker_snapshot("peak").values()))

    def _visible(self) -> float:
        """Part of the cells that a masked autoencoder sees."""
        ratio = float(self.config.get("mask_ratio", 0.0))
        cells = max(int(torch.Size(self.patch).numel()) // 16**3, 1)
        return max(cells - round(cells * ratio), 1) / cells

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16")


@contextmanager
def _without_memory(visible: float) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with FakeTensorMode(allow_non_fake_inputs=True), _Shapes(visible):
            yield


def needed(live: float) -> float:
    """Bytes of a device for that many bytes of live tensors: a tenth more, and 0.7 GiB of context and libraries."""
    return live * MARGIN + CONTEXT_BYTES


def largest_batch(step: Step, memory: float) -> tuple[int, list[int]]:
    """The largest batch whose training step fits `memory` bytes, and the peaks at one and at two patches.

    The peak grows by the same amount with every patch, so two of them tell all.
    """
    one, two = step.training_peak(1), step.training_peak(2)
    if needed(one) > memory:
        return 0, [one, two]
    each = max((two - one) * MARGIN, 1.0)
    return 1 + int((memory - needed(one)) / each), [one, two]
