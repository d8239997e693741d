"""What docs/quality.md names exists."""

import importlib
import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path

from scripts.__main__ import VERBS
from scripts.experiments.quality.model import LEAST_CASES, LEAST_OF_A_KIND
from scripts.experiments.quality.signs import METAL_HU, REACH_MM, Signs

PAGE = (Path(__file__).resolve().parents[4] / "docs/quality.md").read_text()


def test_verbs_and_options() -> None:
    lines = re.findall(r"^python -m scripts (.*)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        verb, *rest = shlex.split(line)
        function = getattr(importlib.import_module(VERBS[verb][0]), verb)
        options = {word.removeprefix("--") for word in rest if word.startswith("--")}
        assert options <= set(inspect.signature(function).parameters), line


def test_signs_and_numbers() -> None:
    table = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert table == {f.name for f in fields(Signs)} - {"structure", "ml"}
    assert f"{METAL_HU:g} HU within {REACH_MM:g} mm" in PAGE
    assert f"fewer than {LEAST_CASES} cases" in PAGE
    assert LEAST_OF_A_KIND == 5
    assert "fewer than five of either kind" in PAGE
