from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from custom_networks.errors import CaseError
from custom_networks.networks import sparse
from custom_networks.networks.encoder import GynBTEncoder, ResidualBlock
from custom_networks.networks.sparse import active_grid, gather, masked_convolve, random_cells, scatter, upsample_cells

SIZE = (16, 8, 16)
CELLS = (4, 2, 4)


def make_encoder(**arguments: object) -> GynBTEncoder:
    torch.manual_seed(1)
    encoder = GynBTEncoder(2, [4, 6, 8, 8], 2, (2, 2, 1), norm="batch", **arguments)  # type: ignore[arg-type]
    for name, parameter in encoder.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return encoder


def mask(kept: list[int]) -> Tensor:
    """A different number of active cells in each sample."""
    active = torch.zeros(len(kept), 32, dtype=torch.bool)
    for i, n in enumerate(kept):
        active[i, torch.randperm(32, generator=torch.Generator().manual_seed(i))[:n]] = True
    return active.view(len(kept), 1, *CELLS)


MASKS = {"mixed": mask([13, 20]), "none masked": mask([32, 32]), "one cell in all": mask([1, 0])}


def reference_norm(x: Tensor, active: Tensor, norm: torch.nn.Module) -> Tensor:
    values = x.permute(0, 2, 3, 4, 1)[active[:, 0]]
    var, mean = torch.var_mean(values, 0, correction=0)
    shape = (1, -1, 1, 1, 1)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * norm.weight.view(shape) + norm.bias.view(shape)


def reference(encoder: GynBTEncoder, x: Tensor, active: Tensor) -> list[Tensor]:
    """Submanifold convolution written as dense convolution times mask, with autograd alone."""
    m = upsample_cells(active, list(SIZE))
    x, out = torch.where(m, x, 0.0), []
    for stage in encoder.stages:
        for block in stage:  # type: ignore[union-attr]
            assert isinstance(block, ResidualBlock)
            m = m[:, :, :: block.stride, :: block.stride, :: block.stride]
            h = F.leaky_relu(reference_norm(block.conv1(x) * m, m, block.norm1), 0.01) * m
            h = reference_norm(block.conv2(h) * m, m, block.norm2)
            x = F.leaky_relu(h + (block.shortcut(x) if block.shortcut is not None else x), 0.01) * m
        out.append(x)
    return out


def run(function: Callable[[Tensor, Tensor], list[Tensor]], encoder: GynBTEncoder, x: Tensor, active: Tensor):  # type: ignore[no-untyped-def]
    encoder.zero_grad()
    x = x.clone().requires_grad_()
    features = function(x, active)
    torch.manual_seed(2)
    sum((f * torch.randn(f.shape)).sum() for f in features).backward()  # type: ignore[union-attr]
    # conv biases before a norm have gradient 0 but for rounding
    grads = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    return [f.detach() for f in features], grads, x.grad


