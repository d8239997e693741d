"""Run with `python -c` in a release, with nothing but it and installed packages: does it stand alone?

The word `export` has it write models/model.ts first.
"""

import json
import sys
import zipfile
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out

import custom_networks

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
EXPORTED = Path("models/model.ts")


def main() -> None:
    """Exit with a sentence if not."""
    if not Path(custom_networks.__file__).resolve().is_relative_to(Path.cwd().resolve()):
        sys.exit("custom_networks is another one than the release's own")
    if "export" in sys.argv:
        ckpt_export("network_def", filepath=str(EXPORTED), ckpt_file=WEIGHTS, meta_file=METADATA, config_file=INFERENCE)
        leave_sources_out(EXPORTED)
    # a size of 16*n is then 32, which the deepest network can halve five times
    verify_net_in_out("network_def", meta_file=METADATA, config_file=INFERENCE, device="cpu", n=2)
    parser = ConfigParser()
    parser.read_config(INFERENCE)
    network = parser.get_parsed_content("network_def").eval()
    custom_networks.load_weights(network, WEIGHTS)
    exported = torch.jit.load(EXPORTED, map_location="cpu").eval()
    channels = json.loads(Path(METADATA).read_text("utf-8"))["network_data_format"]["inputs"]["image"]["num_channels"]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels, *parser.get_parsed_content("patch_size"), generator=generator)
    outputs = []
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        for one in (network, exported):
            torch.manual_seed(0)
            outputs.append(one(x))
    difference = float((outputs[0] - outputs[1]).abs().max())
    if not difference <= 1e-4 * max(1.0, float(outputs[0].abs().max())):
        sys.exit(f"model.ts differs from model.pt by {difference:.2g}")


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
