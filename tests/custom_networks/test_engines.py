from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents

from custom_networks import (
    CaseError,
    ClipGradient,
    MixedPrecisionEvaluator,
    choose_fastest_kernels,
    mixed_precision_dtype,
    share_batch,
    validation_subset,
)
from custom_networks.engines import TrainingEvents

NAMES = ("a", "b", "c", "d", "e", "f")


def fused(weights: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=lr, fused=True)


def trained(toy: Any, scale: float | None = None, clip: float | None = 0.1, **more: Any) -> tuple[Any, list[float]]:
    """Train for two epochs; gives the toy and the gradients' norms as clipping saw them."""
    run, norms = toy(NAMES, optimizer=fused), []
    handlers = [] if clip is None else [ClipGradient(clip)]
    trainer = run.make(2, handlers, **more)
    if scale is not None:
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    if clip is not None:
        trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, lambda e: norms.append(float(e.state.gradient_norm)))
    trainer.run()
    return run, norms


@pytest.mark.parametrize("scale", [2.0**16, 2.0**24])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_loss_scale_changes_nothing(toy, scale, accumulation):
    """MONAI's trainer hands a fused optimizer gradients times the scale: clipping them leaves almost nothing to learn."""
    plain, norms = trained(toy, accumulation_steps=accumulation)
    scaled, seen = trained(toy, scale, accumulation_steps=accumulation)
    assert seen == pytest.approx(norms, rel=1e-5)
    assert max(norms) > 0.1  # clipping has something to do
    torch.testing.assert_close(scaled.weights, plain.weights, rtol=1e-5, atol=1e-6)
    assert (plain.weights - toy().weights).norm() > 0.05


@pytest.mark.parametrize("scale", [None, 2.0**16])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_fused_optimizer_takes_the_same_steps(toy, kind, scale):
    """The scaler divides its scale out before clipping, so that the fused kernel does not divide again."""
    runs = []
    for fuse in (False, True):
        run = toy(NAMES, optimizer=lambda weights, lr, fuse=fuse: kind(weights, lr=lr, fused=fuse))
        trainer = run.make(3, [ClipGradient(0.1)])
        if scale is not None:
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.run()
        runs.append(run.weights)
    torch.testing.assert_close(runs[1], runs[0], rtol=1e-5, atol=1e-6)
    assert (runs[0] - toy().weights).norm() > 0.05


def test_bfloat16_goes_without_a_scale_and_learns_the_same(toy):
    plain, norms = trained(toy)
    mixed, seen = trained(toy, amp=True, amp_dtype=torch.bfloat16)
    assert not mixed.trainer.scaler.is_enabled()
    assert seen == pytest.approx(norms, rel=0.05)
    moved = (plain.weights - toy().weights).norm()
    assert (mixed.weights - plain.weights).norm() < 0.05 * moved


def test_float16_is_scaled_and_learns_the_same(toy):
    plain, norms = trained(toy)
    assert toy().make(amp=True, amp_dtype=torch.float16).scaler.get_scale() == 2.0**16
    # where no step overflows
    mixed, seen = trained(toy, 2.0**10, amp=True, amp_dtype=torch.float16)
    assert seen == pytest.approx(norms, rel=0.05)
    moved = (plain.weights - toy().weights).norm()
    assert (mixed.weights - plain.weights).norm() < 0.05 * moved


def test_network_runs_in_half_precision_and_the_loss_does_not(toy):
    for dtype in (torch.bfloat16, torch.float16):
        seen: dict[str, torch.dtype] = {}
        run = toy()

        def loss(scores: torch.Tensor, label: torch.Tensor, seen: dict[str, torch.dtype] = seen) -> torch.Tensor:
            seen["loss"] = scores.dtype
            return torch.nn.functional.mse_loss(scores.float(), label)

        trainer = run.make(1, amp=True, amp_dtype=dtype, loss_function=loss)
        trainer.add_event_handler(
            IterationEvents.FORWARD_COMPLETED,
            lambda engine, seen=seen: seen.update(network=engine.state.output["pred"].dtype),
        )
        trainer.run()
        assert seen == {"network": dtype, "loss": torch.float32}
        run.make(1, amp=True, amp_dtype=dtype, loss_function=loss, loss_in_float32=False)
        run.trainer.run()
        assert seen["loss"] == dtype


def test_a_step_that_overflows_is_skipped(toy):
    run = toy(("a",), optimizer=fused)
    trainer = run.make(1)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    start = run.weights
    trainer.run()
    assert torch.equal(run.weights, start)
    assert trainer.scaler.get_scale() == 2.0**126


