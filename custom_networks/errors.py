"""The one exception that users of the bundles and scripts see, and how they see it."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class CaseError(ValueError):
    """Bad input, said in one sentence: which case, which file, what is wrong, what to do.

    Args:
        case: name of the case, or of the datalist or configuration where no single case is at fault.
        problem: what is wrong, with the file's path.
        remedy: what the user can do about it.
    """

    def __init__(self, case: str, problem: str, remedy: str) -> None:
        # all three are handed to Exception so that the error survives pickling between processes
        super().__init__(case, problem, remedy)
        self.case, self.problem, self.remedy = case, problem, remedy

    def __str__(self) -> str:
        return f"{self.case}: {self.problem}; {self.remedy}."


def report_case_errors() -> None:
    """Make the interpreter end with a `CaseError`'s sentence alone, without the traceback around it.

    For the first line of a bundle's `initialize`: monai.bundle wraps what its expressions raise, and the sentence would
    stand far above the last line. The environment variable MONAI_DEBUG, as in MONAI, brings the traceback back.

    Raises:
        CaseError: an option of the command line is misspelt, see `check_command_line`.
    """
    # MLflow, where it is asked for, would look up its telemetry host
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    if os.environ.get("MONAI_DEBUG", "").lower() in {"", "0", "false"} and sys.excepthook is not _short:
        global _previous
        _previous, sys.excepthook = sys.excepthook, _short
    check_command_line()


_previous: Callable[[type[BaseException], BaseException, TracebackType | None], Any] = sys.excepthook


def _short(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        _previous(kind, error, traceback)
    else:
        print(f"error: {cause}", file=sys.stderr)


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Refuse an option that no configuration file knows; monai.bundle would ignore it.

    Anything that is not a `monai.bundle run` with JSON files is let pass: a host that calls monai.bundle as a library has
    a command line of its own.

    Args:
        arguments: default those of this process.

    Raises:
        CaseError: an option is no id of the files that the command line and its `args_file` name.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "run" not in words:
        return
    options = _options(words)
    if "args_file" in options:
        try:
            more = json.loads(Path(options["args_file"]).read_text(encoding="utf-8-sig"))
            options = {**{str(name): str(value) for name, value in more.items()}, **options}
        except (OSError, ValueError, AttributeError):
            return
    files = _files(options.get("config_file", ""))
    try:
        ids = {name for file in files for name in json.loads(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return
    if not ids:
        return
    from monai.bundle import run

    # the last three are those of MONAI's experiment tracking
    known = ids | set(inspect.signature(run).parameters) | {"experiment_name", "run_name", "tracking_uri"}
    for name in options:
        head = re.split("#|::", name)[0]
        if head not in known:
            near = difflib.get_close_matches(head, sorted(known), n=1, cutoff=0.7)
            remedy = f"did you mean --{near[0]}" if near else "its files say which ids there are, such as --epochs"
            raise CaseError(f"option --{name}", f"no such id in {', '.join(map(str, files))}", remedy)


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
