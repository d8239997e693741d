from __future__ import annotations

import pytest

from scripts.benchmarks.measure import Subject, Worker

SPEC = {"network": "pocket", "size": [16, 16, 16], "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def subject() -> Subject:
    subject = Subject(SPEC)
    subject.parameters = subject.prepare()["parameters"]
    return subject


def test_a_step_trains_and_a_forward_pass_does_not(subject: Subject) -> None:
    assert subject.parameters == sum(p.numel() for p in subject.network.parameters())
    weight = next(subject.network.parameters())
    before = weight.detach().clone()
    for measured in (subject.forward(), subject.forward_bf16()):
        assert all(value > 0 for value in measured.values())
    assert (weight == before).all()
    subject.step()
    assert not (weight == before).all()
    # gradients are not the next forward pass's memory
    assert weight.grad is None


def test_memory_and_arithmetic() -> None:
    # in a process of its own: the peak of this one may be that of an earlier test
    with Worker(SPEC) as worker:
        worker.ask("prepare")
        found = worker.ask("memory")
    # the first convolution alone: 16^3 voxels, 27 taps, 32 features, a multiplication and an addition each
    assert found["flops"] > 16**3 * 27 * 32 * 2
    assert found["bytes"] > 0


def test_the_process_answers_and_says_why_not() -> None:
    with Worker({**SPEC, "network": "nobody"}) as worker:
        assert worker.ask("prepare") == {"error": "KeyError: 'nobody'"} or "nobody" in worker.ask("prepare")["error"]
        worker.process.kill()
        assert "ended" in worker.ask("prepare")["error"]
    assert worker.process.poll() is not None