@pytest.mark.parametrize("names", [NAMES, NAMES[:5]])
def test_accumulated_steps_are_the_mean_of_their_micro_batches(toy, names):
    """Also at the end of an epoch, where fewer are left."""
    run = toy(names)
    expected, optimizer = toy().network, torch.optim.SGD
    step = optimizer(expected.parameters(), lr=0.05)
    for start in range(0, len(names), 4):
        part = run.data[start : start + 4]
        step.zero_grad()
        images, labels = (torch.stack([case[key] for case in part]) for key in ("image", "label"))
        torch.nn.functional.mse_loss(expected(images), labels).backward()
        step.step()
    steps: list[int] = []
    trainer = run.make(1, accumulation_steps=4)
    trainer.add_event_handler(TrainingEvents.GRADIENTS_READY, lambda engine: steps.append(engine.state.iteration))
    trainer.run()
    assert steps == [4, len(names)]
    weights = torch.cat([weight.detach().flatten() for weight in expected.parameters()])
    torch.testing.assert_close(run.weights, weights, rtol=1e-5, atol=1e-6)


def test_end_is_told_after_an_error_too(toy):
    ended: list[bool] = []
    trainer = toy().make(1, loss_function=lambda scores, label: 1 / 0)
    trainer.add_event_handler(TrainingEvents.ENDED, lambda engine: ended.append(True))
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert ended == [True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_validation_autocasts_on_its_own_device(toy, dtype):
    from monai.data import DataLoader, Dataset

    run, seen = toy(), []
    run.network.register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    for amp in (True, False):
        MixedPrecisionEvaluator(
            device="cpu",
            val_data_loader=DataLoader(Dataset(run.data[:1])),
            network=run.network,
            amp=amp,
            amp_dtype=dtype,
        ).run()
    assert seen == [dtype, torch.float32]


def test_precision_follows_the_hardware(monkeypatch):
    assert mixed_precision_dtype("cpu") == torch.bfloat16
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported, **_: supported)
        # MONAI Label hands the device over as a string
        assert mixed_precision_dtype("cuda") == mixed_precision_dtype(torch.device("cuda:1")) == dtype


def test_fastest_kernels_or_the_same_ones(monkeypatch):
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, False)
    choose_fastest_kernels(True)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    choose_fastest_kernels(False)
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)


def test_a_batch_is_shared_evenly_or_not_at_all():
    assert [share_batch(24, ranks) for ranks in (1, 2, 3, 4, 6, 8)] == [24, 12, 8, 6, 4, 3]
    with pytest.raises(
        CaseError, match="batch of 24: it cannot be shared evenly among 5 processes; start 1, 2, 3, 4, 6"
    ):
        share_batch(24, 5)


def test_validation_subset_is_fixed_and_spread():
    cases = [{"case": str(i)} for i in range(10)]
    assert validation_subset(cases, None) == cases
    assert validation_subset(cases, 99) == cases
    assert [case["case"] for case in validation_subset(cases, 3)] == ["0", "3", "6"]
    assert [len(validation_subset(cases, n)) for n in range(1, 11)] == list(range(1, 11))
    for wrong in (0, -1, 2.5, "3", True):
        with pytest.raises(CaseError, match="option --val_cases"):
            validation_subset(cases, wrong)


@pytest.mark.parametrize(
    ("image", "stride", "more", "refused"),
    [
        ((2, 5, 4), 1, {"amp": True}, True),
        ((5, 2, 2), 1, {"amp": True}, False),
        ((3, 2, 2), 1, {"amp": True}, False),
        ((2, 4, 4), 2, {"amp": True}, False),
        ((2, 4, 4), 1, {"amp": True, "amp_dtype": torch.float16}, False),
        ((2, 4, 4), 1, {"amp": False}, False),
    ],
)
def test_what_torch_computes_wrongly_in_bfloat16_is_refused(toy, image, stride, more, refused):
    """Gradients of whatever was in memory: never a number that a training would notice."""
    run = toy(("a",))
    run.network = torch.nn.Conv3d(1, 16, 3, stride=stride, padding=1)
    run.optimizer = torch.optim.SGD(run.network.parameters(), lr=0.1)
    run.data = [{"image": torch.randn(1, *image), "label": torch.zeros(1)}]
    trainer = run.make(1, loss_function=lambda scores, label: scores.mean(), **more)
    if refused:
        with pytest.raises(
            CaseError, match=r"^training: in bfloat16 on a CPU .* over \(2, 5, 4\) voxels; pass --amp False"
        ):
            trainer.run()
    else:
        trainer.run()
