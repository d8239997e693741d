"""Weights that carry their settings: what they were trained at travels inside `model.pt` and is compared wherever they load.

The top network of a bundle holds a buffer `settings`, UTF-8 JSON as bytes, so that the file stays a flat dict of tensors
that every client reads. A second file beside the weights could not be replaced together with them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom_networks.errors import CaseError

NAME = "settings"
MEANT = "leave the option out, train into another --ckpt_dir, or pass --force_settings True if it is meant"

logger = logging.getLogger(__name__)


class Settings(dict[str, Any]):
    """Plain values by name, and where they came from.

    Attributes:
        from_file: at least one came out of a file of weights.
        forced: they may differ from those of the weights that are loaded.
    """

    from_file = False
    forced = False


def read_settings(weights: str | Path | Sequence[str | Path] | None) -> dict[str, Any]:
    """Settings inside a file of weights.

        "settings": "$custom_networks.read_settings(@ckpt_path)",
        "spacing": "$@settings.get('spacing', [0.469, 0.469, 5.0])"

    Args:
        weights: a flat state dict, or several of an ensemble.

    Returns:
        Values by name; empty where there is no file, or none in it: loading says later what is wrong with it.

    Raises:
        CaseError: the files of an ensemble differ, or the settings in a file are damaged.
    """
    if weights is None:
        return {}
    if isinstance(weights, (str, Path)):
        return decoded(_buffer(Path(weights)), str(weights))
    found = [read_settings(path) for path in weights]
    for path, other in zip(weights, found, strict=True):
        if other != found[0]:
            names = sorted(k for k in {*other, *found[0]} if other.get(k) != found[0].get(k))
            raise CaseError(
                f"weights {path}",
                f"they were trained with another {', '.join(names)} than {weights[0]}",
                "pass folds of one training",
            )
    return found[0] if found else {}


def check_settings(settings: Mapping[str, Any], force: bool = False, /, **used: Any) -> Settings:
    """Compare what a configuration uses with what the weights say.

        "used_settings": "$custom_networks.check_settings(@settings, @force_settings, spacing=@spacing, …)"

    Args:
        settings: from `read_settings`.
        force: let the configuration win, with a warning.
        used: the values in use, by the names of the settings.

    Returns:
        The values in use, plain, for the network's argument `settings`.

    Raises:
        CaseError: the configuration contradicts the weights.
    """
    plain = Settings({name: _plain(value) for name, value in sorted(used.items())})
    differing = [name for name in plain if name in settings and settings[name] != plain[name]]
    if differing:
        values = "; ".join(f"{name} {_short(plain[name])} for {_short(settings[name])}" for name in differing)
        if not force:
            raise CaseError("settings", f"the weights were trained with other values ({values})", MEANT)
        logger.warning("the weights were trained with other values (%s)", values)
    plain.from_file, plain.forced = bool(settings), bool(force)
    return plain


def check_part(weights: str | Path, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse weights of a part of a network that were trained at other settings than the whole.

    Args:
        weights: file of the part, the organ network of two stages for instance.
        settings: of the whole, from `check_settings`.
        names: of the settings that both share: spacing, orientation, intensities.

    Raises:
        CaseError: they differ.
    """
    theirs = read_settings(weights)
    differing = [name for name in names if name in theirs and theirs[name] != settings[name]]
    if differing:
        values = "; ".join(f"{name} {_short(theirs[name])}, not {_short(settings[name])}" for name in differing)
        raise CaseError(
            f"weights {weights}", f"they were trained with {values}", "train both parts with the same values"
        )


def carry_settings(network: nn.Module, settings: Mapping[str, Any] | None) -> None:
    """Make a network hold its settings and refuse weights of others, whatever `strict` its loader passes.

    Args:
        network: the top network of a bundle, complete.
        settings: from `check_settings`; None leaves the network as it is.
    """
    network._settings_origin = (False, False)  # type: ignore[assignment]
    if settings is None:
        return
    network.register_buffer(NAME, encoded(settings))
    network.register_load_state_dict_pre_hook(_compare)
    forced, from_file = getattr(settings, "forced", False), getattr(settings, "from_file", False)
    network._settings_origin = (bool(forced), bool(from_file))  # type: ignore[assignment]


def check_scriptable(network: nn.Module) -> None:
    """Refuse to export a network whose settings only its weights know: the exported configuration could not find them.

    Args:
        network: any; call it in `__prepare_scriptable__`.

    Raises:
        CaseError: the settings came out of a file.
    """
    if getattr(network, "_settings_origin", (False, False))[1]:
        raise CaseError(
            "export",
            "the configuration takes its settings from model.pt, which an exported network does not bring along",
            "export a release: python -m scripts package",
        )


def _compare(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Pre-hook of `load_state_dict`: names of tensors, then settings."""
    key = prefix + NAME
    own = getattr(module, NAME)
    theirs = {name.removeprefix(prefix) for name in state if name.startswith(prefix)} | {NAME}
    expected = set(module.state_dict())
    differing = sorted(expected ^ theirs)
    if differing:
        raise CaseError(
            "weights",
            f"they belong to another architecture ({len(differing)} tensors are missing or too many, first {differing[0]})",
            "use the bundle and the configuration that they were trained with",
        )
    forced = module._settings_origin[0]  # type: ignore[index]
    if key not in state:
        logger.warning("these weights carry no settings: whether they fit this configuration is not known")
    elif not forced:
        used = decoded(own, "the network")
        check_settings(decoded(state[key], "weights"), **used)
    state[key] = own


def write_settings(weights: str | Path, state: Mapping[str, Any], **more: Any) -> None:
    """A copy to read beside the weights: `model.json` of `model.pt`. No configuration reads it, nothing compares it.

    Args:
        weights: the file of weights, written or about to be.
        state: what it holds; nothing is written for weights without settings.
        more: further plain entries.

    Raises:
        CaseError: it cannot be written.
    """
    if NAME not in state:
        return
    file = Path(weights).with_suffix(".json")
    unfinished = file.with_name(f"{file.name}.tmp")
    content = {"settings": decoded(state[NAME], str(weights)), "versions": _versions(), **more}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise CaseError(f"file {file}", f"it cannot be written ({error})", "choose another folder") from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("custom-networks", "monai", "torch", "numpy"):
        # a vendored copy has no version of its own
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _buffer(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # of an older format or damaged: what loads the weights says so
        return None
    found = content.get(NAME) if isinstance(content, Mapping) else None
    return found if isinstance(found, Tensor) else None


def encoded(settings: Mapping[str, Any]) -> Tensor:
    """Settings as the buffer that a file of weights holds."""
    text = json.dumps(_plain(settings), sort_keys=True)
    return torch.tensor(list(text.encode("utf-8")), dtype=torch.uint8)


def decoded(buffer: Tensor | None, where: str = "") -> dict[str, Any]:
    """Settings out of their buffer; empty for None.

    Raises:
        CaseError: the buffer is damaged.
    """
    if buffer is None:
        return {}
    try:
        found = json.loads(bytes(buffer.cpu().to(torch.uint8).tolist()).decode("utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CaseError(f"weights {where}", "their settings are damaged", "copy or export the file again")
    return found


def _plain(value: Any) -> Any:
    """Lists, dicts, numbers, text and None out of what configurations hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    raise CaseError("settings", f"{value!r} is no plain value", "write numbers, text, lists or maps")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
