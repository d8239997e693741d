"""`python -m scripts import_weights`: published weights as the `model.pt` of a bundle, with their settings inside."""

from __future__ import annotations

from pathlib import Path

from custom_networks.errors import CaseError
from custom_networks.handlers.checkpoints import write_checkpoint
from custom_networks.settings import decoded, write_settings
from scripts.core.files import sha256
from scripts.sharing.import_weights.stunet import convert_stunet, read_checkpoint

SOURCES = ("stunet",)


def import_weights(source: str, file: str, output: str) -> None:
    """Convert published weights into the model.pt of a bundle. Research only, as the bundles are.

    Args:
        source: `stunet`: STU-Net small, base, large or huge, trained on TotalSegmentator v1; for gynbtnet_finetune.
        file: the checkpoint as its authors publish it, nnU-Net v1 (.model) or v2 (.pth).
        output: folder for model.pt and model.json, which tells where it came from.

    Raises:
        CaseError: an unknown source, a file of another kind or with code in it, or a model.pt that is there already.
    """
    if source not in SOURCES:
        raise CaseError(f"source {source}", "it is not known", f"choose from {', '.join(SOURCES)}")
    target = Path(output) / "model.pt"
    if target.exists():
        raise CaseError(f"weights {target}", "they are there already", "pass another --output or move them away")
    weights = convert_stunet(read_checkpoint(file), file)
    write_checkpoint(target, weights)
    write_settings(target, weights, source={"project": "STU-Net", "file": Path(file).name, "sha256": sha256(file)})
    settings = decoded(weights["settings"])
    parameters = sum(value.numel() for name, value in weights.items() if name != "settings")
    print(
        f"{target}: {settings['variant']}, {parameters / 1e6:.2f} million parameters, {settings['num_classes']} classes"
    )
    print(f"python -m scripts segment SCAN OUTPUT --bundle bundles/{settings['bundle']} --weights {target}")
