"""`plan`: measure a data set and write an override file for a bundle, every value with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from custom_networks import CaseError
from custom_networks.data.datalist import read_json
from scripts.core.datalist import Datalist
from scripts.core.files import write_text
from scripts.core.statistics import KnownStatistics
from scripts.data.plan.fingerprint import fingerprint
from scripts.data.plan.rules import anisotropic as anisotropic_network
from scripts.data.plan.rules import batch_size, nnunet_patch, paper_patch, resampled_sizes, target_spacing

REASONS = "_plan_"
# an id of a bundle that takes its value from trained weights, and its own value where there are none
OWN_VALUE = r"\$@settings\.get\('\w+', [^@]*\)"
Choices = dict[str, tuple[Any, str]]


def plan(
    datalist: str,
    bundle: str,
    output: str = "plan.json",
    patch: Literal["paper", "nnunet", "keep"] = "paper",
    memory_gb: float | None = None,
    anisotropic: bool = False,
    intensity: Literal["volume", "foreground"] = "volume",
    overwrite: bool = False,
    workers: int = 2,
) -> int:
    """Measure the training cases of a datalist and write an override file for a bundle's `train.json`.

    The file is used as `--config_file "['configs/train.json','plan.json']"`, and after `inference.json` in the same way.
    It holds only ids that the bundle has; `_plan_` in it gives the reason for each value. The measurements lie beside
    it, in `plan_fingerprint.json` for `plan.json`. Both may be edited by hand, and are not replaced unless asked for.
    A case that cannot be read is left out and named.

    Args:
        datalist: the datalist; its `training` cases are measured, after reorientation to LPS.
        bundle: the bundle's folder.
        output: the file to write.
        patch: `paper` (decision P8), `nnunet` (nnU-Net's rule within `memory_gb`), or `keep` the bundle's.
        memory_gb: memory for one training step in GiB; sets the batch size, too. Default: the bundle's batch size.
        anisotropic: kernels and strides that follow the spacing, by nnU-Net's ratio of 2 (decisions P2 and A9).
        intensity: `volume` (each image by itself) or `foreground` (statistics of the data set's foreground, G13).
        overwrite: replace a plan of this name that says something else.
        workers: cases read at once.

    Returns:
        0, or 1 if cases had to be left out.

    Raises:
        CaseError: no case can be read, the bundle has no id for a choice, or a plan of this name says something else.
    """
    path, name = Path(str(datalist)), f"plan for {bundle}"
    if patch not in {"paper", "nnunet", "keep"} or intensity not in {"volume", "foreground"}:
        raise CaseError(
            name,
            f"there is no --patch {patch} with --intensity {intensity}",
            "choose --patch paper, nnunet or keep and --intensity volume or foreground",
        )
    if patch == "nnunet" and memory_gb is None:
        raise CaseError(name, "nnU-Net's patch rule needs a memory budget", "pass --memory_gb, e.g. 8")
    content = Datalist.read(path, patients=None)
    if not content.training:
        raise CaseError(f"datalist {path}", "it has no training case", "write it again with `python -m scripts split`")
    config = read_train_config(bundle)
    measured, errors = fingerprint(
        content.training, content.labels, content.modality, KnownStatistics(path.parent), workers
    )
    choices = choose(config, measured, content, patch, memory_gb, anisotropic, intensity, name)
    target = Path(output)
    text = {key: value for key, (value, _) in choices.items()}
    text[REASONS] = {
        "bundle": str(config.get("_name_", Path(bundle).resolve().name)),
        "data set": content.name or path.stem,
        "cases": measured["number_of_cases"],
        **{key: reason for key, (_, reason) in choices.items()},
        "size": _cached(measured, choices["spacing"][0]),
    }
    if errors:
        text[REASONS]["left out"] = {error.case: error.problem for error in errors}
    files = {target: text, target.with_name(f"{target.stem}_fingerprint.json"): measured}
    if not overwrite:
        _refuse_other(files, name)
    for file, written in files.items():
        write_text(file, json.dumps(written, indent=4, ensure_ascii=False) + "\n")
    for error in errors:
        print(f"left out: {error}")
    for key, (value, reason) in choices.items():
        print(f"{key} = {json.dumps(value)}\n    {reason}")
    print(f"{text[REASONS]['size']}\n\nwritten: {', '.join(map(str, files))}")
    print(f"""use: --config_file "['configs/train.json','{target.resolve()}']\"""")
    return 1 if errors else 0


def _refuse_other(files: Mapping[Path, dict[str, Any]], name: str) -> None:
    """A plan may have been edited, and what was trained with it must find it again."""
    for file, written in files.items():
        if not file.exists():
            continue
        there = read_json(file, f"plan {file}", "")
        if there != json.loads(json.dumps(written)):
            keys = [key for key in written if not isinstance(there, dict) or there.get(key) != written[key]]
            raise CaseError(
                name,
                f"{file} is there already and says something else ({', '.join(keys) or 'more ids'})",
                "pass another --output, or --overwrite to replace it",
            )


def read_train_config(bundle: str | Path) -> dict[str, Any]:
    """The bundle's `configs/train.json` with its own values where it would take those of trained weights.

    Raises:
        CaseError: it is missing or not JSON.
    """
    from monai.bundle import ConfigParser

    config = read_config(Path(bundle) / "configs" / "train.json", f"bundle {bundle}", "pass a bundle's folder")
    if "settings" not in config:
        return config
    config["settings"] = {}
    parser = ConfigParser(config)
    # what follows another id is left to whoever resolves the whole, overrides included
    own = [key for key, value in config.items() if isinstance(value, str) and re.fullmatch(OWN_VALUE, value)]
    return {**config, **{key: parser.get_parsed_content(key) for key in own}}


def read_config(path: Path, name: str, remedy: str) -> dict[str, Any]:
    """A configuration.

    Raises:
        CaseError: it is missing or not JSON; with that name and remedy.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CaseError(name, f"{path} cannot be read ({error})", remedy) from error
    if not isinstance(config, dict):
        raise CaseError(name, f"{path} is not a configuration", remedy)
    return config


def choose(
    config: dict[str, Any],
    measured: dict[str, Any],
    content: Datalist,
    patch: str = "paper",
    memory_gb: float | None = None,
    anisotropic: bool = False,
    intensity: str = "volume",
    name: str = "plan",
) -> Choices:
    """Apply the rules.

    Args:
        config: the bundle's train configuration, unresolved.
        measured: from `fingerprint`.
        content: the datalist.
        patch: see `plan`.
        memory_gb: see `plan`.
        anisotropic: see `plan`.
        intensity: see `plan`.
        name: for messages.

    Returns:
        Id of the bundle to value and reason.

    Raises:
        CaseError: the bundle lacks an id that is needed.
    """
    spacings = np.array([case["spacing"] for case in measured["cases"]])
    shapes = np.array([case["shape"] for case in measured["cases"]])
    spacing, why = target_spacing(spacings)
    choices: Choices = {"spacing": (spacing, why)}
    sizes = resampled_sizes(shapes, spacings, spacing)
    median = np.median(sizes, axis=0).tolist()
    if anisotropic:
        levels = len(config.get("kernel_sizes", []))
        kernels, strides, why = anisotropic_network(spacing, levels)
        choices["kernel_sizes"], choices["strides"] = (kernels, why), (strides, why)
    multiple = _multiple(choices["strides"][0] if anisotropic else config.get("strides"))
    fits = _memory(config, choices, multiple, memory_gb) if memory_gb is not None else None
    size = list(config.get("patch_size", [])) if patch == "keep" else []
    if patch == "paper":
        size, why = paper_patch(median, multiple)
        choices["patch_size"] = (size, why)
    elif patch == "nnunet" and fits is not None:
        size, why = nnunet_patch(median, spacing, multiple, lambda p: fits(p, 2))
        choices["patch_size"] = (size, why)
    if fits is not None:
        if not fits(size, 1):
            raise CaseError(
                name,
                f"not even one patch of {size} fits {memory_gb} GiB by estimate",
                "pass --patch nnunet or a larger --memory_gb",
            )
        least = 2 if fits(size, 2) else 1
        batch, why = batch_size(size, int(sizes.prod(axis=1).sum()), lambda n: fits(size, n), len(sizes), least)
        choices["batch_size"] = (batch, f"{why}; estimated for {memory_gb:g} GiB in bf16")
    choices |= _intensity(config, measured, content.modality, intensity)
    if content.labels:
        values = sorted(content.labels)
        classes: dict[str, Any] = {"label_values": values, "num_classes": len(values)}
        for key, value in classes.items():
            if key in config:
                choices[key] = (value, f"the datalist's labels: {', '.join(content.labels.values())}")
    lacking = [key for key in choices if key not in config]
    if lacking:
        raise CaseError(
            name,
            f"the bundle's train.json has no id {', '.join(lacking)}",
            "leave out the option that asks for it, or choose a bundle that has it",
        )
    return choices


def _multiple(strides: Any) -> list[int]:
    """Total stride per axis; the bundles without an id for strides halve four times."""
    if not isinstance(strides, list):
        return [16, 16, 16]
    per_axis = [stride if isinstance(stride, list) else [stride] * 3 for stride in strides]
    return [int(v) for v in np.prod(np.array(per_axis), axis=0)]


def _memory(
    config: dict[str, Any], choices: Choices, multiple: list[int], memory_gb: float | None
) -> Callable[[Sequence[int], int], bool]:
    """Whether a batch of patches fits, margin included: the bundle's own training step, traced without memory.

    The peak grows with the voxels, so two batches of the bundle's patch, rounded to what the strides can halve, tell all.
    """
    from scripts.data.plan.memory import Step, needed

    chosen = {**config, **{key: value for key, (value, _) in choices.items()}}
    size = [max(int(n) // m, 4) * m for n, m in zip(config["patch_size"], multiple, strict=True)]
    budget = float(memory_gb or 0) * 2**30
    step = Step(chosen, size, "bf16", budget)
    one, two = step.training_peak(1), step.training_peak(2)
    each = (two - one) / float(np.prod(size))
    fixed = one - each * float(np.prod(size))
    return lambda patch, batch: needed(fixed + batch * float(np.prod(patch)) * each) <= budget


def _intensity(config: dict[str, Any], measured: dict[str, Any], modality: str, rule: str) -> Choices:
    found = measured["intensity"]
    shown = f"{found['percentile_0.5']:.4g} to {found['percentile_99.5']:.4g}"
    if rule == "foreground":
        why = f"foreground of {measured['number_of_cases']} cases, {found['where']} (G13's option)"
        return {
            "intensity_range": (
                [found["percentile_0.5"], found["percentile_99.5"]],
                f"0.5 and 99.5 percentiles, {why}",
            ),
            "intensity_mean": (found["mean"], f"mean, {why}"),
            "intensity_std": (found["standard_deviation"], f"standard deviation, {why}"),
        }
    if "clip_percentiles" not in config:
        return {}
    why = (
        f"{modality or 'image'}: each volume is clipped at its own 0.5 and 99.5 percentiles, then z-scored (P9); the "
        f"foreground of the data set reaches from {shown}"
    )
    return {"clip_percentiles": ([0.5, 99.5], why)}


def _cached(measured: dict[str, Any], spacing: Sequence[float]) -> str:
    spacings = np.array([case["spacing"] for case in measured["cases"]])
    shapes = np.array([case["shape"] for case in measured["cases"]])
    voxels = resampled_sizes(shapes, spacings, spacing).prod(axis=1)
    return (
        f"{len(voxels)} training cases, {np.median(voxels) / 1e6:.2f} million voxels each after resampling (median); "
        f"image and label together take {voxels.sum() * 8 / 2**30:.2f} GiB in memory at cache_rate 1"
    )
