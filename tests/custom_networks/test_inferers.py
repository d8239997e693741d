from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, Orientationd, Spacingd
from torch import Tensor, nn

from custom_networks.inferers import LabelMapInferer

PEAK = """
import json, resource, sys
import numpy as np, torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Spacingd
from custom_networks.inferers import LabelMapInferer
torch.set_num_threads(1)
size, original, roi, classes, threads = json.loads(sys.argv[1])
scores = torch.empty(1, classes, *roi)
offsets = torch.arange(classes).view(1, -1, 1, 1, 1) / classes
def network(x):
    # the output lives in one buffer, so that memory above it is the inferer's
    torch.sub(x, offsets, out=scores)
    return scores.abs_().neg_()
spacing = [o / s for o, s in zip(original, size)]
pixdim = [1.5 * k for k in spacing]
image = MetaTensor(torch.rand(1, *original), affine=torch.diag(torch.tensor([1.5, 1.5, 1.5, 1.0])))
pre = Compose([Spacingd(keys="image", pixdim=pixdim, mode="bilinear")])
data = pre({"image": image})
inferer = LabelMapInferer(roi, overlap=0.5, mode="gaussian")
network(torch.zeros(1, 1, *roi))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data["pred"] = inferer(data["image"][None], network)[0]
after_windows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert data["pred"].shape[1:] == data["image"].shape[1:]
back = Invertd(keys="pred", transform=pre, orig_keys="image", nearest_interp=True, to_tensor=True)(data)["pred"]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert back.shape[1:] == tuple(original), back.shape
print(json.dumps({"inference": (after_windows - before) / 2**20, "with_inversion": (after - before) / 2**20,
                  "grid": list(data["image"].shape[1:]), "labels": int(back.max()) + 1}))
"""


class Network(nn.Module):
    def __init__(self, classes: int = 5, dims: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        convolution = nn.Conv3d if dims == 3 else nn.Conv2d
        self.body = nn.Sequential(convolution(1, 6, 3, padding=1), nn.ReLU(), convolution(6, classes, 3, padding=1))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += len(x)
        scores: Tensor = self.body(x)
        return scores


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((33, 47, 29), {"roi_size": (16, 12, 16), "overlap": 0.5, "mode": "gaussian"}),
        ((33, 20, 29), {"roi_size": (16, 20, 16), "overlap": 0.25, "sw_batch_size": 3}),
        ((40, 40, 10), {"roi_size": (16, 16, 16), "overlap": (0.5, 0.7, 0.1), "mode": "gaussian"}),
        ((9, 40, 10), {"roi_size": (16, 16, 16), "padding_mode": "replicate", "overlap": 0.0}),
        ((20, 21, 22), {"roi_size": (8, -1, 16), "overlap": 0.6, "mode": "gaussian", "sw_batch_size": 4}),
        ((12, 12, 12), {"roi_size": 12, "cval": -3.0}),
    ],
)
def test_labels_are_those_of_the_plain_sliding_window(size: tuple[int, ...], options: dict[str, Any]) -> None:
    network = Network()
    images = torch.randn(2, 1, *size)
    with torch.no_grad():
        plain = SlidingWindowInferer(**options)(images, network)
        calls, network.calls = network.calls, 0
        labels = LabelMapInferer(**options)(images, network)
    assert isinstance(plain, Tensor)
    assert network.calls == calls
    assert labels.shape == (2, 1, *size)
    assert labels.dtype == torch.float32
    assert (labels == plain.argmax(1, keepdim=True)).float().mean() >= 0.9999
    assert len(labels.unique()) == 5


def test_two_dimensions() -> None:
    network, images = Network(dims=2), torch.randn(1, 1, 30, 41)
    options = {"roi_size": (16, 16), "overlap": 0.5, "mode": "gaussian"}
    with torch.no_grad():
        plain = SlidingWindowInferer(**options)(images, network)  # type: ignore[arg-type]
        assert torch.equal(LabelMapInferer(**options)(images, network), plain.argmax(1, keepdim=True).float())  # type: ignore[arg-type, union-attr]


def test_live_scores_stay_below_the_whole_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the voxels of the accumulators that exist at one time."""
    live: list[int] = []
    argmax = Tensor.argmax
    zeros = torch.zeros

    def counted_zeros(*arguments: Any, **options: Any) -> Tensor:
        out = zeros(*arguments, **options)
        if out.ndim == 4:
            live.append((live[-1] if live else 0) + out[0].numel())
        return out

    def counted_argmax(self: Tensor, *arguments: Any) -> Tensor:
        live.append(live[-1] - self[0].numel())
        return argmax(self, *arguments)

    monkeypatch.setattr(torch, "zeros", counted_zeros)
    monkeypatch.setattr(Tensor, "argmax", counted_argmax)
    with torch.no_grad():
        LabelMapInferer((16, 16, 16), overlap=0.5)(torch.randn(1, 1, 32, 32, 96), Network())
    assert live[-1] == 0
    # half a window deep along the long axis, plus the row of windows at hand
    assert max(live) <= 8 * 32 * 32 + 8 * 16 * 32 + 16**3


def test_wrappers_lists_and_scripts() -> None:
    network, image = Network(), torch.randn(1, 1, 20, 20, 20)
    inferer = LabelMapInferer((12, 12, 12), overlap=0.5)

    class Wrapper:
        predictor = network

    with torch.no_grad():
        expected = inferer(image, network)
        assert torch.equal(inferer(image, Wrapper()), expected)  # type: ignore[arg-type]
        assert torch.equal(inferer(image, lambda x: [network(x), None]), expected)
        assert torch.equal(inferer(image, lambda x: {"out": network(x)}), expected)
        assert torch.equal(inferer(image, torch.jit.trace(network, torch.zeros(1, 1, 12, 12, 12))), expected)
    with pytest.raises(ValueError, match="not of the window's size"):
        inferer(image, lambda x: x[:, :, ::2])


def test_invertd_takes_the_labels_to_the_original_grid() -> None:
    affine = torch.tensor([[-0.7, 0, 0, 5], [0, 0, 2.5, -3], [0, 0.7, 0, 9], [0, 0, 0, 1]], dtype=torch.float64)
    preprocessing = Compose(
        [
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS", labels=None),
            Spacingd(keys="image", pixdim=(1.5, 1.5, 1.5), mode="bilinear"),
        ]
    )
    meta = {"original_channel_dim": "no_channel"}
    data = preprocessing({"image": MetaTensor(torch.randn(40, 44, 20), affine=affine, meta=meta)})
    parser = ConfigParser(
        {
            "inferer": {
                "_target_": "custom_networks.inferers.LabelMapInferer",
                "roi_size": [16, 16, 16],
                "overlap": 0.5,
                "mode": "gaussian",
            }
        }
    )
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], Network())[0]
    assert isinstance(data["pred"], MetaTensor)
    torch.testing.assert_close(data["pred"].affine, data["image"].affine)
    invert = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=True, to_tensor=True)
    pred = invert(data)["pred"]
    assert pred.shape == (1, 40, 44, 20)
    torch.testing.assert_close(pred.affine, affine)
    assert set(np.unique(pred)) <= set(range(5))


@pytest.mark.slow
def test_105_classes_over_a_large_volume_stay_below_4_gib() -> None:
    arguments = [[287, 287, 397], [300, 300, 400], [112, 128, 128], 105, 1]
    command = [sys.executable, "-c", PEAK, json.dumps(arguments)]
    result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[-1])
    assert result["with_inversion"] < 4
