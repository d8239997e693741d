import io
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.training import bundle_run as module
from scripts.experiments.training.bundle_run import bundle_command, run_bundle

ORGAN = Path(__file__).resolve().parents[4] / "bundles/organ_pocketnet"
TRAIN = ["configs/train.json"]


def test_the_command_is_what_a_user_would_type():
    words = bundle_command(
        ORGAN, [*TRAIN, "configs/small.json"], {"spacing": [1, 2, 3], "dataset_dir": "d", "resume": False}
    )
    assert words[3:] == [
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "['configs/train.json','configs/small.json']",
        "--logging_file",
        "configs/logging.conf",
        "--spacing",
        "[1, 2, 3]",
        "--dataset_dir",
        "d",
        "--resume",
        "False",
    ]
    parallel = bundle_command(ORGAN, TRAIN, {}, processes=2)
    assert "--nproc_per_node=2" in parallel
    assert parallel[parallel.index("torch.distributed.run") + 3 :][:2] == ["-m", "monai.bundle"]


def test_a_failed_run_says_why_and_its_log_does(tmp_path, capfd):
    log = tmp_path / "log.txt"
    log.write_text("of an earlier run\n")
    sentence = r"organ_pocketnet: the run ended with status 2 \(datalist .*nowhere\.json.*\); see .*log\.txt"
    with pytest.raises(CaseError, match=sentence):
        run_bundle(ORGAN, TRAIN, {"datalist": str(tmp_path / "nowhere.json")}, log=log)
    shown = capfd.readouterr()
    assert "error: datalist" in shown.err
    assert shlex.split(shown.out.splitlines()[0])[:2] == ["$", "cd"]
    lines = log.read_text().splitlines()
    assert lines[0] == "of an earlier run"
    assert "monai.bundle run" in lines[1]
    assert any(line.startswith("error: datalist") for line in lines)


def test_progress_bars_are_shown_and_not_logged(capsys):
    bars = "\rtrain:   0%|          | 0/2 [00:00<?, ?it/s]\rtrain: 100%|████| 2/2 [00:01<00:00, 1.6it/s]\n"
    log = io.StringIO()
    errors = io.TextIOWrapper(io.BytesIO(f"one warning\n{bars}error: it is so.\n".encode()), "utf-8", newline="")
    assert module._copied(errors, log) == "it is so"
    assert log.getvalue() == "one warning\nerror: it is so.\n"
    assert "100%|████|" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_run_ends_with_its_parent(tmp_path):
    beat = tmp_path / "beat"
    child = f"import time, pathlib\nwhile True:\n    pathlib.Path({str(beat)!r}).touch(); time.sleep(0.02)"
    launch = Path(module.__file__).with_name("with_parent.py")
    parent = (
        f"import os, subprocess, sys; subprocess.run([sys.executable, {str(launch)!r}, str(os.getpid()), "
        f"sys.executable, '-c', {child!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + 20
    while not beat.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert beat.is_file()
    process.kill()
    process.wait()
    time.sleep(0.3)
    last = beat.stat().st_mtime_ns
    time.sleep(0.3)
    assert beat.stat().st_mtime_ns == last


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_program_does_not_begin_without_its_parent():
    launch = Path(module.__file__).with_name("with_parent.py")
    done = subprocess.run(
        [sys.executable, str(launch), str(os.getppid()), "true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the parent ended" in done.stderr
