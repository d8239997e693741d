"""STU-Net's published checkpoints in the names, axes and class order of `GynBTNet`.

They come from nnU-Net, whose arrays are (z, y, x); ours are (x, y, z). Their classes are those of TotalSegmentator
version 1 in alphabetical order; ours follow the data set's own table.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from custom_networks.errors import CaseError
from custom_networks.networks.gynbtnet import VARIANTS, GynBTNet
from custom_networks.settings import check_settings, encoded
from scripts.data.cohorts.totalsegmentator import CLASSES_V1

# what these weights were trained at, with strides and axes in our order
SETTINGS: dict[str, Any] = {
    "bundle": "gynbtnet_finetune",
    "spacing": [1.5, 1.5, 1.5],
    "orientation": "RAS",
    "patch_size": [128, 128, 128],
    "intensity_range": None,
    "intensity_mean": None,
    "intensity_std": None,
    "num_classes": len(CLASSES_V1) + 1,
    "strides": [2, 2, 2, 2, [2, 1, 1]],
    "deep_supervision": 4,
}
NAMES = (
    (r"conv_blocks_context\.(\d)\.(\d)\.", r"encoder.stages.\1.\2."),
    (r"conv_blocks_localization\.(\d)\.(\d)\.", r"decoder.\1.blocks.\2."),
    (r"upsample_layers\.(\d)\.conv\.", r"decoder.\1.conv."),
    (r"\.conv3\.", ".shortcut."),
    (r"seg_outputs\.4\.", "head."),
    (r"seg_outputs\.([0-3])\.", lambda match: f"extra_heads.{3 - int(match[1])}."),
)
REMEDY = "pass small_ep4k.model, base_ep4k.model, large_ep4k.model or huge_ep4k.model as STU-Net's authors publish it"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Tensors of an nnU-Net checkpoint, version 1 (`.model`) or 2 (`.pth`), by their published names.

    A pickle may hold tensors, plain values and numpy's scalars; one that names anything else is refused unread.

    Args:
        path: the file.

    Raises:
        CaseError: it is missing, damaged, of another kind, or holds code.
    """
    file = Path(path)
    name = f"weights {file}"
    if not file.is_file():
        raise CaseError(name, "the file does not exist", REMEDY)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            # mapped, because the optimizer's state doubles a file of gigabytes; torch before 1.6 wrote no zip
            content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global|function|class) `?([\w.]+)`?", str(error))
        problem = f"it holds more than weights ({named[1] if named else 'an object'})"
        raise CaseError(name, f"{problem} or is damaged, and was not opened", REMEDY) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CaseError(name, "it is damaged or no checkpoint", "fetch the file again") from error
    for key in ("state_dict", "network_weights"):
        found = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(found, Mapping) and all(isinstance(value, Tensor) for value in found.values()):
            return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in found.items()}
    raise CaseError(name, "it holds neither state_dict nor network_weights", REMEDY)


def convert_stunet(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Weights of `GynBTNet` with their settings, ready for `torch.save`.

    Args:
        weights: from `read_checkpoint`; kernels (O, C, z, y, x), rows of heads in alphabetical order of the classes.
        source: the file, for messages.

    Returns:
        State dict of `gynbtnet_finetune`: kernels (O, C, x, y, z), rows in the order of `CLASSES_V1`.

    Raises:
        CaseError: it is no STU-Net of the sizes known here, or has other classes than TotalSegmentator version 1.
    """
    name = f"weights {source}"
    found = {_our_name(theirs): value for theirs, value in weights.items()}
    first, head = found.get("encoder.stages.0.0.conv1.weight"), found.get("head.weight")
    if first is None or head is None:
        raise CaseError(name, "its tensors do not have the names of STU-Net", REMEDY)
    if head.shape[0] != SETTINGS["num_classes"]:
        problem = f"its heads have {head.shape[0]} classes, not the {SETTINGS['num_classes']} of TotalSegmentator v1"
        raise CaseError(name, problem, REMEDY)
    depth = len({key.split(".")[3] for key in found if key.startswith("encoder.stages.0.")})
    variants = [variant for variant, size in VARIANTS.items() if size == (first.shape[0], depth)]
    if not variants:
        problem = f"no variant begins with {first.shape[0]} features and {depth} blocks a stage"
        raise CaseError(name, problem, REMEDY)
    settings = check_settings({}, **SETTINGS, variant=variants[0])
    with torch.device("meta"):
        network = GynBTNet(1, SETTINGS["num_classes"], variants[0], strides=SETTINGS["strides"])
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    differing = sorted(
        key for key in shapes.keys() | found.keys() if key not in found or shapes.get(key) != found[key].shape
    )
    if differing:
        problem = f"{len(differing)} of its tensors are not those of STU-Net {variants[0]} (first {differing[0]})"
        raise CaseError(name, problem, REMEDY)
    rows = torch.tensor(rows_by_our_classes())
    converted = {}
    for key in shapes:
        value = found[key].float()
        value = value.permute(0, 1, 4, 3, 2) if value.dim() == 5 else value
        converted[key] = (value[rows] if key.startswith(("head.", "extra_heads.")) else value).contiguous()
    return converted | {"settings": encoded(settings)}


def rows_by_our_classes() -> list[int]:
    """For each of our label values, its row in the published heads: background, then the names in alphabetical order."""
    published = ["background", *sorted(CLASSES_V1)]
    return [published.index(name) for name in ("background", *CLASSES_V1)]


def _our_name(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _numpy_scalars() -> list[Any]:
    """What a pickled scalar names: both homes that numpy's function has had, and the types of plain numbers."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = ("bool", "int32", "int64", "float16", "float32", "float64")
    homes = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*homes, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]
