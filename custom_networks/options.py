"""Options of a bundle's command line: unknown ids, values that its expressions would stumble over, and how refusals end it."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from custom_networks.errors import CaseError


def check_options(**options: Any) -> None:
    """Refuse values that a bundle cannot be run with, in the first lines of `initialize`.

    The command line of MONAI makes numbers of digits and words of `false`; without this check a word is taken for true, and
    the rest ends in a traceback far away from its cause.

    Args:
        options: value by name of the option; its name says what it must be.

    Raises:
        CaseError: a value is of another type, or out of range.
    """
    for name, value in options.items():
        wanted, fits, remedy = _KINDS[name]
        if not fits(value):
            raise CaseError(f"option --{name}", f"{value!r} is {wanted}", remedy)


Kind = tuple[str, Callable[[Any], bool], str]


def _whole(least: int, or_none: bool = False) -> Kind:
    def fits(value: Any) -> bool:
        return (value is None and or_none) or (_is_whole(value) and value >= least)

    return f"not a whole number of at least {least}", fits, f"pass for example {max(least, 2)}"


def _number(least: float, most: float = math.inf, open_ends: bool = False, wanted: str = "") -> Kind:
    def fits(value: Any) -> bool:
        return _is_number(value) and (least < value < most if open_ends else least <= value <= most)

    return wanted or f"not a number from {least:g} to {most:g}", fits, "correct it"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and str(value) != ""


def _is_device(value: Any) -> bool:
    import torch

    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        return False
    return not isinstance(value, bool | int)


def _three(each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and len(value) == 3 and all(each(v) and v > 0 for v in value)


_SWITCH: Kind = ("neither True nor False", lambda value: isinstance(value, bool), "write it with a capital letter")
_PATH: Kind = ("not a path", _is_path, "write a name of digits alone with ./ before it")
_POSITIVE = _number(0, open_ends=True, wanted="not a number above 0")
_SHARE = _number(0, 1)
_TRACKERS = ("tensorboard", "mlflow", "none")

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        [
            *("amp", "check_data", "compile", "cudnn_benchmark", "checkpointing", "early_stop", "resume", "contain"),
            *("force_settings", "allow_training_cases"),
        ],
        _SWITCH,
    ),
    **dict.fromkeys(["dataset_dir", "ckpt_dir", "ckpt_path", "output_dir"], _PATH),
    **dict.fromkeys(
        [
            *("epochs", "batch_size", "val_interval", "iterations", "sw_batch_size", "accumulation"),
            *("max_batch_per_gpu", "early_stop_patience"),
        ],
        _whole(1),
    ),
    **dict.fromkeys(["seed", "num_workers", "warmup_epochs"], _whole(0)),
    **dict.fromkeys(["learning_rate", "gradient_clip"], _POSITIVE),
    **dict.fromkeys(["weight_decay"], _number(0, wanted="not a number of at least 0")),
    **dict.fromkeys(["foreground_ratio", "cache_rate", "zoom_probability"], _SHARE),
    **dict.fromkeys(
        ["val_overlap", "overlap"],
        ("not a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1, "pass for example 0.5"),
    ),
    "val_cases": _whole(1, or_none=True),
    "fold": (
        "not a fold",
        lambda value: _is_whole(value) and value >= -1,
        "pass its number from 0 on, or -1 to train on all cases",
    ),
    "spacing": ("not three numbers above 0", _three(_is_number), 'pass mm of the three axes, such as "[0.5,0.5,3.0]"'),
    "patch_size": (
        "not three whole numbers above 0",
        _three(_is_whole),
        'pass voxels of the three axes, such as "[128,128,32]"',
    ),
    "tracker": (f"not one of {', '.join(_TRACKERS)}", lambda value: value in _TRACKERS, "choose one of them"),
    "device": ("not a device", _is_device, "pass cpu, cuda or cuda:0"),
}


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Refuse an option that no configuration file knows, which monai.bundle would ignore, and a `#` that it would change.

    Anything that is not a `monai.bundle run` with JSON files is let pass.

    Args:
        arguments: default those of this process.

    Raises:
        CaseError: an option is no id of the files that the command line and its `args_file` name, or its value holds `#`.
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
    own = set(inspect.signature(run).parameters) | {"experiment_name", "run_name", "tracking_uri"}
    for name, value in options.items():
        head = re.split("#|::", name)[0]
        if head not in ids | own:
            near = difflib.get_close_matches(head, sorted(ids | own), n=1, cutoff=0.7)
            remedy = f"did you mean --{near[0]}" if near else "its files say which ids there are, such as --epochs"
            raise CaseError(f"option --{name}", f"no such id in {', '.join(map(str, files))}", remedy)
        # MONAI takes # in any text for the step from an id to one inside it
        if head not in own and "#" in value and not re.search("[@%$]", value):
            changed = value.replace("#", "::")
            raise CaseError(
                f"option --{name}", f"MONAI would read {value} as {changed}", "choose a name without #, or link to it"
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


def report_case_errors() -> None:
    """Let `python -m monai.bundle` end with a `CaseError`'s sentence alone and exit code 2, as the verbs of scripts do.

    For the first line of a bundle's `initialize`. MONAI's command line has no place to catch what a configuration raises:
    it wraps it in errors of its own, and the sentence would stand far above the last line. The interpreter's hook for
    what nobody caught is the one place that sees errors of `initialize`, of `run` and of worker processes alike. It is set
    in a process of that command line only: a host that uses monai.bundle as a library keeps its own hook and command
    line. The environment variable MONAI_DEBUG, as in MONAI, brings the traceback back.

    Raises:
        CaseError: an option of the command line is misspelt, see `check_command_line`.
    """
    # MLflow, where it is asked for, would look up its telemetry host
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    started = getattr(sys.modules.get("__main__"), "__spec__", None)
    if started is None or started.name != "monai.bundle.__main__":
        return
    if os.environ.get("MONAI_DEBUG", "").lower() in {"", "0", "false"}:
        sys.excepthook = _end_with_sentence
    check_command_line()


def _end_with_sentence(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {cause}", file=sys.stderr)
        raise SystemExit(2)
