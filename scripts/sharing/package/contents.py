"""What a release holds: code, configurations with plain settings, weights, documents, metadata."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata as installed
from pathlib import Path
from typing import Any, NamedTuple

import torch

import custom_networks
from custom_networks.errors import CaseError
from custom_networks.handlers.checkpoints import write_checkpoint
from custom_networks.handlers.provenance import RECORD
from custom_networks.settings import NAME as SETTINGS
from custom_networks.settings import encoded, read_settings, write_settings
from custom_networks.weights import read_weights
from scripts.core.files import sha256, write_text
from scripts.experiments.quality.file import NAME as QUALITY
from scripts.experiments.quality.file import Quality, read_quality
from scripts.sharing.package.performance import eval_metrics, performance_table, read_report

# the configurations whose settings become plain values; those laid over them hold other values of their own
PLAIN = ("train", "evaluate", "inference")
FROM_WEIGHTS = "$@settings.get("
EXPORTS = {"ts": "as TorchScript, without code", "onnx": "as ONNX, without code"}
LARGE = 25 * 2**20
NO_WEIGHTS = "no data and no weights are shipped"
UNSTATED = (
    "The images that the weights of this release were trained on, and their terms, were not stated when it was made.\n"
    "Do not pass it on before they are.\n"
)
SYNTHETIC = (
    "The weights were trained on synthetic images alone. They are for trying things out, and of no use for patients."
)
SYNTHETIC_DATA = (
    "The images that the weights of this release were trained on are synthetic: `python -m scripts phantom` made them.\n"
    "No patient's data went into them. The weights are under the licence of the code.\n"
)


class Options(NamedTuple):
    """See `package`."""

    weights: Path
    version: str
    changes: str
    report: str | None = None
    data_license: str | None = None
    half: bool = False
    quality: str | None = None
    synthetic: bool = False
    exports: Sequence[str] = ("ts",)


def fill(folder: Path, source: Path, options: Options) -> None:
    """Write everything but the exported network and the sums.

    Args:
        folder: of the release; it is made.
        source: the bundle.
        options: of the release.

    Raises:
        CaseError: the bundle, the weights, the version or the report cannot be used.
    """
    for name in ("metadata", *PLAIN):
        if not (source / f"configs/{name}.json").is_file():
            raise CaseError(f"bundle {source}", f"it has no configs/{name}.json", "give the folder of a bundle")
    weights, settings = read_weights(options.weights), read_settings(options.weights)
    if options.synthetic and settings:
        # in the weights themselves, so that they say so under any bundle
        settings["synthetic"] = True
        weights[SETTINGS] = encoded(settings)
    if settings.get("bundle") != source.resolve().name:
        whose = f"are those of {settings['bundle']}" if "bundle" in settings else "carry no settings"
        raise CaseError(
            f"weights {options.weights}", f"they {whose}", f"give weights that {source.name} was trained to"
        )
    before = json.loads((source / "configs/metadata.json").read_text("utf-8"))
    if _numbers(options.version) <= _numbers(before["version"]):
        raise CaseError(
            f"version {options.version}",
            f"it is not above the bundle's, {before['version']}",
            "pass a higher --version, such as 0.2.0",
        )
    rows = read_report(options.report) if options.report else []
    fitted = _quality(options) if options.quality else None

    leave = shutil.ignore_patterns("__pycache__", "models", "output", "eval", "data", "folds", ".*")
    shutil.copytree(source, folder, ignore=leave)
    code = Path(custom_networks.__file__).parent
    shutil.copytree(code, folder / "custom_networks", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PLAIN:
        _write_json(
            folder / f"configs/{name}.json",
            _plain(json.loads((folder / f"configs/{name}.json").read_text()), settings, name),
        )
    _write_weights(folder / "models/model.pt", weights, options)
    if fitted is not None:
        fitted.of([sha256(folder / "models/model.pt")]).write(folder / "models" / QUALITY)
    _write_json(folder / "configs/metadata.json", _metadata(before, folder, settings, options, eval_metrics(rows)))
    _write_documents(folder, settings, options, performance_table(rows) if rows else "")
    _write_large_files(folder)


def _numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise CaseError(f"version {version}", "it is not three numbers", "pass one such as 0.2.0")
    return tuple(map(int, version.split(".")))


def _plain(config: dict[str, Any], settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Expressions that ask the weights become what the weights say."""
    for key, value in config.items():
        if isinstance(value, str) and value.startswith(FROM_WEIGHTS):
            if key not in settings:
                raise CaseError(f"weights {key}", "their settings lack it", "train with this version of the bundle")
            config[key] = settings[key]
    if name == "inference":
        # now it knows them by itself, and so may be exported; loading compares them with the weights' all the same
        config["settings"] = {}
    return config


def _write_weights(file: Path, weights: dict[str, torch.Tensor], options: Options) -> None:
    if options.half:
        short = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        lost = [name for name, value in short.items() if value.is_floating_point() and not value.isfinite().all()]
        if lost:
            raise CaseError(f"weights {options.weights}", f"{lost[0]} does not fit into 16 bits", "leave --half out")
        weights = short
    write_checkpoint(file, weights)
    write_settings(
        file, weights, release=options.version, precision="16 bit" if options.half else "32 bit", sha256=sha256(file)
    )
    record = options.weights.with_name(RECORD)
    if record.is_file():
        # salted digests: an evaluation of the release refuses the patients that the weights have seen
        shutil.copy(record, file.parent)


