"""Loading of weights, whole, as an ensemble or from the stage before, with one clear sentence when a file does not fit."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from custom_networks.errors import CaseError
from custom_networks.settings import NAME as SETTINGS
from custom_networks.settings import decoded, read_settings

HEADS = ("head.", "extra_heads.")

logger = logging.getLogger(__name__)


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
    if SETTINGS not in own:
        weights.pop(SETTINGS, None)
    # the settings, which may be of another length, are compared by the network itself
    differing = [n for n in own if n != SETTINGS and (n not in weights or weights[n].shape != own[n].shape)]
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


class TransferReport(NamedTuple):
    """What `load_pretrained` did.

    Args:
        loaded: names of the tensors that were loaded.
        skipped: reason by name, of tensors of the file that were not.
        kept: reason by name, of tensors of the network that keep their start values.
    """

    loaded: list[str]
    skipped: dict[str, str]
    kept: dict[str, str]

    def __str__(self) -> str:
        """One line for what was loaded, one per reason for what was not."""
        lines = [f"{len(self.loaded)} tensors loaded ({_parts(self.loaded)})"]
        for verb, reasons in (("skipped", self.skipped), ("not in the file, start anew", self.kept)):
            for reason in dict.fromkeys(reasons.values()):
                names = [name for name, why in reasons.items() if why == reason]
                lines.append(f"{len(names)} tensors {verb} ({_parts(names)}): {reason}")
        return "\n".join(lines)


def _parts(names: Sequence[str]) -> str:
    """Top-level parts in order, stages of the encoder told apart."""
    parts = (".".join(name.split(".")[: 3 if name.startswith("encoder.stages") else 1]) for name in names)
    return ", ".join(dict.fromkeys(parts)) or "none"


def weights_if_present(path: str | Path) -> str | None:
    """Default of an id that names weights to start from, so that a training may also start without.

        "pretrained": "$custom_networks.weights_if_present(@ckpt_dir + '/pretrained.pt')"

    Args:
        path: where they are looked for.

    Returns:
        The path; None, with a warning, if there is no such file. A path that a user passes instead has to exist.
    """
    if Path(path).is_file():
        return str(path)
    logger.warning(
        "%s does not exist: a new training starts from scratch. Put the previous stage's model.pt there, or pass its path "
        "with --pretrained",
        path,
    )
    return None


def load_pretrained(
    network: nn.Module, path: str | Path, parts: Sequence[str] | None = None, enabled: bool = True
) -> TransferReport | None:
    """Load what fits from the previous stage's weights; for the `initialize` section of a bundle.

        "initialize": ["$monai.utils.set_determinism(seed=@seed)",
                       "$custom_networks.load_pretrained(@network_def, @pretrained, enabled=bool(@pretrained))"]

    From pretraining (a `SparseMaskedAutoencoder`) the encoder is taken: convolutions, gamma and beta; running
    statistics, mask tokens and the light decoder stay behind, the sixth stage starts anew if it was not pretrained.
    From another `GynBTNet` everything is taken; heads only if they have as many classes.

    Args:
        network: a `GynBTNet`; changed in place.
        path: flat state dict, the `model.pt` of the previous stage.
        parts: prefixes to take, for instance `("encoder.",)`; default all that the file and the network share.
        enabled: False does nothing, for the arm without pretraining.

    Returns:
        What was loaded, skipped and why, which is also logged; None if not enabled.

    Raises:
        CaseError: the file is missing, damaged, not a flat state dict, trained with another orientation or other
            strides, or from another architecture (a tensor of the encoder or decoder has another shape or has no
            counterpart).
    """
    if not enabled:
        logger.info("no pretrained weights: the network starts from scratch")
        return None
    weights, own = read_weights(path), network.state_dict()
    _same_axes(path, own)
    # DDP and torch.compile put their own names in front
    for prefix in ("module.", "_orig_mod."):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    pretraining = any(name.startswith("tokens.") for name in weights)
    weights = {name: value for name, value in weights.items() if name != SETTINGS}
    report = TransferReport([], {}, {})
    for name, value in weights.items():
        reason = _reason_to_skip(name, value, own, parts, pretraining)
        if reason:
            report.skipped[name] = reason
        elif name not in own:
            raise _misfit(path, f"the network has no {name}")
        elif own[name].shape != value.shape:
            raise _misfit(path, f"{name} is {_size(value)} in the file and {_size(own[name])} in the network")
        else:
            report.loaded.append(name)
    _fill_kept(report, own, parts, path, pretraining)
    network.load_state_dict({**own, **{name: weights[name] for name in report.loaded}})
    logger.info("weights %s: %s", path, report)
    return report


def _same_axes(path: str | Path, own: Mapping[str, Tensor]) -> None:
    """Weights see the axes in one order, each halved so often: tensors of others have the same shapes and mean nothing."""
    theirs, ours = read_settings(path), decoded(own.get(SETTINGS))
    differing = [n for n in ("orientation", "strides") if n in theirs and n in ours and theirs[n] != ours[n]]
    if differing:
        values = [f"{name} {_option(theirs[name])}, not {_option(ours[name])}" for name in differing]
        options = [f'--{name} "{_option(theirs[name])}"' for name in differing]
        raise CaseError(
            f"weights {path}", f"they were trained with {' and '.join(values)}", f"pass {' '.join(options)}"
        )


def _option(value: Any) -> str:
    """A setting as the command line takes it."""
    return str(value).replace(" ", "")


def _reason_to_skip(
    name: str, value: Tensor, own: Mapping[str, Tensor], parts: Sequence[str] | None, pretraining: bool
) -> str:
    if parts is not None and not name.startswith(tuple(parts)):
        return f"only {', '.join(parts)} is wanted"
    if pretraining and not name.startswith("encoder."):
        return "belongs to pretraining alone"
    if name.rsplit(".", 1)[-1].startswith("running_") and (pretraining or name not in own):
        return "running statistics are not carried over"
    if name.startswith(HEADS):
        if name not in own:
            return "the network has no such head"
        if own[name].shape[1:] == value.shape[1:] and own[name].shape[0] != value.shape[0]:
            return f"head of {value.shape[0]} classes, not {own[name].shape[0]}"
    return ""


def _fill_kept(
    report: TransferReport,
    own: Mapping[str, Tensor],
    parts: Sequence[str] | None,
    path: str | Path,
    pretraining: bool,
) -> None:
    loaded = set(report.loaded)
    stages = {_stage(name) for name in loaded}
    if not any(name.startswith("encoder.") for name in loaded):
        raise _misfit(path, "it holds nothing of this network's encoder")
    for name in own:
        if name in loaded or name == SETTINGS:
            continue
        if name in report.skipped:
            report.kept[name] = report.skipped[name]
        elif parts is not None and not name.startswith(tuple(parts)):
            report.kept[name] = f"only {', '.join(parts)} is wanted"
        elif name.rsplit(".", 1)[-1].startswith("running_"):
            report.kept[name] = "running statistics are not carried over"
        elif name.startswith(HEADS):
            report.kept[name] = "the file has no such head"
        elif pretraining and not name.startswith("encoder."):
            report.kept[name] = "pretraining has no counterpart"
        elif pretraining and _stage(name) == len(stages) == max(stages) + 1:
            report.kept[name] = f"pretraining ended with stage {len(stages)}"
        else:
            raise _misfit(path, f"{name} is missing in the file")


def _stage(name: str) -> int:
    """Number of the encoder's stage, -1 outside the encoder."""
    return int(name.split(".")[2]) if name.startswith("encoder.stages.") else -1


def _size(value: Tensor) -> str:
    return " x ".join(map(str, value.shape))


def _misfit(path: str | Path, problem: str) -> CaseError:
    return CaseError(
        f"weights {path}",
        f"they belong to another architecture: {problem}",
        "use the variant, strides and channels that they were trained with",
    )
