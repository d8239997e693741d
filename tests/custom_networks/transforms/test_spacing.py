"""Resampling one axis at a time gives what MONAI's `Spacingd` gives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, Spacingd
from nibabel.eulerangles import euler2mat

from custom_networks import SeparableSpacingd

SPACING = (0.7, 0.8, 4.0)


def oblique(spacing: tuple[float, ...] = SPACING) -> torch.Tensor:
    turn, tilt = 0.2, -0.1
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = [-80, 30, 7]
    return torch.from_numpy(affine)


def pair(shape: tuple[int, ...] = (61, 50, 19), affine: torch.Tensor | None = None) -> dict[Hashable, torch.Tensor]:
    rng = np.random.default_rng(0)
    affine = oblique() if affine is None else affine
    image, label = rng.normal(size=(1, *shape)), rng.integers(0, 5, (1, *shape))
    return {
        "image": MetaTensor(torch.tensor(image, dtype=torch.float32), affine=affine),
        "label": MetaTensor(torch.tensor(label, dtype=torch.float32), affine=affine),
    }


def plain(data: Mapping[Hashable, torch.Tensor], key: str) -> torch.Tensor:
    value = data[key]
    return value.as_tensor() if isinstance(value, MetaTensor) else value


@pytest.mark.parametrize(
    "spacing",
    # no position half-way between two voxels, where MONAI's nearest is left to rounding
    [
        (0.5, 1.03, 3.1),
        (0.7, 0.8, 5.0),
        (1.371, 0.313, 4.0),
        (3.0173, 2.9311, 3.0717),
        (0.7, 0.8, 4.0),
        (0.7, 0.8, 4.0000001),
    ],
)
@pytest.mark.parametrize("mode", [[3, "nearest"], ["bilinear", "nearest"], [5, 0], [2, 1]])
def test_equals_spacingd_and_so_does_its_inverse(spacing: tuple[float, ...], mode: list[Any]) -> None:
    ours = SeparableSpacingd(["image", "label"], spacing, mode=mode)
    theirs = Spacingd(["image", "label"], spacing, mode=mode)
    done, expected = ours(pair()), theirs(pair())
    for step in range(2):
        for key in ("image", "label"):
            a, b = plain(done, key), plain(expected, key)
            assert a.shape == b.shape
            assert a.dtype == b.dtype == torch.float32
            torch.testing.assert_close(a, b, atol=2e-5, rtol=0)
            torch.testing.assert_close(done[key].affine, expected[key].affine)  # type: ignore[attr-defined]
        if step == 0:
            done, expected = ours.inverse(done), theirs.inverse(expected)


def turned(angles: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) @ np.diag(spacing)
    affine[:3, 3] = [-120.3, 88.8, 41.2]
    return affine


@pytest.mark.parametrize("seed", range(40))
def test_images_equal_to_a_ten_thousandth_of_a_millimetre_lie_on_one_grid(seed: int) -> None:
    """NIfTI's float32, DICOM's decimal text, and noise; with the inverse and the reorientation before it."""
    rng = np.random.default_rng(seed)
    size = rng.integers(20, 60, 3)
    # 0.5 mm of 0.4 and 2 mm of 5 leave extents half-way between two sizes
    own, target = rng.choice([0.4, 0.5, 0.9375, 1.0, 5.0], 3), rng.choice([0.469, 0.5, 0.8, 2.0, 5.0], 3)
    affine = turned(rng.uniform(-0.7, 0.7, 3), own) @ np.diag([*rng.choice([-1, 1], 3), 1])
    noisy = affine.copy()
    noisy[:3, :3] += rng.uniform(-1, 1, (3, 3)) * 3e-5 / size.max()
    results = []
    for written in (affine, affine.astype(np.float32), np.round(affine, 7), noisy):
        image = MetaTensor(torch.ones(1, *size), affine=torch.from_numpy(written.astype(float)))
        steps = Compose([Orientationd("image", "LPS", labels=None), SeparableSpacingd("image", target, mode="nearest")])
        done: Any = steps({"image": image})
        back: Any = steps.inverse(done)
        assert back["image"].shape == image.shape
        torch.testing.assert_close(back["image"].affine, image.affine, atol=1e-6, rtol=0)
        results.append((done["image"].shape, done["image"].affine))
    for shape, grid in results[1:]:
        assert shape == results[0][0]
        corners = torch.tensor([[0.0, 0, 0, 1], [*np.array(shape[1:]) - 1, 1]], dtype=torch.float64)
        torch.testing.assert_close(corners @ grid.T, corners @ results[0][1].T, atol=2e-3, rtol=0)


def test_monais_grid_is_left_to_rounding_where_ours_is_not() -> None:
    """The defect: remove `resampling_grid` once MONAI's own passes here."""
    affine = turned(np.array([0.3, -0.2, 0.1]), np.array([0.5, 0.5, 5.0]))
    shifts = []
    for kind in (Spacingd, SeparableSpacingd):
        grids = []
        for written in (affine, affine.astype(np.float32).astype(float)):
            image = MetaTensor(torch.zeros(1, 64, 64, 20), affine=torch.from_numpy(written))
            grids.append(kind("image", (0.469, 0.469, 3.0))({"image": image})["image"].affine[:3, 3])  # type: ignore[attr-defined]
        shifts.append(float((grids[0] - grids[1]).norm()))
    assert shifts[0] > 0.5
    assert shifts[1] < 1e-3


