"""Surface metrics against closed forms, and through ignite as a bundle uses them."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.multiprocessing as mp
from monai import metrics as monais
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.engines import SupervisedEvaluator
from monai.handlers import HausdorffDistance, IgniteMetricHandler, from_engine
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes, mesh_surface_area

from custom_networks.metrics import SurfaceMetric, surface_metrics


def box(shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
    return mask


def ball(n: int, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    shape = [int(np.ceil(2 * n / s)) | 1 for s in spacing]
    axes = [(np.arange(m) - m // 2) * s for m, s in zip(shape, spacing, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    return (sum(g**2 for g in grid) <= radius_mm**2).astype(np.uint8)


def by_definition(pred: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """Section 3.1 written out from scratch: surface voxels, nearest distances, percentiles, sums."""

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask.astype(bool), 1)
        inner = padded.copy()
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            inner &= np.roll(padded, step, axis)
        return np.argwhere(padded & ~inner) * np.asarray(spacing)

    sp, sg = surface(pred), surface(label)
    d_pg, d_gp = cKDTree(sg).query(sp)[0], cKDTree(sp).query(sg)[0]
    hd95 = max(np.percentile(d_pg, 95), np.percentile(d_gp, 95))
    return float(hd95), float((d_pg.sum() + d_gp.sum()) / (len(d_pg) + len(d_gp)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifted_cube_is_off_by_its_shift_in_mm(axis: int) -> None:
    spacing = (0.5, 2.0, 5.0)
    start = [4, 4, 4]
    start[axis] += 2
    label, pred = box((24, 24, 24), (4, 4, 4), (10, 10, 10)), box((24, 24, 24), tuple(start), (10, 10, 10))
    result = surface_metrics(pred, label, spacing)
    assert result["dsc"] == pytest.approx(0.8)
    # the two end faces, 1 voxel in 4.88 of the surface, are 2 steps away: more than 5 %
    assert result["hd95"] == pytest.approx(2 * spacing[axis])
    assert 0 < result["asd"] < 2 * spacing[axis]


def test_thin_plates_a_known_distance_apart() -> None:
    """Every voxel of a plate one voxel thick is surface, so HD95 = ASD = the gap."""
    label, pred = box((12, 16, 16), (2, 0, 0), (1, 16, 16)), box((12, 16, 16), (7, 0, 0), (1, 16, 16))
    result = surface_metrics(pred, label, (3.0, 0.7, 0.7))
    assert result["hd95"] == pytest.approx(15.0)
    assert result["asd"] == pytest.approx(15.0)
    assert result["dsc"] == 0
    assert not result["missed"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 1.0), (1.0, 0.5, 0.5)])
def test_concentric_spheres_differ_by_their_radii(spacing: tuple[float, float, float]) -> None:
    result = surface_metrics(ball(24, 20.0, spacing), ball(24, 14.0, spacing), spacing)
    assert result["asd"] == pytest.approx(6.0, abs=max(spacing) / 2)
    assert result["hd95"] == pytest.approx(6.0, abs=max(spacing))
    assert result["dsc"] == pytest.approx(2 * 14**3 / (14**3 + 20**3), abs=0.01)


def test_equals_the_formulas_of_the_paper_on_random_shapes() -> None:
    rng = np.random.default_rng(0)
    spacing = (0.47, 0.6, 5.0)
    for _ in range(8):
        coarse = rng.random((2, 4, 5, 3)) > 0.5
        pred, label = (np.kron(m, np.ones((3, 3, 2))).astype(np.uint8) for m in coarse)
        result = surface_metrics(pred, label, spacing)
        assert (result["hd95"], result["asd"]) == pytest.approx(by_definition(pred, label, spacing), rel=1e-5)


def blobs(seed: int, shape: tuple[int, int, int] = (14, 13, 9)) -> tuple[np.ndarray, np.ndarray]:
    """Two random shapes that overlap, some of them touching the border, with holes and islands."""
    rng = np.random.default_rng(seed)
    both = []
    common = rng.normal(size=shape)
    for _ in range(2):
        field = gaussian_filter(common + 0.5 * rng.normal(size=shape), 1.2)
        both.append((field > np.quantile(field, 0.6)).astype(np.uint8))
    return both[0], both[1]


def surface_elements(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """DeepMind's surface, from scratch: per cell of eight voxel centres its place in mm and the area within it.

    Which corners a cell's surface connects is ambiguous where more than four are inside: the definition always cuts off the
    fewer.
    """
    padded = np.pad(mask.astype(float), 1)
    places, areas = [], []
    for index in np.ndindex(*(n - 1 for n in padded.shape)):
        corners = padded[tuple(slice(i, i + 2) for i in index)]
        if 0 < corners.sum() < 8:
            fewer = corners if corners.sum() <= 4 else 1 - corners
            vertices, faces, _, _ = marching_cubes(fewer, 0.5, spacing=spacing, method="lorensen")
            places.append(np.multiply(index, spacing))
            areas.append(mesh_surface_area(vertices, faces))
    return np.asarray(places), np.asarray(areas)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.47, 0.6, 5.0)])
def test_surface_dice_is_deepminds_by_brute_force(spacing: tuple[float, float, float]) -> None:
    for seed in range(3):
        pred, label = blobs(seed)
        (p, area_p), (g, area_g) = surface_elements(pred, spacing), surface_elements(label, spacing)
        distance = cdist(p, g)
        for tolerance in (0.0, 0.55, 1.05, 2.3):
            near = area_p[distance.min(axis=1) <= tolerance].sum() + area_g[distance.min(axis=0) <= tolerance].sum()
            found = surface_metrics(pred, label, spacing, tolerance, ["nsd"])
            assert list(found) == ["nsd"]
            assert found["nsd"] == pytest.approx(near / (area_p.sum() + area_g.sum()), abs=1e-6)
            assert 0 < found["nsd"] < 1


def test_counting_voxels_instead_of_area_is_another_definition() -> None:
    """MONAI's default counts surface voxels; on thick slices the two differ, so the docs say which it is."""
    pred, label = blobs(0)
    tensors = [torch.as_tensor(m)[None, None] for m in (pred, label)]
    arguments = {"class_thresholds": [1.05], "include_background": True, "spacing": (0.47, 0.6, 5.0)}
    by_area = surface_metrics(pred, label, (0.47, 0.6, 5.0), 1.05)["nsd"]
    area, voxels = (monais.compute_surface_dice(*tensors, **arguments, use_subvoxels=u).item() for u in (True, False))
    assert area == pytest.approx(by_area, abs=1e-6)
    assert abs(voxels - by_area) > 0.01


