"""The table of networks: what is built, what is measured, and what is said about a peer that is not there. No times."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from scripts.__main__ import main
from scripts.benchmarks.benchmark import WHAT
from scripts.benchmarks.measure import Worker, _first
from scripts.benchmarks.networks import TARGETS, ratio
from scripts.benchmarks.peers import NETWORKS, _plan


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_answers_at_full_resolution(name: str) -> None:
    entry = NETWORKS[name]
    if importlib.util.find_spec(entry.needs) is None:
        pytest.skip(f"{entry.needs} is not installed (requirements-benchmark.txt)")
    network = entry.build((32, 32, 16)).train()
    assert _first(network(torch.rand(2, 1, 32, 32, 16))).shape == (2, 2, 32, 32, 16)


def test_our_rows_are_the_networks_they_say() -> None:
    count = {
        n: sum(p.numel() for p in NETWORKS[n].build((32, 32, 16)).parameters())
        for n in ("pocket", "pocket_anisotropic", "doubling")
    }
    assert count["pocket_anisotropic"] < count["pocket"] < count["doubling"] / 5
    kernels = [
        tuple(m.kernel_size)
        for m in NETWORKS["pocket_anisotropic"].build((32, 32, 16)).modules()
        if isinstance(m, torch.nn.Conv3d)
    ]
    assert (3, 3, 1) in kernels
    assert (3, 3, 3) in kernels


def test_plan_is_nnunets() -> None:
    """At 128 x 128 x 32 and 0.469 x 0.469 x 5 mm, as nnU-Net 2.8's get_pool_and_conv_props answers."""
    strides, kernels = _plan((128, 128, 32))
    assert strides == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]
    assert kernels == [[3, 3, 1]] * 3 + [[3, 3, 3]] * 3


def test_the_full_resolution_output_is_found_however_wrapped() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert _first({"prediction": a, "deep_supervision": [b]}) is a
    assert _first([a, b]) is a
    assert _first(a) is a


def test_ratios_are_of_rounds_met_together() -> None:
    # the second round was slow for both: medians of each would say 1.0
    rows = {
        "a": {"step": [1.0, 5.0, 1.2], "bytes": 3},
        "b": {"step": [2.0, 10.0, 1.0], "bytes": 4},
        "c": {"missing": "c"},
    }
    assert ratio(rows, "a", "step", "b", "step") == pytest.approx(0.5)
    assert ratio(rows, "a", "bytes", "b", "bytes") == pytest.approx(0.75)
    assert ratio(rows, "a", "step", "c", "step") is None
    assert ratio(rows, "a", "step", "nobody", "step") is None
    assert {t[1] for t in TARGETS} | {t[3] for t in TARGETS} <= set(NETWORKS)


@pytest.mark.slow
def test_one_row_measured_and_a_missing_peer_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = "mist" if importlib.util.find_spec("mist") is None else None
    only = "pocket" + (f",{peer}" if peer else "")
    arguments = ["--size", "16,16,16", "--threads", "1", "--repeats", "2", "--only", only, "--output", str(tmp_path)]
    assert main(["benchmark", "networks", *arguments]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["verb"] == "benchmark networks"
    printed = capsys.readouterr().out
    parameters = sum(p.numel() for p in NETWORKS["pocket"].build((16, 16, 16)).parameters())
    assert f"{parameters:,}" in printed
    assert peer is None or "not installed" in printed
    with (tmp_path / "networks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [r["network"] for r in rows] == ["pocket", "pocket"]
    assert all(float(r["step_s"]) > 0 and float(r["forward_cpu_s"]) > 0 for r in rows)
    assert int(rows[0]["peak_bytes"]) > 0
    # the first convolution alone: 16^3 voxels, 27 taps, 32 features, a multiplication and an addition each
    assert int(rows[0]["flops"]) > 16**3 * 27 * 32 * 2


def test_a_process_that_fails_says_why() -> None:
    with Worker({"network": "nobody", "size": [16, 16, 16], "threads": 1, "device": "cpu"}) as worker:
        assert "nobody" in worker.ask("prepare")["error"]
        worker.process.kill()
        assert "ended" in worker.ask("prepare")["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one of networks"),
        (["network"], "did you mean networks"),
        (["networks", "--thread", "2"], "did you mean --threads"),
        (["networks", "--speed", "2"], "the options are --device"),
        (["networks", "--size", "128"], "three numbers"),
        (["networks", "--size", "8,8,8"], "at least 16"),
        (["networks", "--only", "unet"], "no network"),
        (["networks", "--repeats", "0"], "at least 1"),
        (["networks", "--repeats", "two"], "option --repeats: 'two' is not a whole number"),
        (["pretraining", "--compile", "perhaps"], "neither true nor false"),
        (["loading"], "option --preprocessed: it is missing"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_help_shows_a_benchmarks_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "networks", "--help"]) == 0
    assert "channels_last" in capsys.readouterr().out
    assert main(["benchmark", "--help"]) == 0
    assert "`networks`, `gpu`" in capsys.readouterr().out
    assert set(WHAT) == {"networks", "gpu", "memory", "pretraining", "loading", "preprocessing"}
