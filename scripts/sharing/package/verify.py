"""Whether a release is whole, says what is true and runs from its own folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError
from custom_networks.settings import read_settings
from scripts.sharing.package.sums import SUMS, wrong_sums

NEEDED = (
    *(f"configs/{name}.json" for name in ("metadata", "train", "evaluate", "inference")),
    *(f"models/model.{suffix}" for suffix in ("pt", "json")),
    *("docs/README.md", "docs/data_license.txt", "LICENSE", "large_files.yml", "custom_networks/__init__.py", SUMS),
)
# of metadata.json: what the zoo demands and what a hospital asks first
TOLD: dict[str, type] = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version", "name", "task"), str),
    **dict.fromkeys(("description", "authors", "copyright", "data_source", "data_type", "intended_use"), str),
    **dict.fromkeys(("changelog", "required_packages_version", "network_data_format"), dict),
}
TEXTS = {".json", ".md", ".txt", ".yml", ".conf"}
# of this computer: a folder of Unix below its root, a drive or a share of Windows
ABSOLUTE = re.compile(
    r"(?<![\w.:/~-])/(?:home|root|Users|mnt|media|data|tmp|work|srv|opt|var|scratch|storage|private)/[\w.~-]+"
    r"|\b[A-Za-z]:\\+\w+|(?<!\w)\\\\\\\\\w+"
)
REMEDY = "make the release anew with `package`"


def check_texts(folder: Path, name: str = "") -> None:
    """Check what a release says of itself, before anything runs.

    Args:
        folder: of the release.
        name: for the messages; default the folder.

    Raises:
        CaseError: metadata lack something, or a text holds a path of this computer.
    """
    name = f"release {name or folder.name}"
    _check_metadata(folder, name)
    for file in sorted(folder.rglob("*")):
        found = ABSOLUTE.search(file.read_text("utf-8")) if file.suffix in TEXTS and file.is_file() else None
        if found:
            place = file.relative_to(folder)
            raise CaseError(
                name, f"{place} holds the path {found[0]}", "write it relative to the bundle, and package again"
            )


def verify(folder: Path, name: str = "") -> None:
    """Check a release.

    Args:
        folder: of the release.
        name: for the messages; default the folder.

    Raises:
        CaseError: the first thing that is wrong.
    """
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if missing:
        raise CaseError(f"release {name or folder.name}", f"it has no {', '.join(missing)}", REMEDY)
    check_texts(folder, name)
    name = f"release {name or folder.name}"
    wrong = wrong_sums(folder)
    if wrong:
        raise CaseError(name, f"{wrong[0]} ({len(wrong)} differences from {SUMS})", "copy it again")
    _check_settings(folder, name)
    run_alone(folder)


def _check_metadata(folder: Path, name: str) -> None:
    content: dict[str, Any] = json.loads((folder / "configs/metadata.json").read_text("utf-8"))
    for key, kind in TOLD.items():
        if not isinstance(content.get(key), kind) or not content[key]:
            raise CaseError(name, f"its metadata.json says no {key}", "add it to the bundle's, and package again")
    if content["version"] not in content["changelog"]:
        raise CaseError(name, f"the changelog lacks its version {content['version']}", REMEDY)
    for side in ("inputs", "outputs"):
        for entry in content["network_data_format"].get(side, {"": {}}).values():
            lacking = {"type", "format", "num_channels", "spatial_shape", "dtype", "channel_def"} - set(entry)
            if lacking:
                raise CaseError(name, f"network_data_format#{side} says no {min(lacking)}", "add it and package again")


def _check_settings(folder: Path, name: str) -> None:
    """Of the three configurations: plain values, and those of the weights."""
    settings = read_settings(folder / "models/model.pt")
    if not settings:
        raise CaseError(name, "its weights carry no settings", REMEDY)
    for config in ("train", "inference"):
        content = json.loads((folder / f"configs/{config}.json").read_text("utf-8"))
        for key in set(settings) & set(content):
            if content[key] != settings[key]:
                problem = f"configs/{config}.json says {key} {content[key]}, its weights {settings[key]}"
                raise CaseError(name, problem, REMEDY)


def run_alone(folder: Path, exports: Sequence[str] = ()) -> None:
    """Run a release from its own folder, where Python finds its code and no other.

    Args:
        folder: of the release.
        exports: write models/model.ts (by MONAI's own export) or models/model.onnx first.

    Raises:
        CaseError: it does not run, its metadata say other shapes, or an exported network is another than model.pt.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    words = [sys.executable, "-W", "ignore", "-c", Path(__file__).with_name("probe.py").read_text("utf-8")]
    words += exports
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), f"exit status {done.returncode}")
        problem = f"it does not run from its own folder ({last[:300]})"
        raise CaseError(f"release {folder.name}", problem, "correct the bundle and package again")