def test_equals_simpleitk_and_monai_on_random_shapes() -> None:
    spacing = (0.47, 0.6, 5.0)
    for seed in range(4):
        pred, label = blobs(seed)
        images = []
        for mask in (pred, label):
            # the border of the array is background
            image = sitk.GetImageFromArray(np.pad(mask, 1).transpose())
            image.SetSpacing(spacing)
            images.append(image)
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*images)
        contours = [sitk.LabelContour(image, fullyConnected=False) for image in images]
        maps = [
            np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True)))
            for c in contours
        ]
        edges = [sitk.GetArrayFromImage(c) > 0 for c in contours]
        d_pg, d_gp = maps[1][edges[0]], maps[0][edges[1]]
        result = surface_metrics(pred, label, spacing)
        assert result["dsc"] == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-9)
        assert result["hd95"] == pytest.approx(max(np.percentile(d_pg, 95), np.percentile(d_gp, 95)), rel=1e-6)
        assert result["asd"] == pytest.approx((d_pg.sum() + d_gp.sum()) / (len(d_pg) + len(d_gp)), rel=1e-6)
        tensors = [torch.as_tensor(m)[None, None] for m in (pred, label)]
        common = {"include_background": True, "spacing": spacing}
        assert result["dsc"] == pytest.approx(monais.compute_dice(*tensors).item(), abs=1e-6)
        assert result["asd"] == pytest.approx(
            monais.compute_average_surface_distance(*tensors, symmetric=True, **common).item(), rel=1e-6
        )
        # MONAI takes the percentile's place in float32
        assert result["hd95"] == pytest.approx(
            monais.compute_hausdorff_distance(*tensors, percentile=95, **common).item(), rel=1e-5
        )


