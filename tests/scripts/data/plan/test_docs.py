"""What docs/memory.md says agrees with the verbs and with the bundles' READMEs."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from scripts.__main__ import VERBS
from scripts.benchmarks.benchmark import WHAT
from scripts.core.options import parse
from scripts.data.plan.fits import fits
from scripts.data.plan.memory import CONTEXT_BYTES, MARGIN

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs/memory.md").read_text(encoding="utf-8")
STAGES = ("gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy")


def rows(text: str) -> list[str]:
    return re.findall(r"^\| (?:small|base|large|huge) .*\|$", text, flags=re.MULTILINE)


def test_commands_are_understood() -> None:
    lines = re.findall(r"^python -m scripts (.*)$", PAGE, flags=re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["fits", "benchmark", "fits"]
    for line in lines:
        verb, *words = shlex.split(line)
        name, module = (words[0], WHAT[words.pop(0)]) if verb == "benchmark" else (verb, VERBS[verb][0])
        parse(getattr(importlib.import_module(module), name), words)


def test_margin_is_the_codes() -> None:
    assert f"{MARGIN - 1:.0%}".replace("%", " %") + " of the live tensors" in PAGE
    assert f"{CONTEXT_BYTES / 2**30:g} GiB**" in PAGE


def test_readmes_say_the_same() -> None:
    parts = dict(zip(STAGES, re.split(r"`gynbtnet_\w+`, .*patches of", PAGE)[1:], strict=True))
    for name, part in parts.items():
        assert len(rows(part)) == 16
        readme = rows((ROOT / f"bundles/{name}/docs/README.md").read_text(encoding="utf-8"))
        assert len(readme) == 4
        assert set(readme) < set(rows(part)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_tables_are_what_the_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fits(str(ROOT / "bundles" / name), memory_gb=24, all_variants=True)
    part = PAGE.split(f"`{name}`, ")[1]
    assert rows(capsys.readouterr().out) == rows(part)[:16]
