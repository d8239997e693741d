"""A tiny training for the tests of engines, handlers and resuming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset

from custom_networks import BestModelSaver, MixedPrecisionTrainer, ResumeTraining


class ToyTraining:
    """Training of one convolution on images whose label is their double.

    `network` starts from the same weights every time; `trainer` is made by `make`, and `epochs` are those it has done.
    """

    def __init__(self, names: Sequence[str] = ("a", "b"), rate: float = 0.05, optimizer: Any = torch.optim.SGD) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Conv3d(1, 1, 3, padding=1)
        self.optimizer = optimizer(self.network.parameters(), lr=rate)
        self.epochs: list[int] = []
        images = torch.randn(len(names), 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
        self.data = [{"case": n, "image": image, "label": 2 * image} for n, image in zip(names, images, strict=True)]
        self.cases = [{"case": name} for name in names]

    def make(self, epochs: int = 1, handlers: Sequence[Any] = (), **more: Any) -> MixedPrecisionTrainer:
        """The trainer, not yet run."""
        options: dict[str, Any] = {"device": "cpu", "loss_function": torch.nn.MSELoss(), "train_handlers": handlers}
        self.trainer = MixedPrecisionTrainer(
            max_epochs=epochs,
            train_data_loader=DataLoader(Dataset(self.data), batch_size=1),
            network=self.network,
            optimizer=self.optimizer,
            **(options | more),
        )
        return self.trainer

    def resumable(
        self, folder: Path, max_epochs: int, settings: Mapping[str, Any] | None = None, best: bool = False, **more: Any
    ) -> MixedPrecisionTrainer:
        """The trainer with a cosine and `ResumeTraining`; with `best` a saver of each epoch's model, as if validated."""
        from monai.handlers import LrScheduleHandler

        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=max_epochs)
        self.saver = BestModelSaver(str(folder / "models"), {"model": self.network}) if best else None
        options: dict[str, Any] = {"saver": self.saver, "final": folder / "final.pt"} | more
        self.resume = ResumeTraining(
            folder / "resume.pt",
            {"network": self.network, "optimizer": self.optimizer, "lr_scheduler": self.scheduler},
            settings=settings,
            cases={"training": self.cases},
            **options,
        )
        handlers = [LrScheduleHandler(self.scheduler, print_lr=False), self.resume]
        trainer = self.make(max_epochs, handlers)
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.epochs.append(engine.state.epoch))
        return trainer

    @property
    def weights(self) -> torch.Tensor:
        """All weights as one vector."""
        return torch.cat([weight.detach().flatten() for weight in self.network.parameters()])


@pytest.fixture
def toy() -> type[ToyTraining]:
    """The class, so that a test may start several."""
    return ToyTraining
