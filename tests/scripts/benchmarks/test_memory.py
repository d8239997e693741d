"""What `benchmark memory` puts side by side, at a small size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from custom_networks.errors import CaseError
from scripts.benchmarks import memory as module
from scripts.benchmarks.memory import MARK, memory, step_of


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_allocated_is_what_is_predicted_and_resident_is_above(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"bundle": "organ_pocketnet", "work": "training", "batch": 2, "threads": 2, "small": True}
    monkeypatch.setattr(sys, "argv", ["memory", json.dumps(spec)])
    module.main()
    found = json.loads(capsys.readouterr().out.removeprefix(MARK))
    assert step_of("organ_pocketnet", small=True).training_peak(2) == pytest.approx(found["allocated"], rel=0.1)
    # a process that has run other tests grows by less: its allocator holds freed memory
    assert found["resident"] > 0.3 * found["allocated"]


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"allocated": 100 * 2**20, "resident": 130 * 2**20}
    monkeypatch.setattr(module, "_in_a_process", lambda spec: measured)
    monkeypatch.setattr(module, "SIZES", {"organ_pocketnet": {}})
    assert memory(batch=1, small=True, output=str(tmp_path)) == 0
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [row["work"] for row in rows] == ["training", "inference"]
    step = step_of("organ_pocketnet", small=True)
    assert rows[1]["predicted MiB"] == round(step.inference_peak(1) / 2**20)
    assert rows[0]["resident - allocated MiB"] == 30
    assert "32 x 32 x 32" in capsys.readouterr().out


def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nRuntimeError: no memory\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: ended)
    with pytest.raises(CaseError, match="organ_pocketnet: RuntimeError: no memory; free memory, or pass --small True"):
        module._in_a_process({"bundle": "organ_pocketnet", "threads": 2})


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    assert memory(batch=1, small=True, output=str(tmp_path)) == 0
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert len(rows) == 6
    assert all(row["resident MiB"] > 0 for row in rows)
