from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.handlers import IgniteMetricHandler, MeanSquaredError, from_engine

from custom_networks import (
    BestModelSaver,
    CaseError,
    ClipGradient,
    MixedPrecisionEvaluator,
    StopAtNaN,
    SurfaceMetric,
    ValidateRegularly,
)
from custom_networks.engines import TrainingEvents


def test_a_rate_that_explodes_ends_with_one_sentence_and_the_good_state(toy, tmp_path):
    run = toy(("a", "b", "c"), rate=0.01)
    trainer = run.resumable(tmp_path, 5)
    StopAtNaN().attach(trainer)

    def explode(engine: Any) -> None:
        if engine.state.epoch == 3:
            run.optimizer.param_groups[0]["lr"] = 1e30

    trainer.add_event_handler(Events.EPOCH_STARTED, explode)
    with pytest.raises(
        CaseError, match=r"training: the loss became (nan|inf) in epoch 3, iteration [23]; what was saved"
    ):
        trainer.run()
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert content["epoch"] == 2
    assert all(value.isfinite().all() for value in content["state"]["network"].values())
    assert not (tmp_path / "final.pt").exists()


def test_weights_that_explode_in_the_last_step_are_not_saved(toy, tmp_path):
    """The loss was finite in every step of the epoch."""
    run = toy(("a",), rate=0.01)
    trainer = run.make(1)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: run.network.weight.data.fill_(float("nan")))
    StopAtNaN().attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: (tmp_path / "saved").touch())
    with pytest.raises(CaseError, match="the weights became infinite or NaN in epoch 1, iteration 1"):
        trainer.run()
    assert not (tmp_path / "saved").exists()


def test_an_overflow_is_passed_over_while_the_scale_can_fall(toy):
    run = toy(("a", "b", "c"))
    losses = iter([float("inf"), 1.0, 1.0])
    trainer = run.make(1, [StopAtNaN()], loss_function=lambda scores, label: scores.mean() * next(losses))
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.run()
    assert run.weights.isfinite().all()
    always = toy(("a",) * 20)
    trainer = always.make(1, [StopAtNaN()], loss_function=lambda scores, label: scores.mean() * float("inf"))
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with pytest.raises(CaseError, match="epoch 1, iteration 10"):
        trainer.run()


def test_clipping_shortens_the_gradient_and_reports_its_length(toy):
    run = toy(("a", "b"))
    trainer = run.make(1, [ClipGradient(0.01)])
    lengths: list[tuple[float, float]] = []

    def measure(engine: Any) -> None:
        after = torch.cat([weight.grad.flatten() for weight in run.network.parameters()]).norm()
        lengths.append((float(engine.state.gradient_norm), float(after)))

    trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, measure)
    trainer.run()
    assert all(before > 0.01 for before, _ in lengths)
    assert [after for _, after in lengths] == pytest.approx([0.01, 0.01], rel=1e-3)
    assert trainer.state.metrics["gradient_norm"] == pytest.approx(sum(before for before, _ in lengths) / 2)


def evaluator(run: Any, handlers: Any = (), **more: Any) -> MixedPrecisionEvaluator:
    return MixedPrecisionEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(run.data)),
        network=run.network,
        key_val_metric={"val_mse": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda current, best: current < best,
        val_handlers=handlers,
        **more,
    )


@pytest.mark.parametrize(
    ("interval", "epochs", "expected"), [(2, 5, [2, 4, 5]), (99, 3, [3]), (3, 3, [3]), (1, 2, [1, 2])]
)
def test_validates_after_the_last_epoch_too(toy, interval, epochs, expected):
    """An interval above the number of epochs would leave no model, without a word."""
    run, validated = toy(), []
    validator = evaluator(run)
    validator.add_event_handler(Events.COMPLETED, lambda engine: validated.append(engine.state.epoch))
    run.make(epochs, [ValidateRegularly(interval, validator)]).run()
    assert validated == expected


def test_best_model_is_the_flat_state_dict_of_the_best_epoch(toy, tmp_path):
    run = toy(rate=0.01)
    saver = BestModelSaver(str(tmp_path), {"model": run.network}, key_metric_negative_sign=True)
    validator = evaluator(run, [saver])
    scores: list[tuple[float, torch.Tensor]] = []
    validator.add_event_handler(
        Events.COMPLETED, lambda engine: scores.append((engine.state.metrics["val_mse"], run.network.weight.clone()))
    )
    trainer = run.make(6, [ValidateRegularly(1, validator)])

    def worsen(engine: Any) -> None:
        if engine.state.epoch == 5:
            run.optimizer.param_groups[0]["lr"] = 2.0

    trainer.add_event_handler(Events.EPOCH_STARTED, worsen)
    trainer.run()
    saver.writer.wait()
    best = min(scores, key=lambda score: score[0])
    assert best[0] < scores[-1][0]
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(content) == {"weight", "bias"}
    assert torch.equal(content["weight"], best[1])
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_length_of_the_gradient_is_the_mean_of_one_epoch_and_of_steps_that_count(toy):
    run = toy(("a", "b", "c"))
    clip = ClipGradient(1.0)
    trainer = run.make(2, [clip])
    found: list[float] = []

    def measure(engine: Any) -> None:
        place = engine.state.iteration - 1
        clip._norms[-1] = torch.tensor([1.0, float("inf"), 3.0, 5.0, 5.0, 5.0][place])

    trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, measure)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: found.append(engine.state.metrics["gradient_norm"])
    )
    trainer.run()
    assert found == [2.0, 5.0]


def test_only_the_first_rank_writes_the_best_model(toy, tmp_path, monkeypatch):
    run = toy()
    saver = BestModelSaver(str(tmp_path), {"model": run.network}, key_metric_negative_sign=True)
    monkeypatch.setattr("custom_networks.handlers.training.process_rank", lambda: 1)
    run.make(1, [ValidateRegularly(1, evaluator(run, [saver]))]).run()
    saver.writer.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_validation_without_any_class_chooses_no_model(toy, tmp_path, caplog):
    """A NaN that was saved first would never be surpassed."""
    run = toy(rate=0.01)
    saver = BestModelSaver(str(tmp_path), {"model": run.network})
    truths = iter([0.0, 0.0, 1.0, 0.0])

    def masks(output: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [torch.zeros(1, 2, 2, 2)], [torch.full((1, 2, 2, 2), next(truths))]

    validator = MixedPrecisionEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(run.data[:1])),
        network=run.network,
        key_val_metric={"val_dice": IgniteMetricHandler(SurfaceMetric("dsc", True), output_transform=masks)},
        val_handlers=[saver],
    )
    weights = {}
    validator.add_event_handler(
        Events.COMPLETED, lambda engine: weights.update({engine.state.epoch: run.network.weight.clone()})
    )
    run.make(4, [ValidateRegularly(1, validator)]).run()
    saver.writer.wait()
    # only the third epoch's value is a number, the worst one that there is
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["weight"], weights[3])
    said = [record.getMessage() for record in caplog.records if "val_dice is NaN" in record.getMessage()]
    assert [text.split(":")[0] for text in said] == ["epoch 1", "epoch 2", "epoch 4"]