def test_simpleitks_hausdorff_distance_is_over_all_voxels_but_has_the_same_maximum() -> None:
    """ITK's filter takes each voxel of the object, ours those of its surface: the maxima agree, the averages do not."""
    pred, label = blobs(1)
    images = [sitk.GetImageFromArray(m.transpose()) for m in (pred, label)]
    for image in images:
        image.SetSpacing((0.47, 0.6, 5.0))
    itk = sitk.HausdorffDistanceImageFilter()
    itk.Execute(*images)
    ours = monais.compute_hausdorff_distance(
        *(torch.as_tensor(m)[None, None] for m in (pred, label)), include_background=True, spacing=(0.47, 0.6, 5.0)
    ).item()
    assert itk.GetHausdorffDistance() == pytest.approx(ours, rel=1e-6)
    assert abs(itk.GetAverageHausdorffDistance() - surface_metrics(pred, label, (0.47, 0.6, 5.0))["asd"]) > 0.01


def test_permuting_axes_with_their_spacing_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    pred, label = (np.kron(rng.random((4, 3, 5)) > 0.6, np.ones((2, 3, 2))) for _ in range(2))
    spacing = (0.5, 1.5, 4.0)
    expected = surface_metrics(pred, label, spacing)
    for order in itertools.permutations(range(3)):
        moved = surface_metrics(pred.transpose(order), label.transpose(order), [spacing[i] for i in order])
        assert moved == pytest.approx(expected, rel=1e-5)
    # the wrong order must be seen: otherwise the test above could not fail
    assert surface_metrics(pred, label, spacing[::-1])["asd"] != pytest.approx(expected["asd"], rel=1e-3)


def test_a_mask_at_the_edge_of_the_array_has_its_surface_there() -> None:
    full = np.ones((6, 6, 6))
    assert surface_metrics(full, full, (1, 1, 1))["hd95"] == 0
    inner = box((6, 6, 6), (1, 1, 1), (4, 4, 4))
    assert surface_metrics(full, inner, (2, 2, 2))["asd"] == pytest.approx(by_definition(full, inner, (2, 2, 2))[1])


def test_two_dimensions() -> None:
    label, pred = box((20, 20), (5, 2), (1, 16)), box((20, 20), (9, 2), (1, 16))
    assert surface_metrics(pred, label, (0.5, 0.5))["hd95"] == pytest.approx(2.0)


def test_misses_and_false_positives_are_named() -> None:
    full, empty = box((8, 8, 8), (2, 2, 2), (3, 3, 3)), np.zeros((8, 8, 8))
    missed = surface_metrics(empty, full, (1, 1, 1))
    assert missed["dsc"] == 0
    assert missed["missed"] == 1
    assert missed["false_positive"] == 0
    found = surface_metrics(full, empty, (1, 1, 1))
    assert found["dsc"] == 0
    assert found["missed"] == 0
    assert found["false_positive"] == 1
    nothing = surface_metrics(empty, empty, (1, 1, 1))
    assert math.isnan(nothing["dsc"])
    assert not nothing["missed"]
    assert not nothing["false_positive"]
    assert all(math.isnan(r[k]) for r in (missed, found, nothing) for k in ("hd95", "asd"))
    assert [missed["nsd"], found["nsd"]] == [0, 0]
    assert math.isnan(nothing["nsd"])


def test_bad_arguments_are_refused() -> None:
    mask = np.ones((3, 3, 3))
    with pytest.raises(ValueError, match="shape"):
        surface_metrics(mask, mask[1:], (1, 1, 1))
    for spacing in ((1, 1), (1, 1, 0), (1, 1, math.nan)):
        with pytest.raises(ValueError, match="spacing"):
            surface_metrics(mask, mask, spacing)
    for tolerance in (-1.0, math.nan):
        with pytest.raises(ValueError, match="tolerance"):
            surface_metrics(mask, mask, (1, 1, 1), tolerance)
    for arguments in ({"metric": "hd"}, {"missed": "drop"}, {"reduction": "max"}):
        with pytest.raises(ValueError, match="must be one of"):
            SurfaceMetric(**arguments)


