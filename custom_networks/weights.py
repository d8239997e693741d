"""Loading of weights, with one clear sentence when a file does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom_networks.errors import CaseError


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a flat state dict.

    Args:
        path: a file that `torch.save` wrote.

    Returns:
        Tensors by name.

    Raises:
        CaseError: the file is missing, damaged, or holds something else than tensors by name.
    """
    file = Path(path)
    name = f"weights {file}"
    if not file.is_file():
        raise CaseError(name, "the file does not exist", "train first or pass the path of trained weights")
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise CaseError(name, "it is damaged or not a file of weights", "train again or copy the file again") from error
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CaseError(name, "it is not a flat state dict", "pass the model.pt of a bundle, not a resume checkpoint")
    return dict(content)


def load_weights(network: nn.Module, path: str | Path, part: str = "") -> None:
    """Load all weights of a network, or fail.

    Args:
        network: the network; parameters are replaced in place.
        path: a flat state dict of this network, or of one that holds it as `part`.
        part: prefix of the names in the file, for instance `organ`; used if any name starts with it.

    Raises:
        CaseError: see `read_weights`; also when names or shapes differ from the network's.
    """
    network.load_state_dict(_fitting(network, path, part))


def _fitting(network: nn.Module, path: str | Path, part: str) -> dict[str, torch.Tensor]:
    weights = read_weights(path)
    prefix = f"{part}."
    if part and any(name.startswith(prefix) for name in weights):
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    own = network.state_dict()
    differing = [n for n in own if n not in weights or weights[n].shape != own[n].shape]
    differing += [n for n in weights if n not in own]
    if differing:
        raise CaseError(
            f"weights {path}",
            f"they belong to another architecture ({len(differing)} of {len(own)} tensors differ, first {differing[0]})",
            "run with the configuration they were trained with",
        )
    return weights


def check_weights(network: nn.Module, path: str | Path) -> None:
    """Fail with one clear sentence before a CheckpointLoader would fail with a long one.

    Args:
        network: that the weights are meant for; it is not changed.
        path: a flat state dict.

    Raises:
        CaseError: see `load_weights`.
    """
    _fitting(network, path, "")


def load_ensemble(network: nn.Module, paths: Sequence[str | Path]) -> None:
    """Load one file per fold into every `MeanEnsemble` of a network.

    Args:
        network: a `MeanEnsemble`, or a `TwoStagePocketNet` of two.
        paths: one flat state dict per fold.

    Raises:
        CaseError: see `load_weights`; also when the number of files is not that of the folds.
    """
    parts = {"": network} if hasattr(network, "networks") else dict(network.named_children())
    for part, ensemble in parts.items():
        folds: Any = ensemble.networks
        if len(folds) != len(paths):
            raise CaseError(
                "ensemble", f"{len(paths)} files for {len(folds)} folds", "pass one file of weights per fold"
            )
        for fold, path in zip(folds, paths, strict=True):
            load_weights(fold, path, part)
