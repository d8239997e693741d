"""Words of a command line to the values that a verb's annotations ask for, before anything runs."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import math
import re
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from custom_networks import CaseError

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Values of a function's parameters.

    Text stays text: `2024_11`, `1e3`, `None` and `hash#1` are file names where the annotation is `str`.

    Args:
        function: with annotated parameters.
        words: `--name value`, `--name=value`, `--flag`, `--noflag`, or values in the order of the parameters.

    Returns:
        Parameter to value, of those that are given.

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
    origin = get_origin(hint)
    if origin is Literal:
        if text not in get_args(hint):
            raise CaseError(
                f"option --{name}", f"there is no {text!r}", f"choose {', '.join(map(str, get_args(hint)))}"
            )
        return text
    if origin in {Union, types.UnionType}:
        return _one_of(name, [one for one in get_args(hint) if one is not type(None)], hint, text)
    if _is_mapping(hint):
        return _mapping(name, text)
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
    """A value of a union: none where it may be, a mapping or list where it looks like one, else the first that is neither."""
    single = [one for one in options if get_origin(one) is None or get_origin(one) is Literal]
    mapping = next((one for one in options if _is_mapping(one)), None)
    if type(None) in get_args(hint) and text.lower() == "none" and str not in single and Path not in single:
        return None
    if mapping is not None and (len(options) == 1 or (text.lstrip().startswith("{") and str not in single)):
        return convert(name, mapping, text)
    options = [one for one in options if one is not mapping]
    if len(single) < len(options) and (not single or text.startswith("[") or "," in text):
        return convert(name, next(one for one in options if one not in single), text)
    return convert(name, single[0], text)


def _is_mapping(hint: Any) -> bool:
    return hint is dict or get_origin(hint) in {dict, Mapping}


def _mapping(name: str, text: str) -> dict[str, Any]:
    """`{"epochs": 5}` in JSON or as Python writes it, `{epochs: 5}`, or `epochs=5`."""
    example = f"""write --{name} '{{"epochs": 5}}' or --{name} epochs=5"""
    key, equals, value = text.strip().partition("=")
    if equals and re.fullmatch(r"\w[\w#.-]*", key):
        with suppress(ValueError):
            return {key: json.loads(value)}
        return {key: value}

    twice: list[str] = []

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(one for one, times in Counter(one for one, _ in pairs).items() if times > 1)
        return dict(pairs)

    quoted = re.sub(r"([{,]\s*)([A-Za-z_][\w#.-]*)\s*:", r'\1"\2":', text)
    found: Any = None
    for spelling in (text, quoted):
        with suppress(ValueError, RecursionError):
            found = json.loads(spelling, object_pairs_hook=noted)
            break
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            found = ast.literal_eval(spelling)
            break
    if twice:
        raise CaseError(f"option --{name}", f"it has {twice[0]!r} twice", "name it once")
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found):
        raise CaseError(f"option --{name}", f"{text!r} does not give values by name", example)
    return found


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