def one_hot(mask: np.ndarray, spacing: tuple[float, ...]) -> MetaTensor:
    """(2, X, Y, Z) on a grid that is rotated and flipped, so that spacing must come from the affine's columns."""
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    foreground = torch.as_tensor(mask, dtype=torch.float32)
    return MetaTensor(torch.stack([1 - foreground, foreground]), affine=torch.as_tensor(affine))


def test_every_case_is_measured_with_its_own_spacing() -> None:
    label, pred = box((12, 8, 8), (2, 0, 0), (1, 8, 8)), box((12, 8, 8), (5, 0, 0), (1, 8, 8))
    metric = SurfaceMetric("hd95")
    steps = [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0)]
    values = metric([one_hot(pred, s) for s in steps], [one_hot(label, s) for s in steps])
    assert values.shape == (2, 1)
    assert values[:, 0].tolist() == pytest.approx([3.0, 6.0])
    assert metric.aggregate().item() == pytest.approx(4.5)
    # a collated batch keeps each affine too
    batch = [list_data_collate([{"x": one_hot(m, s)} for s in steps])["x"] for m in (pred, label)]
    assert SurfaceMetric("asd")(*batch)[:, 0].tolist() == pytest.approx([3.0, 6.0])


def test_misses_are_never_dropped_from_an_aggregate() -> None:
    full, empty = box((6, 8, 8), (2, 2, 2), (2, 2, 2)), np.zeros((6, 8, 8))
    spacing = (1.0, 3.0, 3.0)
    preds = [one_hot(m, spacing) for m in (full, empty, full, empty)]
    labels = [one_hot(m, spacing) for m in (full, full, empty, empty)]
    diagonal = math.sqrt(6**2 + 24**2 + 24**2)
    results = {}
    for name, missed in (("hd95", "diagonal"), ("asd", "nan"), ("missed", "nan"), ("false_positive", "nan")):
        metric = SurfaceMetric(name, missed=missed)
        metric(preds, labels)
        results[name] = metric.aggregate().item()
    # found (0), missed and falsely found (diagonal each), absent (not measured)
    assert results["hd95"] == pytest.approx(2 * diagonal / 3, rel=1e-5)
    assert results["asd"] == 0
    assert results["missed"] == 1
    assert results["false_positive"] == 1


def test_false_positives_count_where_monais_mean_dice_leaves_them_out() -> None:
    full, empty = box((6, 8, 8), (2, 2, 2), (2, 2, 2)), np.zeros((6, 8, 8))
    spacing = (1.0, 3.0, 3.0)
    preds = [one_hot(m, spacing) for m in (full, full, empty)]
    labels = [one_hot(m, spacing) for m in (full, empty, empty)]
    ours, nsd, theirs = SurfaceMetric("dsc"), SurfaceMetric("nsd"), monais.DiceMetric(include_background=False)
    for metric in (ours, nsd, theirs):
        metric(preds, labels)
    assert theirs.aggregate().item() == 1, "the false positive is not seen"
    assert ours.aggregate().item() == 0.5, "1 and 0; what neither has is not scored"
    assert nsd.aggregate().item() == 0.5
    assert ours.get_buffer()[:, 0].tolist() == pytest.approx([1, 0, math.nan], nan_ok=True)


def test_tolerance_of_the_surface_dice_is_an_argument() -> None:
    label, pred = box((12, 8, 8), (2, 0, 0), (1, 8, 8)), box((12, 8, 8), (5, 0, 0), (1, 8, 8))
    # the faces that look at each other are 2 mm apart, those that look away 3 mm from the nearer one: half of all
    for tolerance, expected in ((1.9, 0.0), (2.1, 0.5), (3.1, 1.0)):
        metric = SurfaceMetric("nsd", tolerance=tolerance)
        metric([one_hot(pred, (1, 1, 1))], [one_hot(label, (1, 1, 1))])
        assert metric.aggregate().item() == pytest.approx(expected, abs=0.01)


