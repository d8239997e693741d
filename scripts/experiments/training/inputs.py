"""What a training was made from, as digests that a later call compares: data, settings, code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import custom_networks
from custom_networks import CaseError

# part -> name -> whatever identifies it
Inputs: TypeAlias = dict[str, dict[str, Any]]

# ids that say where and how fast a training runs, not what comes out of it
PLACES = frozenset(
    [
        "bundle_root",
        "dataset_dir",
        "datalist",
        "fold",
        "ckpt_dir",
        "output_dir",
        "device",
        "num_workers",
        "tracker",
        "mlflow_uri",
        "imports",
        "check_data",
        "resume",
        "is_main",
        "checkpoint_epochs",
        "checkpoint_minutes",
    ]
)
# ids whose value is a file of weights that the training starts from
WEIGHTS = ("organ_weights", "pretrained")
ENDS = 1 << 16


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file; of a `.nii.gz` its size and both ends, the last of which is the checksum of all its voxels.

    Args:
        path: the file.

    Raises:
        CaseError: it does not exist.
    """
    file, digest = Path(path), hashlib.sha256()
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            if file.suffix == ".gz" and size > 2 * ENDS:
                digest.update(str(size).encode() + stream.read(ENDS))
                stream.seek(-ENDS, 2)
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CaseError(
            f"file {file}", f"it cannot be read ({error.strerror})", "correct its path or restore it"
        ) from error
    return digest.hexdigest()


def case_inputs(training: Iterable[Mapping[str, Any]], validation: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Identify the cases of one training.

    Args:
        training: cases to train on, with absolute paths.
        validation: cases to validate on; in a training on all cases the same ones.

    Returns:
        `case (training)` or `case (validation)` to its patient and the digests of its files.
    """
    found: dict[str, Any] = {}
    for side, cases in (("training", training), ("validation", validation)):
        for case in cases:
            files = {key: file_digest(case[key]) for key in ("image", "label", "organ") if case.get(key)}
            found[f"{case['case']} ({side})"] = {"patient": str(case.get("patient", "")), **files}
    return found


def setting_inputs(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Identify the settings of one training: the ids of its files, later ones first, and what weights it starts from.

    Args:
        bundle: the bundle's folder.
        configs: files, relative to it or absolute.
        overrides: ids and values on top.

    Returns:
        Id to value.
    """
    merged: dict[str, Any] = {}
    for config in configs:
        merged.update(json.loads((bundle / config).read_text(encoding="utf-8")))
    merged.update(overrides)
    found = {key: value for key, value in merged.items() if key not in PLACES and key not in WEIGHTS}
    for key in WEIGHTS:
        if key in overrides:
            found[key] = file_digest(overrides[key]) if overrides[key] else None
    # as a file holds it: tuples and lists are one thing
    plain: dict[str, Any] = json.loads(json.dumps({"bundle": bundle.name, **found}, default=str))
    return plain


def code_inputs() -> dict[str, Any]:
    """Identify the code: versions of the libraries and the sources of `custom_networks`."""
    folder, digest = Path(custom_networks.__file__).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    versions = {name: importlib.metadata.version(name) for name in ("torch", "monai")}
    return {**versions, "custom_networks": digest.hexdigest()}


def differences(before: Inputs, now: Inputs) -> dict[str, list[str]]:
    """What differs, by part, each in a few words.

    Args:
        before: what something was made from.
        now: what it would be made from.

    Returns:
        Part to differences; a part without any is left out.
    """
    found: dict[str, list[str]] = {}
    for part in {**before, **now}:
        old, new = before.get(part, {}), now.get(part, {})
        lines = [f"{name} is new" for name in new if name not in old]
        lines += [f"{name} is gone" for name in old if name not in new]
        lines += [_change(name, old[name], new[name]) for name in new if name in old and old[name] != new[name]]
        if lines:
            found[part] = lines
    return found


def _change(name: str, old: Any, new: Any) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "image" in {**old, **new}:
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return f"{name} has another {' and another '.join(keys)}"
    texts = [json.dumps(value) for value in (old, new)]
    return f"{name} is {texts[1]}, was {texts[0]}" if max(map(len, texts)) <= 40 else f"{name} is another"