def test_a_sheared_image_is_centred_as_monais() -> None:
    affine = oblique()
    affine[0, 2] += 1.5
    image = MetaTensor(torch.rand(1, 21, 20, 19), affine=affine)
    ours = SeparableSpacingd("image", (1.0, 1.0, 3.0), mode="bilinear")({"image": image})["image"]
    theirs = Spacingd("image", (1.0, 1.0, 3.0), mode="bilinear")({"image": image})["image"]
    torch.testing.assert_close(ours.affine, theirs.affine)  # type: ignore[attr-defined]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("spacing", [(0.5, 1.03, 3.1), (1.4, 0.8, 4.0), (3.0, 2.9, 3.1)])
def test_labels_are_resampled_linearly_class_by_class(spacing: tuple[float, ...]) -> None:
    label = torch.zeros(1, 40, 38, 15)
    label[:, 5:20, 6:30, 3:12], label[:, 15:33, 10:20, 2:9], label[:, 30:36, 2:5, 10:13] = 2, 7, 104
    meta = MetaTensor(label, affine=oblique())
    transform = SeparableSpacingd("label", spacing, mode="label")
    done: Any = transform({"label": meta})["label"]
    shares = [
        SeparableSpacingd("label", spacing, mode="bilinear")(
            {"label": MetaTensor((label == v).float(), affine=oblique())}
        )
        for v in (0, 2, 7, 104)
    ]
    stacked = torch.cat([plain(share, "label") for share in shares])
    top = stacked.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-4)[None]
    expected = torch.tensor([0.0, 2.0, 7.0, 104.0])[stacked.argmax(0)][None]
    assert torch.equal(done.as_tensor()[clear], expected[clear])
    back: Any = transform.inverse({"label": done})["label"]
    assert back.shape == label.shape
    assert (back.as_tensor() == label).float().mean() > 0.95


def test_labels_on_a_sheared_grid_and_a_label_map_predicted_on_an_image() -> None:
    affine = oblique()
    affine[0, 2] += 1.5
    label = torch.zeros(1, 21, 20, 19)
    label[:, 4:12, 5:15, 3:12] = 3
    done: Any = SeparableSpacingd("label", (1.0, 1.0, 3.0), mode="label")({"label": MetaTensor(label, affine=affine)})
    assert done["label"].unique().tolist() == [0, 3]
    pre = Compose([SeparableSpacingd("image", (1.5, 1.5, 5.0), mode=3, inverse_mode="label")])
    data: Any = pre({"image": pair()["image"]})
    data["pred"] = (data["image"] > 0).float() * 9
    back: Any = Invertd("pred", pre, "image", nearest_interp=False)(data)["pred"]
    assert back.shape == (1, 61, 50, 19)
    assert back.unique().tolist() == [0, 9]


def test_several_channels_and_two_dimensions() -> None:
    image = MetaTensor(torch.rand(3, 40, 30), affine=torch.diag(torch.tensor([0.7, 0.8, 1.0])))
    ours = SeparableSpacingd("image", (0.55, 1.0), mode=3)({"image": image})
    theirs = Spacingd("image", (0.55, 1.0), mode=3)({"image": image})
    torch.testing.assert_close(plain(ours, "image"), plain(theirs, "image"), atol=2e-5, rtol=0)


@pytest.mark.parametrize("nearest", [True, False])
def test_invertd_takes_a_prediction_to_the_original_grid(nearest: bool) -> None:
    """As the bundles do: labels (nearest) or several channels of scores."""
    results = []
    for kind in (SeparableSpacingd, Spacingd):
        # any type of the two has the same constructor
        pre = Compose([kind("image", (0.9, 0.9, 2.0), mode=3 if nearest else "bilinear")])
        data: Any = pre({"image": pair()["image"]})
        scores = torch.stack([data["image"][0].as_tensor() * k for k in (1, 2)])
        data["pred"] = MetaTensor((scores[:1] > 0).float() if nearest else scores, affine=data["image"].affine)
        back: Any = Invertd("pred", pre, "image", nearest_interp=nearest)(data)["pred"]
        assert back.shape == (1 if nearest else 2, 61, 50, 19)
        torch.testing.assert_close(back.affine, oblique(), atol=1e-6, rtol=1e-6)
        results.append(back.as_tensor())
    torch.testing.assert_close(results[0], results[1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("options", [{"padding_mode": "zeros"}, {"diagonal": True}, {"align_corners": True}])
def test_what_is_not_along_the_axes_is_left_to_monai(options: dict[str, Any]) -> None:
    ours = SeparableSpacingd("image", (1.0, 1.0, 3.0), mode="bilinear", **options)({"image": pair()["image"]})
    theirs = Spacingd("image", (1.0, 1.0, 3.0), mode="bilinear", **options)({"image": pair()["image"]})
    assert torch.equal(plain(ours, "image"), plain(theirs, "image"))
