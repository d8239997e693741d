"""`python -m scripts fits`: what of a bundle fits a GPU's memory, told without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_networks import CaseError
from scripts.data.plan.plan import read_config, read_train_config

VARIANTS = ("tiny", "small", "base", "large", "huge")


def fits(bundle: str, memory_gb: float = 24.0, overrides: str | None = None, all_variants: bool = False) -> None:
    """Print a bundle's peak memory at full size, in training and inference, and the largest batch that fits.

    A training step of the bundle's own network, loss and optimizer is traced at the size of its patch with tensors that
    have shapes but no memory. The peak of live tensors is exact to a few percent; a device needs more: 10 % are added for
    the allocator and work space, and 0.7 GiB for the device's context and libraries. Neither was measured on a GPU;
    `python -m scripts benchmark gpu` does.

    Args:
        bundle: the bundle's folder.
        memory_gb: memory of the GPU in GiB.
        overrides: an override file, for example a plan or `configs/anisotropic.json`.
        all_variants: every variant of GynBTNet, not the bundle's alone.

    Raises:
        CaseError: the bundle or the file cannot be read, or the memory is not positive.
    """
    if not float(memory_gb) > 0:
        raise CaseError("fits", f"memory_gb {memory_gb} is not a positive number", "pass the GPU's memory in GiB")
    config = {**read_train_config(bundle), "_name_": Path(bundle).resolve().name}
    if overrides is not None:
        config = overridden(config, read_config(Path(str(overrides)), "fits", "pass an override file, such as a plan"))
    rows = list(tqdm(_rows(config, float(memory_gb), all_variants), desc="fits", leave=False, unit="row"))
    print(table(config, rows, float(memory_gb)))


def overridden(config: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A configuration with another file's ids on top, nested ones such as `optimizer#lr` in their place.

    Raises:
        CaseError: a nested id names nothing of the configuration.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(copy.deepcopy(config))
    for key, value in overrides.items():
        try:
            parser[key] = value
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CaseError("fits", f"the override {key} names nothing of the bundle", "correct it") from error
    return dict(parser.get())


def _rows(config: dict[str, Any], memory_gb: float, all_variants: bool) -> Iterator[dict[str, Any]]:
    from scripts.data.plan.memory import PRECISIONS, Step, largest_batch

    memory = memory_gb * 2**30
    variants: tuple[str | None, ...] = (config.get("variant"),)
    if all_variants and "variant" in config:
        variants = VARIANTS
    for variant in variants:
        for checkpointing in (False, True) if "checkpointing" in config else (None,):
            given = {"variant": variant, "checkpointing": checkpointing}
            chosen = {**config, **{key: value for key, value in given.items() if value is not None}}
            for precision in PRECISIONS:
                step = Step(chosen, precision=precision, memory=memory)
                batch, (one, two) = largest_batch(step, memory)
                yield {
                    **given,
                    "precision": precision,
                    "one": one,
                    "two": two,
                    "inference": step.inference_peak(int(config.get("sw_batch_size", 1))),
                    "batch": batch,
                }


def table(config: dict[str, Any], rows: list[dict[str, Any]], memory_gb: float) -> str:
    """The answer as Markdown, in GiB of live tensors, margin left out; the last column with margin."""
    patch = " x ".join(map(str, config["patch_size"]))
    windows = config.get("sw_batch_size", 1)
    head = [
        *(["variant", "checkpointing"] if "variant" in config else []),
        "precision",
        "training, 1 patch",
        "2 patches",
        "inference, 1 window" if windows == 1 else f"inference, {windows} windows",
        f"largest batch in {memory_gb:g} GiB",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        words = [str(row["variant"]), "yes" if row["checkpointing"] else "no"] if "variant" in config else []
        sizes = [f"{row[key] / 2**30:.2f}" for key in ("one", "two", "inference")]
        lines.append([*words, row["precision"], *sizes, str(row["batch"] or "none")])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{config['_name_']}, patches of {patch}, GiB of live tensors:\n\n{text}"
