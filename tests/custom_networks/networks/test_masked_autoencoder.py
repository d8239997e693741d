from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanSquaredError, from_engine
from torch import Tensor

from custom_networks.errors import CaseError
from custom_networks.losses import MaskedReconstructionLoss
from custom_networks.networks.masked_autoencoder import (
    SparseMaskedAutoencoder,
    from_cells,
    to_cells,
)
from custom_networks.networks.sparse import upsample_cells


def make(**arguments: object) -> SparseMaskedAutoencoder:
    torch.manual_seed(0)
    return SparseMaskedAutoencoder(variant="small", decoder_width=32, **arguments)  # type: ignore[arg-type]


def smooth_image(batch: int = 2) -> Tensor:
    axes = torch.meshgrid(*(torch.linspace(0, 9, 32) for _ in range(3)), indexing="ij")
    phase = torch.rand(batch, 3, 1, 1, 1) * 6
    return sum((a + phase[:, i]).sin() for i, a in enumerate(axes))[:, None]  # type: ignore[union-attr, index, return-value]


def test_cells_and_back() -> None:
    x = torch.randn(2, 3, 8, 12, 4)
    cells = to_cells(x, [2, 3, 1])
    assert cells.shape == (2, 2, 3, 1, 3, 64)
    assert torch.equal(cells[1, 1, 2, 0, 2], x[1, 2, 4:8, 8:12, 0:4].flatten())
    assert torch.equal(from_cells(cells, [8, 12, 4]), x)


@pytest.mark.parametrize("stages", [5, 6])
def test_training_returns_prediction_and_exact_mask(stages: int) -> None:
    network = make(pretrain_stages=stages, mask_ratio=0.6)
    prediction, active = network(torch.randn(2, 1, 32, 48, 64))
    assert prediction.shape == (2, 1, 32, 48, 64)
    assert active.shape == (2, 1, 2, 3, 4)
    assert active.flatten(1).sum(1).tolist() == [10, 10]  # 24 cells, 14.4 masked
    assert not torch.equal(active, network(torch.randn(2, 1, 32, 48, 64))[1])
    assert len(network.encoder.stages) == stages


def test_paper_size_keeps_179_of_448_cells() -> None:
    network = make()
    network.encoder.encode_rows = lambda x, active: pytest.fail(str(int(active.sum())))  # type: ignore[method-assign]
    with pytest.raises(pytest.fail.Exception, match=r"^179$"):
        network(torch.empty(1, 1, 112, 128, 128))


def test_masked_voxels_change_nothing_but_the_target() -> None:
    x = torch.randn(2, 1, 32, 32, 32)
    active = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0] * 2, dtype=torch.bool).view(2, 1, 2, 2, 2)
    hidden = ~upsample_cells(active, [32, 32, 32])
    outputs = [make()(torch.where(hidden, torch.full_like(x, v), x), active)[0] for v in (0.0, float("nan"))]
    assert torch.equal(outputs[0], outputs[1])


def test_loss_is_the_masked_mean_square() -> None:
    x, prediction = torch.randn(2, 1, 8, 8, 8) * 3 + 1, torch.randn(2, 1, 8, 8, 8)
    active = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0], dtype=torch.bool).view(2, 1, 2, 2, 2)
    hidden = ~upsample_cells(active, [8, 8, 8])
    raw = MaskedReconstructionLoss("raw")((prediction, active), x)
    torch.testing.assert_close(raw, (prediction - x)[hidden].square().mean())
    cells = to_cells(x, [2, 2, 2])
    var, mean = torch.var_mean(cells, -1, correction=0, keepdim=True)
    target = from_cells((cells - mean) / (var + 1e-6).sqrt(), [8, 8, 8])
    cell = MaskedReconstructionLoss()((prediction, active), x)
    torch.testing.assert_close(cell, (prediction - target)[hidden].square().mean())
    # predicting each cell's mean
    torch.testing.assert_close(MaskedReconstructionLoss()((torch.zeros_like(x), active), x), torch.tensor(1.0))
    assert MaskedReconstructionLoss()((prediction, torch.ones_like(active)), x) == 0


def test_eval_is_deterministic_and_scriptable(tmp_path: Path) -> None:
    network = make().eval()
    x = torch.randn(2, 1, 32, 32, 48)
    with torch.no_grad():
        out = network(x)
        assert torch.equal(out, network(x))
        torch.testing.assert_close(out[1:], network(x[1:]), rtol=1e-4, atol=1e-4)
        torch.jit.script(network).save(str(tmp_path / "model.ts"))
        torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.ts"))(x), out)
    # 12 cells, 7 masked: the visible ones come back as they were
    same = to_cells((out == x).float(), [2, 2, 3]).mean(dim=(-1, -2))
    assert int((same == 1).sum()) == 10
    assert int((same < 0.01).sum()) == 14


def test_eval_of_cell_target_has_the_hidden_cells_mean_when_the_decoder_says_zero() -> None:
    network = make().eval()
    torch.nn.init.zeros_(network.decoder.head.weight)
    torch.nn.init.zeros_(network.decoder.head.bias)
    x = torch.randn(1, 1, 32, 32, 32) * 2 + 5
    active = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    active[0, 0, 0, 0, 0] = True
    out = to_cells(network(x, active), [2, 2, 2])
    expected = to_cells(x, [2, 2, 2]).mean(-1, keepdim=True).expand_as(out)
    torch.testing.assert_close(out[~active[:, 0]], expected[~active[:, 0]])


def test_training_beats_predicting_each_cells_mean() -> None:
    network, loss = make(mask_ratio=0.5), MaskedReconstructionLoss()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    image = smooth_image(1)
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(network(image), image)
        value.backward()
        optimizer.step()
    assert value.item() < 0.9


def test_monai_trainer_and_evaluator_run_it() -> None:
    network = make()
    data = DataLoader(Dataset([{"image": image} for image in smooth_image(4)]), batch_size=2)

    def prepare(batch, device=None, non_blocking=False, **_):  # type: ignore[no-untyped-def]
        return 2 * (batch["image"].to(device, non_blocking=non_blocking),)

    losses: list[float] = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), 1e-3),
        loss_function=MaskedReconstructionLoss(network.target),
        prepare_batch=prepare,
    )
    trainer.add_event_handler("ITERATION_COMPLETED", lambda e: losses.append(e.state.output[0]["loss"]))
    trainer.run()
    assert len(losses) == 2
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=network,
        prepare_batch=prepare,
        key_val_metric={"val_mse": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda current, best: current < best,
    )
    evaluator.run()
    assert 0 < evaluator.state.metrics["val_mse"] < 10


def test_bad_arguments_are_refused() -> None:
    for arguments, message in (
        ({"variant": "giant"}, "giant"),
        ({"pretrain_stages": 4}, "neither 5 nor 6"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"target": "cube"}, "neither 'cell' nor 'raw'"),
    ):
        with pytest.raises(ValueError, match=message):
            SparseMaskedAutoencoder(**{"variant": "small", **arguments})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="16 times the mask"):
        make()(torch.randn(1, 1, 40, 32, 32))


def test_an_onnx_export_is_refused_with_the_way_out() -> None:
    network = SparseMaskedAutoencoder(variant="tiny", decoder_width=8).eval()
    with pytest.raises(CaseError, match="whose number follows from the mask; export it as TorchScript"):
        torch.export.export(network, (torch.rand(1, 1, 32, 32, 32),), strict=False)
