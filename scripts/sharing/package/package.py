"""`python -m scripts package`: a bundle and its weights to a release that runs from its own folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from custom_networks.errors import CaseError
from scripts.sharing.package.contents import EXPORTS, Options, fill
from scripts.sharing.package.sums import write_sums, zipped
from scripts.sharing.package.verify import check_texts, run_alone, verify


def package(
    bundle: str | None = None,
    weights: str | None = None,
    output: str | None = None,
    version: str | None = None,
    changes: str | None = None,
    report: str | None = None,
    data_license: str | None = None,
    half: bool = False,
    quality: str | None = None,
    synthetic: bool = False,
    exports: Sequence[str] = ("ts",),
    check: str | None = None,
) -> int:
    """Make a release of a bundle, as a folder and a zip, or verify one: docs/releases.md.

    It holds the code, the weights with their settings (model.pt), what they are (model.json), the network without code
    (model.ts), configurations with the settings as plain values, documents, metadata and SHA256SUMS. It is verified
    before it appears.

    Args:
        bundle: folder of the bundle.
        weights: file of weights that carry their settings, such as models/model.pt of a training.
        output: folder that takes BUNDLE/ and BUNDLE_vVERSION.zip.
        version: of the release, above the one in the bundle's metadata: 0.2.0.
        changes: what is new, for the changelog.
        report: output folder of `evaluate` with these weights: the table in the README and eval_metrics.
        data_license: text file that says which images the weights were trained on, and their terms.
        half: store 16-bit weights.
        quality: quality.json that was fitted for these weights, which `segment` then uses.
        synthetic: the weights were trained on synthetic images alone: metadata, documents and everything that `segment`
            writes with them say so.
        exports: ts (TorchScript), onnx; `--exports "[]"` for none.
        check: a release's zip or folder to verify; nothing else is given then.

    Returns:
        0.

    Raises:
        CaseError: something is missing or does not fit, or the release does not pass; nothing is left behind.
    """
    given = {"bundle": bundle, "weights": weights, "output": output, "version": version, "changes": changes}
    if check is not None:
        if any(value is not None for value in [*given.values(), report, data_license, quality]) or half or synthetic:
            raise CaseError("option --check", "it makes no release", "give it alone")
        _verified(Path(check))
        print(f"{check}: passed")
        return 0
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise CaseError(f"option --{missing[0]}", "it is missing", "add it, or give --check alone")
    source, target = Path(str(bundle)), Path(str(output))
    unknown = [kind for kind in exports if kind not in EXPORTS]
    if unknown:
        raise CaseError("option --exports", f"{unknown[0]} is not known", f"choose from {', '.join(EXPORTS)}")
    options = Options(
        Path(str(weights)), str(version), str(changes), report, data_license, half, quality, synthetic, tuple(exports)
    )
    folder, archive = target / source.resolve().name, target / f"{source.resolve().name}_v{version}.zip"
    for path in (folder, archive):
        if path.exists():
            raise CaseError(f"output {path}", "it exists", "give another --output, or delete it")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package_", dir=target) as work:
        made = Path(work) / folder.name
        fill(made, source, options)
        check_texts(made)
        run_alone(made, options.exports)
        write_sums(made)
        packed = zipped(made, Path(work) / archive.name)
        made.replace(folder)
        packed.replace(archive)
    print(f"{folder}\n{archive}")
    return 0


def _verified(path: Path) -> None:
    if path.is_dir():
        verify(path)
        return
    with tempfile.TemporaryDirectory(prefix="package_") as work:
        try:
            shutil.unpack_archive(path, work, "zip")
        except (OSError, ValueError, shutil.ReadError) as error:
            raise CaseError(f"release {path}", f"it is no zip ({error})", "copy or make it again") from error
        folders = list(Path(work).iterdir())
        if len(folders) != 1 or not folders[0].is_dir():
            raise CaseError(f"release {path}", "it does not hold one folder", "make it with `package`")
        verify(folders[0], str(path))
