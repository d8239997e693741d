"""Words of a command line to the values that a verb's annotations ask for, before anything runs."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from custom_networks import CaseError

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Values of a function's parameters.

    Text stays text: `2024_11`, `1e3`, `None` and `hash#1` are file names where the annotation is `str`. A parameter that is
    annotated `Any` keeps its word, for Fire to read.

    Args:
        function: with annotated parameters.
        words: `--name value`, `--name=value`, `--flag`, `--noflag`, or values in the order of the parameters.

    Returns:
        Parameter to value, of those that are given; words of `Any` parameters are in `Raw`.

    Raises:
        CaseError: an unknown option, an option given twice or without its value, a word too many, a value of the wrong
            type, or a parameter that is missing.
    """
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    found: dict[str, Any] = {}
    waiting, order = list(words), list(parameters)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            name, negated = name.replace("-", "_"), False
            if name not in parameters and name.startswith("no") and hints.get(name[2:]) is bool:
                name, negated = name[2:], True
            if name not in parameters:
                raise _unknown(word.split("=")[0], order)
            if not equals:
                text = _value(name, hints[name], waiting, negated)
        else:
            name = next((one for one in order if one not in found), "")
            if not name:
                raise CaseError(f"word {word!r}", "there is no option left that it could be", "leave it out")
            text, negated = word, False
        if name in found:
            raise CaseError(f"option --{name}", "it is given twice", "give it once")
        found[name] = (not convert(name, hints[name], text)) if negated else convert(name, hints[name], text)
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in found]
    if missing:
        raise CaseError(f"option --{missing[0]}", "it is missing", "add it; `-- --help` shows all options")
    return found


class Raw(str):
    """A word that Fire reads."""


def _unknown(word: str, names: Sequence[str]) -> CaseError:
    options = [f"--{name}" for name in names]
    near = difflib.get_close_matches(word, options, n=1)
    return CaseError(
        f"unknown option {word}",
        f"the options are {' '.join(options)}",
        f"did you mean {near[0]}" if near else "correct it",
    )


def _value(name: str, hint: Any, waiting: list[str], negated: bool) -> str:
    if waiting and not waiting[0].startswith("--") and not negated:
        return waiting.pop(0)
    if hint is bool:
        return "true"
    raise CaseError(f"option --{name}", "its value is missing", "write it after the option")


def convert(name: str, hint: Any, text: str) -> Any:  # noqa: PLR0911  (a return per kind of annotation)
    """One value.

    Args:
        name: of the option.
        hint: its annotation.
        text: as typed. `20%` is 0.2 and `8GB` is 8 where a number may have a fraction.

    Raises:
        CaseError: it is no such value.
    """
    if hint is Any:
        return Raw(text)
    origin = get_origin(hint)
    if origin is Literal:
        if text not in get_args(hint):
            raise CaseError(
                f"option --{name}", f"there is no {text!r}", f"choose {', '.join(map(str, get_args(hint)))}"
            )
        return text
    if origin in {Union, types.UnionType}:
        return _one_of(name, [one for one in get_args(hint) if one is not type(None)], hint, text)
    if origin is not None or hint in {list, tuple}:
        inner = [one for one in get_args(hint) if one is not ...] or [str]
        parts = [part.strip().strip("'\"") for part in text.strip().strip("[]()").split(",") if part.strip()]
        return [convert(name, inner[0], part) for part in parts]
    if hint is bool:
        if text.lower() not in WORDS:
            raise CaseError(f"option --{name}", f"{text!r} is neither true nor false", "write true or false")
        return WORDS[text.lower()]
    if hint is int:
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise CaseError(f"option --{name}", f"{text!r} is not a whole number", "pass for example 2")
        return int(text)
    return _number(name, text) if hint is float else text


def _one_of(name: str, options: list[Any], hint: Any, text: str) -> Any:
    """A value of a union: none where it may be, a list where it looks like one, else the first that is no list."""
    single = [one for one in options if get_origin(one) is None or get_origin(one) is Literal]
    if type(None) in get_args(hint) and text.lower() == "none" and str not in single and Path not in single:
        return None
    if len(single) < len(options) and (not single or text.startswith("[") or "," in text):
        return convert(name, next(one for one in options if one not in single), text)
    return convert(name, single[0], text)


def _number(name: str, text: str) -> float:
    matched = re.fullmatch(r"([+-]?[0-9.]+(?:e[+-]?[0-9]+)?)\s*(%|[GM]i?B)?", text, re.IGNORECASE)
    try:
        value = float(matched.group(1)) if matched else math.nan
    except ValueError:
        value = math.nan
    if matched is None or not math.isfinite(value):
        raise CaseError(f"option --{name}", f"{text!r} is not a number", "pass for example 0.5, 20% or 8GB")
    unit = (matched.group(2) or "").lower()
    return value / 100 if unit == "%" else value / 1024 if unit.startswith("m") else value
