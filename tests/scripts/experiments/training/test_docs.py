"""Verbs, options and files that docs/cross_validation.md names exist."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

from scripts.__main__ import VERBS
from scripts.experiments.training.fold import CHECKPOINTS, RECORD

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs/cross_validation.md").read_text()


def test_commands():
    lines = re.findall(r"^python -m scripts (.*)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"split", "crossval", "organ_masks", "evaluate"}
    for line in lines:
        verb, *rest = shlex.split(line)
        function = getattr(importlib.import_module(VERBS[verb][0]), verb)
        options = {word.removeprefix("--") for word in rest if word.startswith("--")}
        assert options <= set(inspect.signature(function).parameters), line


def test_files_and_options():
    for name in (*CHECKPOINTS.values(), RECORD):
        assert f"foldN/{name}" in PAGE
    for name in re.findall(r"configs/[a-z_]+\.json", PAGE):
        assert (ROOT / "bundles/organ_pocketnet" / name).is_file(), name
    known = {"folds_dir", "dataset_dir", "section", "config_file"}
    for verb in ("crossval", "organ_masks"):
        known |= set(inspect.signature(getattr(importlib.import_module(VERBS[verb][0]), verb)).parameters)
    assert set(re.findall(r"`--([a-z_]+)", PAGE)) <= known
