"""The rules of `plan`: from measurements to spacing, patch size, kernels, strides and batch size. No file is read here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# P9: beyond this ratio of spacings an axis takes its 10th percentile instead of its median
COARSE = 3.0
# A9, nnU-Net's: from this ratio on an axis is neither convolved across nor halved
ANISOTROPIC = 2.0
LARGEST_PATCH = 256


def target_spacing(spacings: np.ndarray) -> tuple[list[float], str]:
    """Decision P9: the median, and along a coarse axis the 10th percentile of the cases that are coarse along it.

    Args:
        spacings: (cases, 3) in mm along L, P, S.

    Returns:
        The spacing in mm and the reason.
    """
    median = np.median(spacings, axis=0)
    reason = f"median of {len(spacings)} cases"
    coarse = int(np.argmax(median))
    if median.max() / median.min() > COARSE:
        # in a cohort of axial and sagittal series the percentile over all of them would be the sagittal ones' fine spacing
        same = spacings[spacings.argmax(axis=1) == coarse]
        value = float(np.percentile(same[:, coarse], 10))
        if len(same) < len(spacings):
            reason += f", {len(spacings) - len(same)} of them acquired in another plane and left out of the percentile"
        reason += (
            f"; axis {'LPS'[coarse]} is {median.max() / median.min():.1f} times as coarse as the finest (more than "
            f"{COARSE:g}), so it takes its 10th percentile, {value:.4g} mm, instead of its median, {median[coarse]:.4g} mm"
        )
        median[coarse] = value
    return [round(float(v), 4) for v in median], reason


def resampled_sizes(shapes: np.ndarray, spacings: np.ndarray, target: Sequence[float]) -> np.ndarray:
    """Voxels per axis after resampling, (cases, 3).

    Args:
        shapes: (cases, 3) voxels.
        spacings: (cases, 3) mm.
        target: mm.
    """
    return np.maximum(1, np.round(shapes * spacings / np.asarray(target))).astype(int)


def paper_patch(median_size: Sequence[float], multiple: Sequence[int]) -> tuple[list[int], str]:
    """Decision P8: per axis the largest power of two not above the median resampled size, at most 256.

    Args:
        median_size: voxels per axis.
        multiple: what the network's strides need the patch to be a multiple of.

    Returns:
        The patch size in voxels and the reason.
    """
    power = [min(LARGEST_PATCH, 2 ** int(np.floor(np.log2(max(1.0, size))))) for size in median_size]
    patch = [-(-p // m) * m for p, m in zip(power, multiple, strict=True)]
    reason = (
        f"per axis the largest power of two not above the median resampled size {_by(median_size)}, "
        f"at most {LARGEST_PATCH}"
    )
    if patch != power:
        reason += f"; raised from {_by(power)}, because the network's strides need multiples of {_by(multiple)}"
    return patch, reason


def nnunet_patch(
    median_size: Sequence[float], spacing: Sequence[float], multiple: Sequence[int], fits: Callable[[list[int]], bool]
) -> tuple[list[int], str]:
    """nnU-Net's rule: as wide in mm along every axis, at most the median size, rounded up to what the network can halve,
    then shrunk until it fits.

    Rounding up may go above the median size, in nnU-Net too: it pads where a network must halve 36 voxels three times.

    Args:
        median_size: voxels per axis.
        spacing: mm.
        multiple: what the patch has to be a multiple of.
        fits: whether a patch fits into the memory.

    Returns:
        The patch size in voxels and the reason.
    """
    inverse = 1 / np.asarray(spacing, dtype=np.float64)
    start = inverse * (LARGEST_PATCH**3 / np.prod(inverse)) ** (1 / 3)
    step = np.asarray(multiple)
    limit = np.ceil(np.asarray(median_size) / step) * step
    patch = np.maximum(step, np.minimum(np.ceil(start / step) * step, limit)).astype(int)
    first = patch.tolist()
    while not fits(patch.tolist()) and (patch > step).any():
        # the axis that covers most of the volume loses least
        share = np.where(patch > step, patch / np.asarray(median_size), -1.0)
        axis = int(np.argmax(share))
        patch[axis] -= step[axis]
    reason = (
        f"nnU-Net's rule: as wide in mm along every axis, at most the median resampled size {_by(median_size)}, rounded up "
        f"to multiples of {_by(multiple)}, because the network's strides need them"
    )
    if patch.tolist() != first:
        reason += f"; {_by(first)} does not fit the memory"
    return patch.tolist(), reason


def anisotropic(spacing: Sequence[float], levels: int) -> tuple[list[list[int]], list[list[int]], str]:
    """Decisions P2 and A9: no convolution and no stride across an axis while it is at least twice as coarse as the finest.

    Args:
        spacing: mm.
        levels: resolution levels of the network.

    Returns:
        Kernel size per level, stride between levels, and the reason.
    """
    current = np.asarray(spacing, dtype=np.float64)
    kernels, strides, reached = [], [], np.zeros(len(current), dtype=bool)
    for level in range(levels):
        fine = current / current.min() < ANISOTROPIC
        # an axis that is convolved across stays so, as in nnU-Net
        reached |= fine
        kernels.append([3 if r else 1 for r in reached])
        if level < levels - 1:
            strides.append([2 if f else 1 for f in fine])
            current = current * np.array(strides[-1])
    reason = (
        f"an axis at least {ANISOTROPIC:g} times as coarse as the finest is neither convolved across nor halved, until "
        "halving the others has evened it out (nnU-Net's ratio)"
    )
    return kernels, strides, reason


def batch_size(
    patch: Sequence[int], voxels: int, fits: Callable[[int], bool], most: int, least: int = 2
) -> tuple[int, str]:
    """The largest batch that fits, within nnU-Net's limit of 5 % of the data set's voxels.

    Args:
        patch: voxels per axis.
        voxels: of all resampled training cases.
        fits: whether a batch of that size fits into the memory.
        most: training cases of a fold.
        least: batch norm wants at least two.

    Returns:
        The batch size and the reason.
    """
    limit = max(least, min(most, int(0.05 * voxels / np.prod(patch))))
    size = least
    while size < limit and fits(size + 1):
        size += 1
    why = "5 % of the data set's voxels" if size == limit else "the memory"
    return size, f"the largest that {why} allows, at least {least}"


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
