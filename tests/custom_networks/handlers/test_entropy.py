"""The entropy that is noted is that of the softmax, by structure, whatever the inferer keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, Lambdad

from custom_networks import EntropyHandler, MeanEnsemble, MixedPrecisionEvaluator, TwoStageInferer, TwoStagePocketNet


class Scores(torch.nn.Module):
    """Given scores, whatever the window; the window's place is told by the image's values."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = x[:, :1].long()
        return self.scores.flatten(1)[:, index.flatten()].reshape(-1, *index.shape).movedim(0, 1)[:, :, 0]


def run(
    network: Any, inferer: Any, handler: EntropyHandler, shape: tuple[int, ...] = (40, 6, 5), cases: int = 1
) -> None:
    image = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(1, *shape)
    data = [{"image": MetaTensor(image, meta={"filename_or_obj": f"/x/c.{i}.nii.gz"})} for i in range(cases)]
    evaluator = MixedPrecisionEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=1),
        network=network,
        inferer=inferer,
        postprocessing=Compose([Lambdad("pred", lambda x: x)]),
        val_handlers=[handler],
    )
    evaluator.run()


def expected(probability: np.ndarray, chosen: np.ndarray) -> float:
    entropy = -(probability * np.log(probability)).sum(0) / np.log(len(probability))
    return float(entropy[chosen].mean())


def softmax(scores: torch.Tensor) -> np.ndarray:
    return np.asarray(scores.double().softmax(0))


def test_of_one_network_and_of_the_mean_of_several(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    several = [Scores(3 * torch.randn(3, 40, 6, 5, generator=generator)) for _ in range(2)]
    # one window, so that no voxel counts twice; 40 planes, more than are taken at a time
    inferer = SlidingWindowInferer((40, 6, 5))
    handler = EntropyHandler(several[0], tmp_path / "new/entropy.json")
    run(several[0], inferer, handler, cases=2)
    probability = softmax(several[0].scores)
    for value in (1, 2):
        mean, count = handler.found["c.0"][value]
        chosen = probability.argmax(0) == value
        assert mean == pytest.approx(expected(probability, chosen), abs=1e-5)
        assert count == chosen.sum()
    written = json.loads((tmp_path / "new/entropy.json").read_text())
    assert set(written) == {"c.0", "c.1"}
    assert written["c.1"]["2"] == pytest.approx(handler.found["c.1"][2])
    ensemble = MeanEnsemble(several)
    handler = EntropyHandler(ensemble)
    run(ensemble, inferer, handler)
    both = (softmax(several[0].scores) + softmax(several[1].scores)) / 2
    assert handler.found["c.0"][1][0] == pytest.approx(expected(both, both.argmax(0) == 1), abs=1e-5)


def test_each_stage_tells_its_own_and_the_tumour_counts_within_the_organ_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    organ, tumor = (Scores(3 * torch.randn(2, 40, 6, 5, generator=generator)) for _ in range(2))
    network = TwoStagePocketNet(organ, tumor)
    handler = EntropyHandler(network)
    run(network, TwoStageInferer((40, 6, 5), largest_component=False), handler)
    first, second = softmax(organ.scores), softmax(tumor.scores)
    within = first.argmax(0) == 1
    assert handler.found["c.0"][1][0] == pytest.approx(expected(first, within), abs=1e-5)
    mean, count = handler.found["c.0"][2]
    assert mean == pytest.approx(expected(second, within & (second.argmax(0) == 1)), abs=1e-5)
    assert count == (within & (second.argmax(0) == 1)).sum()


def test_nothing_is_left_on_the_network_when_a_run_ends_or_fails() -> None:
    network = Scores(torch.zeros(2, 40, 6, 5))
    handler = EntropyHandler(network)
    run(network, SlidingWindowInferer((40, 6, 5)), handler)
    assert not network._forward_hooks

    def fail(*_: Any) -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        run(network, fail, handler)
    assert not network._forward_hooks
