"""A study in MLflow: what a client reads back from a database and from a server, and what happens when neither is there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from custom_networks import CaseError
from scripts.core.manifest import file_digest
from scripts.experiments.study.tracking import address, curves

LOG = """2026-11-24 16:02:53,465 - INFO - Epoch[1] Metrics -- train_loss: 0.7574 
2026-11-24 16:02:54,465 - INFO - Epoch[2] Metrics -- val_dice: 0.1000 val_hd95_mm: nan 
2026-11-24 16:02:55,465 - INFO - Epoch[2] Metrics -- train_loss: 0.7000 
2026-11-24 16:02:56,465 - INFO - Epoch[3] Metrics -- train_loss: 0.6000 
2026-11-24 16:03:53,465 - INFO - Epoch[2] Metrics -- train_loss: 0.6961 
"""  # noqa: W291


@pytest.fixture
def small_study(written, bundles):
    """Two arms in one stage; nothing but folds 0 and 1."""
    arm = {"bundle": "tumor_pocketnet", "configs": ["one_network.json"]}
    written.content |= {"stages": {}, "folds": [0, 1]}
    written.content["arms"] = {"good": arm, "off/by one": {**arm, "overrides": {"seed": 1}}}
    return written


def runs_of(uri: str) -> tuple[MlflowClient, Run, dict[str, Run]]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("two stages")
    found = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    return client, parent, {run.info.run_name: run for run in children}


def check(uri: str, out: Path, folder: Path) -> None:
    """Read a study back and compare it with the output."""
    client, parent, children = runs_of(uri)
    assert sorted(children) == [f"{arm}, fold {i}" for arm in ("good", "off/by one") for i in (0, 1)]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "Which?"
    assert parent.data.tags["version.torch"] == torch.__version__
    # a box of 8 voxels moved by 0 and by 1
    assert parent.data.metrics["out_of_fold/good/organ/dsc"] == 1
    assert parent.data.metrics["out_of_fold/off_2Fby_20one/organ/dsc"] == pytest.approx(7 / 8)
    child = children["off/by one, fold 1"]
    table = pd.read_csv(out / "evaluation/out_of_fold/off%2Fby%20one/cases.csv")
    own = {case["case"] for case in json.loads((out.parent / "plain/datalist.json").read_text())["training"]}
    assert set(table["case"]) < own
    assert child.data.metrics["organ/dsc"] == pytest.approx(7 / 8)
    assert {"organ/nsd", "organ/hd95_mm", "organ/missed", "tumor/dsc", "mean over classes/dsc"} <= set(
        child.data.metrics
    )
    assert child.data.params["overrides.seed"] == "1"
    assert child.data.params["bundle"] == "tumor_pocketnet"
    assert child.data.params["configs"] == "one_network.json"
    made_from = json.loads((out / "arms/off%2Fby%20one/fold1/training.json").read_text())["inputs"]
    assert child.data.tags["code.custom_networks"] == made_from["code"]["custom_networks"]
    for run, name, source in (
        (parent, "tables/answer.txt", out / "tables/answer.txt"),
        (parent, "report.html", out / "report.html"),
        (child, "model/final.pt", out / "arms/off%2Fby%20one/fold1/final.pt"),
    ):
        local = client.download_artifacts(run.info.run_id, name, str(folder))
        assert Path(local).read_bytes() == source.read_bytes()
    config = json.loads(Path(client.download_artifacts(child.info.run_id, "config.json", str(folder))).read_text())
    # of the overrides, of one_network.json and of train.json
    assert (config["seed"], config["fold"]) == (1, 1)
    assert "network_def" in config


def test_given_again_it_is_the_same_runs(small_study, bundles, tmp_path: Path) -> None:
    uri, out = f"sqlite:///{tmp_path / 'out/mlflow.db'}", tmp_path / "out"
    # where nothing is said, the database lies in the output
    assert small_study.run("--tracking_uri", "") == 0
    check(uri, out, tmp_path)
    assert Path(runs_of(uri)[1].info.artifact_uri.removeprefix("file://")).is_relative_to(out)
    (out / "arms/good/fold0/log.txt").write_text(LOG)
    before = {name: run.info.run_id for name, run in runs_of(uri)[2].items()}
    # trained anew from the same, the weights are others: scores and curves follow
    weights, record = out / "arms/good/fold0/final.pt", out / "arms/good/fold0/training.json"
    torch.save({"shift": torch.tensor(2)}, weights)
    content = json.loads(record.read_text())
    content["weights"]["final.pt"] = file_digest(str(weights), "final.pt")
    record.write_text(json.dumps(content))
    assert small_study.run("--tracking_uri", uri) == 0
    client, _, children = runs_of(uri)
    assert {name: run.info.run_id for name, run in children.items()} == before
    steps = client.get_metric_history(before["good, fold 0"], "train_loss")
    assert [(one.step, one.value) for one in steps] == [(1, 0.7574), (2, 0.6961)]
    assert children["good, fold 0"].data.metrics["organ/dsc"] == pytest.approx(6 / 8)
    assert children["good, fold 1"].data.metrics["organ/dsc"] == 1
    # another study file is another study
    small_study.content["draws"] = 99
    assert small_study.run("--tracking_uri", uri) == 0
    experiment = client.get_experiment_by_name("two stages").experiment_id
    parents = [r for r in client.search_runs([experiment]) if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/served"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, cwd=tmp_path)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_server(small_study, server: str, tmp_path: Path) -> None:
    assert small_study.run("--tracking_uri", server) == 0
    check(server, tmp_path / "out", tmp_path)
    assert small_study.run("--tracking_uri", server) == 0
    check(server, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out/mlflow.db").exists()


def test_a_server_that_is_not_there_costs_no_training(small_study, bundles, capsys, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert small_study.run("--tracking_uri", "http://127.0.0.1:9") == 1
    text = capsys.readouterr().out
    assert text.count("MLflow at http://127.0.0.1:9: the study could not be written") == 1
    assert "Traceback" not in text
    assert (small_study.folder / "out/tables/answer.txt").is_file()
    assert len(bundles.calls) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("localhost:5000", "'localhost:5000' is no address; pass for example http://host:5000"),
        ("ftp://host/x", "is no address"),
        ("http://me:secret@host", "it holds a password, which run.json would keep; set MLFLOW_TRACKING_USERNAME"),
        ("sqlite:////nowhere/at/all/x.db", "the folder /nowhere/at/all does not exist; make it"),
    ],
)
def test_no_address(uri: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="option --tracking_uri") as raised:
        address(uri, tmp_path)
    assert sentence in str(raised.value)
    assert "secret" not in str(raised.value)


def test_curves_of_an_interrupted_training(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(LOG)
    found = curves(tmp_path / "log.txt")
    assert found["train_loss"] == {1: 0.7574, 2: 0.6961}
    assert found["val_dice"] == {2: 0.1}
    assert curves(tmp_path / "none.txt") == {}