@pytest.mark.parametrize("name", MASKS)
def test_masked_dense_is_a_submanifold_network(name: str) -> None:
    encoder, active = make_encoder().double(), MASKS[name]
    x = torch.randn(2, 2, *SIZE, dtype=torch.float64)
    ours = run(encoder, encoder, x, active)
    theirs = run(lambda a, b: reference(encoder, a, b), encoder, x, active)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_all_active_equals_dense() -> None:
    encoder = make_encoder()
    x = torch.randn(2, 2, *SIZE)
    dense = encoder(x)
    torch.testing.assert_close(encoder(x, MASKS["none masked"]), dense, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_masked_leaks(training: bool) -> None:
    active = MASKS["mixed"]
    x = torch.randn(2, 2, *SIZE)
    hidden = ~upsample_cells(active, list(SIZE)).expand_as(x)
    results = []
    for value in (0.0, 1e30, float("nan")):
        encoder = make_encoder().train(training)
        changed = torch.where(hidden, torch.full_like(x, value), x).requires_grad_()
        features = encoder(changed, active)
        sum(f.square().sum() for f in features).backward()
        assert changed.grad is not None
        assert not changed.grad[hidden].any()
        gradients = [p.grad for p in encoder.parameters()]
        results.append([*(f.detach() for f in features), *gradients, *encoder.buffers(), changed.grad])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_features_are_zero_where_masked() -> None:
    active = MASKS["mixed"]
    for feature in make_encoder()(torch.randn(2, 2, *SIZE), active):
        m = upsample_cells(active, list(feature.shape[2:])).expand_as(feature)
        assert not feature[~m].any()
        assert feature[m].any()


def test_gradcheck_of_gather_and_scatter() -> None:
    grid = active_grid(torch.rand(2, 1, 2, 2, 2) < 0.5, [2, 4, 2])
    dense = torch.randn(2, 3, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(len(grid.voxels), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: gather(d, grid), dense)
    assert torch.autograd.gradcheck(lambda r: scatter(r, grid, torch.zeros(3, dtype=torch.float64)), rows)
    fill = torch.randn(3, requires_grad=True)
    out = scatter(rows.float(), grid, fill)
    out.backward(weights := torch.randn_like(out))
    outside = ~torch.isin(torch.arange(32), grid.voxels)
    torch.testing.assert_close(fill.grad, weights.permute(0, 2, 3, 4, 1).reshape(-1, 3)[outside].sum(0))


@pytest.mark.parametrize(("ratio", "kept"), [(0.6, 179), (0.0, 448), (1.0, 1), (447 / 448, 1)])
def test_random_cells_keep_an_exact_number(ratio: float, kept: int) -> None:
    active = random_cells(3, [7, 8, 8], ratio, torch.Generator().manual_seed(0))
    assert active.shape == (3, 1, 7, 8, 8)
    assert active.flatten(1).sum(1).tolist() == [kept] * 3
    assert torch.equal(active, random_cells(3, [7, 8, 8], ratio, torch.Generator().manual_seed(0)))
    if 1 < kept < 448:
        assert not torch.equal(active[0], active[1])


def test_random_cells_are_uniform() -> None:
    share = random_cells(4000, [2, 2, 2], 0.5, torch.Generator().manual_seed(0)).float().mean(0)
    assert (share - 0.5).abs().max() < 0.05


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        random_cells(1, [2, 2, 2], 1.5)
    with pytest.raises(ValueError, match="in every axis"):
        make_encoder()(torch.randn(2, 2, 16, 8, 20), MASKS["mixed"])
    with pytest.raises(ValueError, match="needs norm='batch'"):
        GynBTEncoder(1, [4, 4], 1, (2,))(torch.randn(1, 1, 4, 4, 4), torch.ones(1, 1, 2, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="'cuda'"):
        make_encoder(backend="cuda")


def test_spconv_that_cannot_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spconv.pytorch", None)
    with pytest.raises(CaseError, match=r"spconv cannot be imported .*masked_dense"):
        make_encoder(backend="spconv")
    monkeypatch.setattr(sparse.importlib.metadata, "version", lambda _: "2.3.8")
    with pytest.raises(CaseError, match="wrong results"):
        make_encoder(backend="spconv")


@pytest.fixture(scope="module")
def spconv_encoder() -> GynBTEncoder:
    pytest.importorskip("spconv.pytorch")
    return make_encoder(backend="spconv")


@pytest.mark.parametrize("name", MASKS)
def test_spconv_equals_masked_dense(name: str, spconv_encoder: GynBTEncoder) -> None:
    dense, active = make_encoder(), MASKS[name]
    spconv = copy.deepcopy(spconv_encoder)
    spconv.load_state_dict(dense.state_dict())
    x = torch.randn(2, 2, *SIZE)
    torch.testing.assert_close(
        run(spconv, spconv, x, active), run(dense, dense, x, active), rtol=1e-3, atol=2e-4 * len(active.nonzero())
    )
    for (key, a), b in zip(spconv.state_dict().items(), dense.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
    spconv.eval(), dense.eval()
    with torch.no_grad():
        torch.testing.assert_close(spconv(x, active), dense(x, active), rtol=1e-4, atol=1e-5)


def test_spconv_equals_masked_dense_under_autocast_and_checkpointing(spconv_encoder: GynBTEncoder) -> None:
    dense, spconv = make_encoder(checkpointing=True), pickle.loads(pickle.dumps(spconv_encoder))
    spconv.load_state_dict(dense.state_dict())
    spconv.checkpointing = True
    x, active = torch.randn(2, 2, *SIZE), MASKS["mixed"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a, b = spconv(x, active), dense(x, active)
    for features in (a, b):
        sum(f.float().square().mean() for f in features).backward()
    for left, right in zip(a, b, strict=True):
        assert (left - right).float().norm() < 0.03 * right.float().norm()
    for left, right in zip(spconv.buffers(), dense.buffers(), strict=True):
        torch.testing.assert_close(left, right, rtol=0.03, atol=0.02)
    pairs = [(p.grad, q.grad) for p, q in zip(spconv.parameters(), dense.parameters(), strict=True) if p.ndim > 1]
    assert all((p - q).norm() < 0.1 * q.norm() for p, q in pairs if p is not None and q is not None)


def test_masked_convolution_keeps_bias_out_of_masked_voxels() -> None:
    grid = active_grid(MASKS["mixed"], list(SIZE))
    weight, bias = torch.zeros(3, 2, 3, 3, 3), torch.ones(3)
    rows = masked_convolve(weight, bias, 1, torch.randn(len(grid.voxels), 2), grid, grid)
    assert rows.shape == (len(grid.voxels), 3)
    assert (rows == 1).all()
