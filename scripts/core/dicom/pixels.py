"""Grey values of DICOM images: decoded, checked for damage, rescaled; padding told from what was measured."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.dicom.dataset import EXPORT, numbers, value_of

AIR = -1000
# HU: below it nothing is measured, and no tissue or metal is above it on a scale of 12 bits
LOWEST_HU, HIGHEST_HU = -1024, 3071
END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class Plane:
    """One image.

    Attributes:
        array: rescaled grey values (rows, columns).
        rescale: slope and intercept that were applied.
        padding: lowest and highest rescaled value that stand for "nothing here", or None.
    """

    array: np.ndarray
    rescale: tuple[float, float]
    padding: tuple[float, float] | None


def read_plane(case: str, dataset: Any, file: Path, shape: tuple[int, int]) -> Plane:
    """Decode one image of a single frame.

    Args:
        case: the case's name, for messages.
        dataset: the image.
        file: where it was read from.
        shape: rows and columns that its header gives.

    Returns:
        Its grey values.

    Raises:
        CaseError: they cannot be decoded, their compressed stream is damaged as far as a decoder can tell, or slope
            and intercept are unusable.
    """
    slope, intercept = (
        numbers([value if value not in (None, "") else default], 1)
        for value, default in ((value_of(dataset, "RescaleSlope"), 1), (value_of(dataset, "RescaleIntercept"), 0))
    )
    if slope is None or intercept is None or slope[0] == 0:
        raise CaseError(case, "an image has an unusable rescale slope or intercept", EXPORT)
    rescale = float(slope[0]), float(intercept[0])
    try:
        _check_end(case, dataset)
        try:
            stored = np.asarray(dataset.pixel_array)
            rescaled = stored if rescale == (1.0, 0.0) else stored * rescale[0] + rescale[1]
        except (RuntimeError, NotImplementedError, AttributeError):
            # a compression that pydicom has no decoder for; SimpleITK rescales by itself
            rescaled = _by_simpleitk(case, file)
    except CaseError:
        raise
    except Exception as error:  # the error's own text may hold header values
        raise CaseError(case, f"the pixels of an image cannot be read ({type(error).__name__})", EXPORT) from None
    if rescaled.shape != shape:
        raise CaseError(case, "an image has another size than its header says", EXPORT)
    _check_range(case, dataset, rescaled, rescale)
    return Plane(rescaled, rescale, padding_of(dataset, rescale))


def _check_end(case: str, dataset: Any) -> None:
    from pydicom.encaps import generate_fragments

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or not syntax.name.startswith(("JPEG", "High-Throughput")):
        return
    stream = b"".join(generate_fragments(dataset.PixelData))
    # the standard lets a stream be padded to an even length
    if END_OF_IMAGE not in stream[-16:]:
        raise CaseError(case, "the compressed pixels of an image are cut off", EXPORT)


def _by_simpleitk(case: str, file: Path) -> np.ndarray:
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder, _messages() as said:
        if file.suffix.lower() == ".gz":
            plain = Path(folder) / "image.dcm"
            plain.write_bytes(gzip.decompress(file.read_bytes()))
            file = plain
        array = np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[0])
    if said:
        # the decoder goes on after an error, with wrong grey values from there on
        raise CaseError(case, "the compressed pixels of an image are damaged", EXPORT)
    return array


@contextmanager
def _messages() -> Iterator[list[str]]:
    """What libraries written in C print to the standard error stream, instead of printing it."""
    said: list[str] = []
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as stream:
            os.dup2(stream.fileno(), 2)
            try:
                yield said
            finally:
                os.dup2(kept, 2)
                stream.seek(0)
                said += stream.read().decode(errors="replace").splitlines()
    finally:
        os.close(kept)


def _check_range(case: str, dataset: Any, rescaled: np.ndarray, rescale: tuple[float, float]) -> None:
    """A decoder that lost its way gives numbers that the image has no bits for."""
    bits = value_of(dataset, "BitsStored")
    if not dataset.file_meta.TransferSyntaxUID.is_compressed or not isinstance(bits, int) or not rescaled.size:
        return
    signed = value_of(dataset, "PixelRepresentation") == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    ends = sorted(value * rescale[0] + rescale[1] for value in (low - 0.5, high + 0.5))
    if rescaled.min() < ends[0] or rescaled.max() > ends[1]:
        raise CaseError(case, "the compressed pixels of an image are damaged", EXPORT)


def padding_of(dataset: Any, rescale: tuple[float, float]) -> tuple[float, float] | None:
    """The range of rescaled values that PixelPaddingValue and PixelPaddingRangeLimit reserve, or None."""
    first = numbers([value_of(dataset, "PixelPaddingValue")], 1)
    if first is None:
        return None
    last = numbers([value_of(dataset, "PixelPaddingRangeLimit")], 1)
    stored = np.array([first[0], first[0] if last is None else last[0]])
    if value_of(dataset, "PixelRepresentation") == 1:
        # some software writes a negative number as if it had no sign
        bits = value_of(dataset, "BitsAllocated") or 16
        stored = np.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored)
    low, high = sorted(float(value) for value in stored * rescale[0] + rescale[1])
    margin = 1e-3 * abs(rescale[0])
    return low - margin, high + margin


def without_padding(array: np.ndarray, padded: np.ndarray, modality: str) -> tuple[np.ndarray, list[str]]:
    """Replace padding, which would shift every statistic of the image: by air in CT, else by the image's minimum.

    Args:
        array: rescaled grey values.
        padded: booleans of the same shape.
        modality: `CT`, `MR` …

    Returns:
        The grey values and sentences for the report. Values that are air already, and those that something measured
        also has, are left.
    """
    count = int(np.count_nonzero(padded))
    if not count or count == padded.size:
        return array, []
    values, measured = array[padded], array[~padded]
    low, high = float(values.min()), float(values.max())
    if modality == "CT":
        if low >= LOWEST_HU and high <= AIR:
            return array, []
        filling, name = float(AIR), f"air ({AIR} HU)"
        among = high > AIR and low < HIGHEST_HU
    else:
        filling, name = float(measured.min()), "the image's minimum"
        among = high >= filling and low <= float(measured.max())
        if low == high == filling:
            return array, []
    if among:
        return array, [f"{count} voxels have the padding value, which lies among those of tissue, and were left"]
    array = array.copy()
    array[padded] = filling
    return array, [f"{count} voxels of padding became {name}"]
