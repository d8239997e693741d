"""How `python -m monai.bundle` ends where its input is refused; a host that uses MONAI as a library is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom_networks.options import report_case_errors

BUNDLE = Path(__file__).parents[2] / "bundles/organ_pocketnet"
RUN = ["run", "--config_file", "['configs/train.json','configs/small.json']"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epohcs", "3"], "error: option --epohcs: no such id in "),
        (["--spacing", "[1,1]"], "error: option --spacing: [1, 1] is not three numbers above 0; pass mm of the three"),
    ],
)
def test_a_bundle_ends_with_the_sentence_and_exit_code_2(words: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", *RUN, *words],
        cwd=BUNDLE,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MONAI_DEBUG": ""},
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(sentence)
    assert "Traceback" not in done.stderr


def test_a_host_keeps_its_hook_and_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BUNDLE)
    monkeypatch.setattr(sys, "argv", ["host", *RUN, "--port", "8000"])
    before = sys.excepthook
    report_case_errors()
    assert sys.excepthook is before


def test_mlflow_is_told_to_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")
    report_case_errors()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
