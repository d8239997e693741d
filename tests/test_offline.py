"""Nothing leaves the machine: training with MLflow, evaluation, inference and verbs run where every other host is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[1]
BUNDLE = REPO / "bundles/organ_pocketnet"
# in every Python process of a command; what is refused is noted too, as a library may hide that it was
GUARD = """
import os, socket

def guarded(name, place):
    real = getattr(place, name)
    def call(*arguments, **options):
        family = getattr(arguments[0], "family", None)
        target = arguments[-1] if family is not None else arguments[0]
        host = target[0] if isinstance(target, tuple) else target
        host = host.decode() if isinstance(host, bytes) else host
        if family != getattr(socket, "AF_UNIX", "none") and host not in {None, "", "localhost", "127.0.0.1", "::1"}:
            with open(os.environ["REFUSED"], "a") as stream:
                stream.write(f"{name} {host}\\n")
            raise OSError(f"{name} {host} is refused")
        return real(*arguments, **options)
    setattr(place, name, call)

for name in ("connect", "connect_ex"):
    guarded(name, socket.socket)
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    guarded(name, socket)
"""
TINY: dict[str, Any] = {
    "spacing": [3.0, 3.0, 6.0],
    "patch_size": [16, 16, 8],
    "kernel_sizes": [3, 3, 3],
    "strides": [2, 2],
    "features": 4,
    "deep_supervision": 1,
    "epochs": 1,
    "val_interval": 1,
    "num_workers": 0,
    "device": "cpu",
}
COHORT = ["--cases", "4", "--folds", "2", "--test", "1", "--matrix", "32", "--slices", "8", "--workers", "1"]


def run(words: list[str], folder: Path, cwd: Path = REPO) -> str:
    """Output of a command that may reach this machine alone, and what it tried to reach beyond it."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    places = [str(folder / "guard"), str(REPO)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "REFUSED": str(folder / "refused")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return (folder / "refused").read_text() if (folder / "refused").exists() else ""


def bundle(configs: list[str], folder: Path, options: dict[str, Any]) -> list[str]:
    words = ["-m", "monai.bundle", "run", "--config_file", str([f"configs/{name}.json" for name in configs])]
    for name, value in {**TINY, "ckpt_dir": str(folder / "models"), **options}.items():
        words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return words


def test_the_guard_refuses_and_notes(tmp_path: Path) -> None:
    tries = """
import socket, urllib.request
for attempt in (
    lambda: urllib.request.urlopen("http://telemetry.example.org", timeout=5),
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
):
    try:
        attempt()
    except OSError:
        pass
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
"""
    assert run(["-c", tries], tmp_path).split("\n") == [
        "getaddrinfo telemetry.example.org",
        "getaddrinfo 192.0.2.1",
        "",
    ]


def test_verbs_stay_on_this_machine(tmp_path: Path) -> None:
    datalist = str(tmp_path / "data/datalist.json")
    verbs = [
        ["phantom", "--output", str(tmp_path / "data"), *COHORT],
        ["split", datalist, "--folds", "2", "--reset", "true"],
        ["check", datalist, "--output", str(tmp_path / "checked"), "--workers", "1"],
        ["plan", datalist, str(BUNDLE), "--output", str(tmp_path / "plan.json")],
    ]
    code = f"from scripts.__main__ import main\nfor words in {verbs}:\n    assert main(words) == 0, words\n"
    assert run(["-c", code], tmp_path) == ""
    assert (tmp_path / "plan.json").exists()


@pytest.mark.slow
def test_training_with_mlflow_evaluation_and_inference_stay_on_this_machine(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run(["-m", "scripts", "phantom", "--output", str(data), *COHORT], tmp_path) == ""
    words = bundle(["train", "mlflow"], tmp_path, {"dataset_dir": str(data), "output_dir": str(tmp_path / "out")})
    assert run(words, tmp_path, BUNDLE) == ""
    assert (tmp_path / "out/mlflow.db").exists()
    scored = {"dataset_dir": str(data), "section": "testing", "output_dir": str(tmp_path / "scored")}
    assert run(bundle(["train", "evaluate"], tmp_path, scored), tmp_path, BUNDLE) == ""
    # no option of training alone
    shape = {name: value for name, value in TINY.items() if name not in {"epochs", "val_interval"}}
    options = {**shape, "ckpt_dir": str(tmp_path / "models")}
    words = ["-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    for name, value in {**options, "dataset_dir": str(data / "images"), "output_dir": str(tmp_path / "pred")}.items():
        words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    assert run(words, tmp_path, BUNDLE) == ""
    assert list((tmp_path / "pred").rglob("*.nii.gz"))
    again = ["evaluate", str(data / "datalist.json"), str(tmp_path / "scored/predictions"), str(tmp_path / "page")]
    assert run(["-m", "scripts", *again, "--workers", "1"], tmp_path) == ""