def _quality(options: Options) -> Quality:
    """The quality.json of the given weights; the release's copy is bound to the release's own file of them."""
    where = f"quality {options.quality}"
    found = read_quality(str(options.quality))
    found.bound([sha256(options.weights)], where)
    if found.networks > 1:
        problem = f"it was fitted for the mean of {found.networks} networks, and a release holds one"
        raise CaseError(where, problem, "fit it on out-of-fold predictions")
    return found


def _metadata(
    before: dict[str, Any], folder: Path, settings: dict[str, Any], options: Options, metrics: dict[str, float]
) -> dict[str, Any]:
    found = dict(before)
    found["version"] = options.version
    found["changelog"] = {options.version: options.changes, **before["changelog"]}
    found["required_packages_version"] = {**before["required_packages_version"], **_requirements(folder)}
    found["data_source"] = before["data_source"].replace(NO_WEIGHTS, "see docs/data_license.txt; no data are shipped")
    if options.synthetic:
        found |= {"synthetic": True, "data_source": "synthetic images: python -m scripts phantom"}
        found["description"] = f"{SYNTHETIC} {before['description']}"
    found["least_field_of_view_mm"] = least_field_of_view(settings)
    found |= {"eval_metrics": metrics} if metrics else {}
    for side in found["network_data_format"].values():
        for entry in side.values():
            if all(isinstance(size, int) for size in entry["spatial_shape"]):
                entry["spatial_shape"] = settings["patch_size"]
    return found


def least_field_of_view(settings: Mapping[str, Any]) -> list[int]:
    """Half a patch along left-right, anterior-posterior and inferior-superior, in mm.

    In a smaller volume more than half of what the network sees along an axis is padding.

    Args:
        settings: `patch_size` and `spacing` (mm) by axis, `orientation` (axcodes).
    """
    sizes = {
        next(i for i, pair in enumerate(("LR", "AP", "SI")) if code in pair): round(voxels * mm / 2)
        for code, voxels, mm in zip(settings["orientation"], settings["patch_size"], settings["spacing"], strict=True)
    }
    return [sizes[axis] for axis in range(3)]


def _requirements(folder: Path) -> dict[str, str]:
    """Installed versions of what the code imports and the configurations use, but for what has a place of its own."""
    # the command line of monai.bundle reads its options with fire
    names = {"fire"} | (
        {"einops"} if any("SwinUNETR" in f.read_text() for f in folder.glob("configs/*.json")) else set()
    )
    for file in (folder / "custom_networks").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    names -= {*sys.stdlib_module_names, "custom_networks", "monai", "torch", "numpy"}
    packages = installed.packages_distributions()
    # what is not installed here is optional: the sparse backend
    found = {packages[name][0] for name in names if name in packages and not packages[name][0].startswith("spconv")}
    return {package: installed.version(package) for package in sorted(found)}


def _write_documents(folder: Path, settings: dict[str, Any], options: Options, table: str) -> None:
    file = folder / "docs/README.md"
    text = re.sub(
        r"^No weights are shipped[^\n]*\n(?:[^\n]+\n)*\n?", "", file.read_text("utf-8"), count=1, flags=re.MULTILINE
    )
    measured = (
        f"Measured with these weights on {_cases(options)}:\n\n{table}"
        if table
        else "None is claimed: no report was given when this release was made."
    )
    text = re.sub(
        r"^## Performance\n.*?(?=^## )",
        lambda _: f"## Performance\n\n{measured}\n\n",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    values = "\n".join(f"| {name} | `{json.dumps(value)}` |" for name, value in settings.items())
    precision = (
        "\n\nThe weights are stored in 16 bits: a few voxels differ from those of the 32-bit weights."
        if options.half
        else ""
    )
    synthetic = f"**{SYNTHETIC}**\n\n" if options.synthetic else ""
    exported = "".join(f"`models/model.{kind}` is the network {EXPORTS[kind]}; " for kind in options.exports)
    section = (
        f"## This release\n\n{synthetic}Version {options.version}: {options.changes}{precision}\n\n`models/model.pt` holds the weights and the settings they were trained "
        f"at, which stand as plain values in `configs`; {exported}`SHA256SUMS` the sums of "
        f"all files. Run the commands below from this folder; `custom_networks` lies in it.\n\n| setting | value |\n|---|---|\n{values}\n\n"
    )
    text = text.replace("\n## ", f"\n{section}## ", 1)
    write_text(file, text)
    license_file = folder / "docs/data_license.txt"
    unsaid = SYNTHETIC_DATA if options.synthetic else UNSTATED
    write_text(license_file, Path(options.data_license).read_text("utf-8") if options.data_license else unsaid)


def _cases(options: Options) -> str:
    cases = max(int(row["cases"]) for row in read_report(str(options.report)))
    kind = "synthetic case" if options.synthetic else "case"
    return f"{cases} {kind}{'s' if cases != 1 else ''}; mean ± standard deviation over cases"


def _write_large_files(folder: Path) -> None:
    """Files that are too large for git, in the form of `python -m monai.bundle download_large_files`."""
    lines = ["# Files over 25 MB. They lie in the zip; who publishes them elsewhere writes where into `url`."]
    large = [path for path in sorted((folder / "models").iterdir()) if path.stat().st_size > LARGE]
    lines.append("large_files:" if large else "large_files: []")
    for path in large:
        lines += [
            f'  - path: "models/{path.name}"',
            '    url: ""',
            '    hash_type: "sha256"',
            f'    hash_val: "{sha256(path)}"',
        ]
    write_text(folder / "large_files.yml", "\n".join(lines) + "\n")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=4, ensure_ascii=False) + "\n")
