"""What the viewer is given: the voxels of the files, where they were."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.core.page.page import write_page
from scripts.core.page.viewer import LIBRARY, MOST, ViewedCase, crop, viewed_case, viewer, within


def decoded(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def places(voxels: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """Where the voxels of every label value are, in mm."""
    index = np.argwhere(voxels > 0)
    mm = nib.affines.apply_affine(affine, index).round(3)
    return {(*map(float, point), float(voxels[tuple(i)])) for point, i in zip(mm, index, strict=True)}


def case(phantom: Any, **changes: Any) -> ViewedCase:
    given = {**vars(phantom), **changes}
    return viewed_case("c", *(given[key] for key in ("image", "truth", "prediction", "affine")), modality="MR")


@pytest.mark.parametrize("oblique", [False, True])
def test_every_voxel_stays_where_it_was(phantom: Any, oblique: bool) -> None:
    affine = phantom.affine.copy()
    if oblique:
        # turned, sheared and mirrored: only the whole affine says where voxels are
        affine[:3, :3] = np.array([[0.3, -1.9, 0.4], [1.8, 0.4, 0.5], [0.2, -0.3, 3.6]])
    made = case(phantom, affine=affine)
    for text, array in ((made.truth, phantom.truth), (made.prediction, phantom.prediction)):
        file = decoded(text)
        assert file.get_data_dtype() == np.uint8
        assert file.shape < array.shape, "cropped"
        assert places(np.asarray(file.dataobj), file.affine) == places(array, affine)
    image = decoded(made.image)
    assert np.allclose(image.affine, decoded(made.truth).affine, atol=1e-5)
    assert places(np.asanyarray(image.dataobj) > 150, image.affine) == places(phantom.image > 150, affine)


def test_the_patients_left_is_on_the_left_of_the_world(phantom: Any) -> None:
    image = decoded(case(phantom).image)
    bright = np.argwhere(np.asanyarray(image.dataobj) > 150)
    x, y, z = nib.affines.apply_affine(image.affine, bright).mean(axis=0)
    # voxel (45.5, 15.5, 7): left is -x in NIfTI, 91 mm from the first voxel
    assert (x, y, z) == pytest.approx((51 - 91, 40 - 31, -30 + 28), abs=1e-4)


def test_eight_bits_hold_the_values_to_half_a_step(phantom: Any) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(300, 50, phantom.image.shape)
    image[0, 0, 0], image[30, 30, 7] = np.nan, np.inf
    made = case(phantom, image=image)
    file = decoded(made.image)
    box = crop((phantom.truth > 0) | (phantom.prediction > 0), phantom.affine)
    least, largest = made.limits
    low, high = made.window
    assert least <= low < high <= largest
    expected = np.clip(np.nan_to_num(image[box], nan=least, posinf=largest), least, largest)
    assert np.abs(np.asanyarray(file.dataobj) - expected).max() <= (largest - least) / 255 / 2 + 1e-3
    assert np.asarray(file.dataobj.get_unscaled()).dtype == np.uint8


def test_ct_is_shown_in_hounsfield_units_around_soft_tissue(phantom: Any) -> None:
    image = np.where(phantom.truth > 0, 40.0, -1000.0)
    image[30] = 1500.0
    made = viewed_case("c", image, phantom.truth, phantom.prediction, phantom.affine, "CT")
    assert made.window == (-160, 240)
    assert made.limits == (-360, 440)
    values = np.asanyarray(decoded(made.image).dataobj)
    assert values.min() == pytest.approx(-360)
    assert values[np.asarray(decoded(made.truth).dataobj) > 0] == pytest.approx(40, abs=2)


def test_the_first_look_is_at_the_target(phantom: Any) -> None:
    truth = phantom.truth.copy()
    truth[30:32, 22:24, 5:7] = 3
    given = (phantom.image, truth, phantom.prediction, phantom.affine, "MR")
    assert viewed_case("c", *given, target=[3]).centre == pytest.approx((51 - 60, 40 - 44, -30 + 24), abs=2)
    assert viewed_case("c", *given, target=[9]).values == (1, 2, 3)
    nothing = np.zeros_like(truth)
    alone = viewed_case("c", phantom.image, nothing, phantom.prediction, phantom.affine, "MR", target=[3])
    assert alone.centre == pytest.approx((51 - 74, 40 - 66, -30 + 28), abs=2)


def test_nothing_to_see_is_shown_whole(phantom: Any) -> None:
    nothing = np.zeros_like(phantom.truth)
    made = case(phantom, truth=nothing, prediction=nothing, image=np.zeros_like(phantom.image))
    assert decoded(made.image).shape == phantom.image.shape
    assert made.values == ()
    assert np.isfinite([*made.window, *made.limits, *made.centre]).all()


def test_label_values_above_255_are_kept(phantom: Any) -> None:
    made = case(phantom, truth=phantom.truth.astype(np.int32) * 1000)
    assert np.unique(np.asarray(decoded(made.truth).dataobj)).tolist() == [0, 1000]
    assert made.values == (2, 1000)


def test_the_margin_is_in_millimetres_and_inside_the_image(phantom: Any) -> None:
    box = crop(phantom.truth > 0, phantom.affine, margin=8.0)
    assert box == (slice(18, 32), slice(16, 30), slice(3, 12))
    assert crop(phantom.truth > 0, phantom.affine, margin=400.0) == tuple(slice(0, n) for n in phantom.truth.shape)


def test_a_page_holds_what_it_can(phantom: Any) -> None:
    one = case(phantom)
    cases = [replace(one, caption=f"c{i}") for i in range(8)]
    kept, left = within(cases, one.size * 3)
    assert ([c.caption for c in kept], left) == (["c0", "c1", "c2"], ["c3", "c4", "c5", "c6", "c7"])
    large = replace(one, caption="large", image="x" * one.size * 9)
    kept, left = within([large, *cases[:2]], one.size * 3)
    assert ([c.caption for c in kept], left) == (["c0", "c1"], ["large"])
    assert len(within(cases)[0]) == MOST == 6


def test_names_in_the_page_are_escaped_and_unknown_values_have_one(phantom: Any, tmp_path: Any) -> None:
    evil = "</script><script>alert(1)</script>"
    section = viewer("Viewer", [replace(case(phantom), caption=evil)], {0: "background", 1: evil}, [evil])
    text = write_page(tmp_path / "page.html", "t", "l", [section]).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert [label["name"] for label in section.values["labels"]] == [evil, "label 2"]
    assert "Too large for this page: &lt;/script&gt;" in text
    assert "BSD 2-Clause" in text


def test_the_library_is_the_one_whose_licence_stands_beside_it() -> None:
    licence = (LIBRARY.parent / "LICENSE.txt").read_text(encoding="utf-8")
    assert f"SHA-256 {hashlib.sha256(LIBRARY.read_bytes()).hexdigest()}" in licence
    version = re.search(r"niivue-([0-9.]+)\.umd\.js", LIBRARY.name)
    assert version
    assert f"@niivue/niivue {version[1]}" in licence
    assert "BSD 2-Clause License" in licence
    # nothing of it may end the element that it stands in
    assert not re.search(rb"</script|<!--", LIBRARY.read_bytes(), re.IGNORECASE)