def test_nothing_to_measure_is_nan_not_a_perfect_zero() -> None:
    empty = one_hot(np.zeros((4, 4, 4)), (1, 1, 1))
    metric = SurfaceMetric()
    with pytest.raises(ValueError, match="no case"):
        metric.aggregate()
    metric([empty], [empty])
    assert math.isnan(metric.aggregate().item())
    with pytest.raises(ValueError, match="spacing"):
        metric([empty.as_tensor()], [empty.as_tensor()])
    assert SurfaceMetric(spacing=(1, 1, 1))([empty.as_tensor()], [empty.as_tensor()]).isnan().all()


def test_reductions_by_class() -> None:
    a, b = box((8, 8, 8), (1, 0, 0), (1, 8, 8)), box((8, 8, 8), (3, 0, 0), (1, 8, 8))
    pred = MetaTensor(torch.tensor(np.stack([1 - a, a, a])), affine=torch.eye(4))
    label = MetaTensor(torch.tensor(np.stack([1 - b, b, a])), affine=torch.eye(4))
    metric = SurfaceMetric(reduction="mean_batch")
    metric([pred], [label])
    assert metric.aggregate().tolist() == pytest.approx([2.0, 0.0])
    assert metric.aggregate("mean").item() == pytest.approx(1.0)
    assert metric.aggregate("none").shape == (1, 2)
    assert SurfaceMetric(include_background=True)([pred], [label]).shape == (1, 3)
    assert SurfaceMetric()([pred[1:2]], [label[1:2]]).tolist() == [[2.0]], "a single channel is not background"


def _run(
    key: dict[str, IgniteMetricHandler],
    additional: dict[str, IgniteMetricHandler],
    cases: list[dict[str, MetaTensor]],
) -> dict[str, float]:
    """As a bundle's evaluator: collated by the loader, decollated for postprocessing and metrics."""
    loader = [dict(list_data_collate([case]).items()) for case in cases]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=torch.nn.Identity(),
        decollate=True,
        key_val_metric=key,
        additional_metrics=additional,
    )
    evaluator.run()
    return evaluator.state.metrics


def test_through_ignite_from_the_docstrings_json_in_mm_where_monais_handler_answers_in_voxels() -> None:
    label, pred = box((12, 8, 8), (2, 0, 0), (1, 8, 8)), box((12, 8, 8), (5, 0, 0), (1, 8, 8))
    spacing = (2.5, 0.5, 0.5)
    cases = [{"image": one_hot(pred, spacing), "label": one_hot(label, spacing)}]
    snippet = re.search(r"\"additional_metrics\": \{.*?\n        \}\n", SurfaceMetric.__doc__ or "", re.DOTALL)
    assert snippet is not None
    parser = ConfigParser(json.loads("{" + snippet.group(0) + "}"))
    parser["imports"] = ["$import monai"]
    handlers = parser.get_parsed_content("additional_metrics")
    voxels = HausdorffDistance(percentile=95, output_transform=from_engine(["pred", "label"]))
    metrics = _run({"voxels": voxels}, handlers, cases)
    assert metrics["val_hd95"] == pytest.approx(7.5)
    assert metrics["val_missed"] == 0
    assert metrics["voxels"] == pytest.approx(3.0), "MONAI's handler counts voxels: not millimetres"


def test_decollated_cases_keep_their_affine() -> None:
    case = one_hot(np.zeros((4, 4, 4)), (2.0, 3.0, 4.0))
    (back,) = decollate_batch(list_data_collate([{"x": case}]))
    assert back["x"].pixdim.tolist() == pytest.approx([2.0, 3.0, 4.0])


def _rank(rank: int, path: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    label, pred = box((12, 8, 8), (2, 0, 0), (1, 8, 8)), box((12, 8, 8), (3 + rank, 0, 0), (1, 8, 8))
    metric = SurfaceMetric("hd95")
    metric([one_hot(pred, (2.0, 1.0, 1.0))], [one_hot(label, (2.0, 1.0, 1.0))])
    torch.save(metric.aggregate(), f"{out}.{rank}")
    torch.distributed.destroy_process_group()


def test_ranks_gather_their_cases(tmp_path) -> None:
    mp.spawn(_rank, args=(str(tmp_path / "store"), str(tmp_path / "value")), nprocs=2)
    values = [torch.load(f"{tmp_path / 'value'}.{r}", weights_only=False).item() for r in range(2)]
    assert values == pytest.approx([3.0, 3.0])
