"""Misspelt options of `python -m monai.bundle run`, which takes any option and ignores those that no file knows."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from custom_networks.errors import CaseError


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Refuse an option that is not an id of the configuration files but spelt nearly like one.

    Anything that is not a `monai.bundle run` with JSON files is let pass, and so is an option that resembles none.

    Args:
        arguments: default those of this process.

    Raises:
        CaseError: an option is misspelt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "run" not in words:
        return
    options = _options(words)
    files = _files(options.get("config_file", ""))
    try:
        ids = {name for file in files for name in json.loads(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return
    if not ids:
        return
    from monai.bundle import run

    known = ids | set(inspect.signature(run).parameters)
    for name in options:
        head = re.split("#|::", name)[0]
        near = difflib.get_close_matches(head, sorted(known), n=1, cutoff=0.75)
        if head not in known and near:
            raise CaseError(
                f"option --{name}", f"no such id in {', '.join(map(str, files))}", f"did you mean --{near[0]}"
            )


def _options(words: Sequence[str]) -> dict[str, str]:
    """Name and value of each `--name value` or `--name=value`."""
    found = {}
    for i, word in enumerate(words):
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else (words[i + 1] if i + 1 < len(words) else "")
    return found


def _files(value: str) -> list[Path]:
    try:
        named = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        named = value
    return [Path(str(name)) for name in (named if isinstance(named, (list, tuple)) else [named]) if name]
