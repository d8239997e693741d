"""Run with `python -c` in a release, with nothing but it and installed packages: does it stand alone?

The words `ts` and `onnx` have it write models/model.ts and models/model.onnx first.
"""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out

import custom_networks

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
SCRIPT, ONNX = Path("models/model.ts"), Path("models/model.onnx")
# of 1, relative to the largest score
TOLERANCE = 1e-4


def main() -> None:
    """Exit with a sentence if not."""
    if not Path(custom_networks.__file__).resolve().is_relative_to(Path.cwd().resolve()):
        sys.exit("custom_networks is another one than the release's own")
    if "ts" in sys.argv:
        ckpt_export("network_def", filepath=str(SCRIPT), ckpt_file=WEIGHTS, meta_file=METADATA, config_file=INFERENCE)
        leave_sources_out(SCRIPT)
    # a size of 16*n is then 32, which the deepest network can halve five times
    verify_net_in_out("network_def", meta_file=METADATA, config_file=INFERENCE, device="cpu", n=2)
    parser = ConfigParser()
    parser.read_config(INFERENCE)
    network = parser.get_parsed_content("network_def").eval()
    custom_networks.load_weights(network, WEIGHTS)
    channels = json.loads(Path(METADATA).read_text("utf-8"))["network_data_format"]["inputs"]["image"]["num_channels"]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels, *parser.get_parsed_content("patch_size"), generator=generator)
    if "onnx" in sys.argv:
        export_onnx(network, x, ONNX)
    if SCRIPT.is_file():
        compare(network, torch.jit.load(SCRIPT, map_location="cpu").eval(), x, SCRIPT.name)
    if ONNX.is_file():
        compare(network, load_onnx(ONNX), x, ONNX.name)


def compare(
    network: torch.nn.Module, exported: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, name: str
) -> None:
    """Exit with a sentence if an exported network differs from the one it was made of."""
    outputs = []
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        for one in (network, exported):
            torch.manual_seed(0)
            outputs.append(one(x))
    difference = float((outputs[0] - outputs[1]).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(outputs[0].abs().max())):
        sys.exit(f"{name} differs from model.pt by {difference:.2g}")


def export_onnx(network: torch.nn.Module, x: torch.Tensor, file: Path) -> None:
    """Write a network as ONNX for any number and size of images; MONAI's own export fixes both where it scripts.

    Args:
        network: in eval mode.
        x: an image it takes, (B, C, *S).
        file: to write.

    Raises:
        CaseError: the network has no shapes that ONNX could express.
    """
    any_size = torch.export.Dim.DYNAMIC
    # two of them: what is one in the example would be one for good
    pair = torch.cat([x, x])
    torch.onnx.export(
        network,
        (pair,),
        file,
        input_names=["image"],
        output_names=["pred"],
        dynamic_shapes=({axis: any_size for axis in range(pair.ndim) if axis != 1},),
        # weights inside: one file that cannot come apart
        external_data=False,
        verbose=False,
    )


def load_onnx(file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """An exported network as a function, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0])


def leave_sources_out(file: Path) -> None:
    """TorchScript keeps, for its tracebacks, where on this computer the sources lay; it loads without them."""
    bare = file.with_name("bare.ts")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(bare, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(entry, old.read(entry))
    bare.replace(file)


if __name__ == "__main__":
    main()
