"""How unsure a network was of each structure: the entropy of its softmax, noted while it predicts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from custom_networks.data.datalist import image_stem
from custom_networks.networks.two_stage import TwoStagePocketNet

# planes of a window at a time: the softmax of all of it would be another copy of every class score
PLANES = 16


class EntropyHandler:
    """Handler of an evaluator that notes, per image and label value, how unsure the network was where it chose the value.

    The entropy of the softmax over the logarithm of the number of classes, 0 (sure) to 1 (all classes equal), averaged
    over the voxels of all windows whose largest score is the value's; voxels where windows overlap count once per window.
    So it needs no class scores of a whole volume, which the inferers here do not keep. Of a `MeanEnsemble` it is that of
    the mean softmax. A `TwoStagePocketNet` tells value 1 from the organ network, the tumour included, and value 2 from
    the tumour network within the organ mask that it is given.

    Args:
        network: that the evaluator applies.
        file: JSON to write at the end, `{image file's stem: {value: [mean, voxels]}}`; None writes none.
    """

    def __init__(self, network: nn.Module, file: str | Path | None = None) -> None:
        self.network, self.file = network, None if file is None else Path(file)
        # image file's stem -> label value -> mean and number of voxels
        self.found: dict[str, dict[int, tuple[float, float]]] = {}
        self._sums: dict[int, torch.Tensor] = {}
        self._hooks: list[Any] = []

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self._write)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        self._stop()
        network = getattr(self.network, "module", self.network)
        if isinstance(network, TwoStagePocketNet):
            self._hooks = [
                network.organ.register_forward_hook(self._hook(1)),
                network.tumor.register_forward_hook(self._hook(2)),
            ]
        else:
            self._hooks = [network.register_forward_hook(self._hook(None))]

    def _stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _clear(self, engine: Engine) -> None:
        self._sums = {}

    def _hook(self, foreground: int | None) -> Callable[..., None]:
        """Adds up a window; `foreground` is what channel 1 of a network of two classes means."""

        def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            scores = output[0] if isinstance(output, (list, tuple)) else output
            inside = inputs[0][:, -1:] > 0 if foreground == 2 else None
            for start in range(0, scores.shape[2], PLANES):
                part = scores[:, :, start : start + PLANES].detach().float()
                logs = part.log_softmax(dim=1)
                entropy = -(logs.exp() * logs).sum(dim=1) / torch.log(torch.tensor(float(part.shape[1])))
                chosen = part.argmax(dim=1)
                if inside is not None:
                    chosen = chosen * inside[:, 0, start : start + PLANES]
                sums = torch.zeros(2, part.shape[1], dtype=torch.float64, device=part.device)
                for row, values in zip(sums, (entropy, torch.ones_like(entropy)), strict=True):
                    row.scatter_add_(0, chosen.flatten(), values.flatten().double())
                for value in range(1, part.shape[1]):
                    key = value if foreground is None else foreground
                    self._sums[key] = self._sums.get(key, 0) + sums[:, value]

        return add

    def _note(self, engine: Engine) -> None:
        # decollated by the postprocessing; of several images in a batch nobody knows whose window it was
        images = engine.state.batch
        if isinstance(images, list) and len(images) == 1:
            name = image_stem(str(images[0]["image"].meta["filename_or_obj"]))
            known = {value: sums.tolist() for value, sums in sorted(self._sums.items())}
            self.found[name] = {value: (total / count, count) for value, (total, count) in known.items() if count}

    def _write(self, engine: Engine) -> None:
        self._stop()
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(self.found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(unfinished, self.file)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._stop()
        raise error
