"""Reading of one NIfTI volume so that whatever a file holds ends in voxels on a known grid or in one sentence."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError

# deflate cannot make a file smaller than this
MOST_COMPRESSION = 1032
# cosine between two axes, 0.6 degrees: more than rounding, less than any gantry tilt
SHEAR = 0.01
# of the smallest spacing, over the whole volume: more than rounding in any header
GRID_TOLERANCE = 0.1


def read_volume(path: str | Path, case: str, what: str = "image") -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI file completely, or say in one sentence why that cannot be done.

    Args:
        path: the file.
        case: the case's name, for the message.
        what: `image` or `label`, for the message.

    Returns:
        The voxels (X, Y, Z) with scaling applied, and the 4x4 affine in mm.

    Raises:
        CaseError: missing, empty, truncated, not NIfTI, not 3-D, complex or coloured, larger than float32, or on a grid
            that is unknown, sheared or told in two ways.
    """
    file, name = _present(path, case, what)
    with _damage_told(case, name):
        nifti = _opened(file, case, name)
        voxels = np.asanyarray(nifti.dataobj)
    if voxels.dtype.kind == "f" and voxels.dtype.itemsize > 4:
        with np.errstate(invalid="ignore"):
            beyond = np.count_nonzero(np.abs(voxels) > np.finfo(np.float32).max) - np.count_nonzero(np.isinf(voxels))
        if beyond:
            raise CaseError(
                case, f"{name} has {beyond} voxels beyond the range of 32-bit numbers", "correct its scaling"
            )
    return voxels, np.asarray(nifti.affine, dtype=np.float64)


def read_grid(path: str | Path, case: str, what: str = "image") -> tuple[tuple[int, ...], np.ndarray]:
    """Read the header of a NIfTI file alone, and refuse what `read_volume` refuses for its header.

    Args:
        path: the file.
        case: the case's name, for the message.
        what: `image` or `label`, for the message.

    Returns:
        The shape in voxels (X, Y, Z), and the 4x4 affine in mm.

    Raises:
        CaseError: see `read_volume`.
    """
    file, name = _present(path, case, what)
    with _damage_told(case, name):
        nifti = _opened(file, case, name)
    return tuple(nifti.shape), np.asarray(nifti.affine, dtype=np.float64)


def read_label(path: str | Path, case: str, what: str = "label") -> tuple[np.ndarray, np.ndarray]:
    """Read a label or another mask.

    Args:
        path: the file.
        case: the case's name, for the message.
        what: `label`, `organ` or what else the mask is called, for the message.

    Returns:
        Whole numbers (X, Y, Z) of an integer type, and the 4x4 affine in mm.

    Raises:
        CaseError: as `read_volume`, and for values that are not whole numbers, such as NaN.
    """
    voxels, affine = read_volume(path, case, what)
    if voxels.dtype.kind != "f":
        return voxels, affine
    if not (np.isfinite(voxels).all() and np.equal(voxels, np.round(voxels)).all()):
        raise CaseError(
            case, f"{what} {path} holds values that are not whole numbers", "store one whole number per class"
        )
    return voxels.astype(np.int64 if np.abs(voxels).max(initial=0) > np.iinfo(np.int32).max else np.int32), affine


def corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far apart two affines put the corners of a volume, in mm.

    Args:
        first: 4x4 affine.
        second: 4x4 affine.
        shape: voxels (X, Y, Z).

    Returns:
        The largest distance along an axis of the world.
    """
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in shape], [1.0])).reshape(4, -1)
    return float(np.abs((np.asarray(first) - np.asarray(second)) @ corners)[:3].max())


def _present(path: str | Path, case: str, what: str) -> tuple[Path, str]:
    """The file, which exists and is not empty, and its name in messages."""
    file = Path(path)
    if not file.is_file():
        raise CaseError(case, f"{what} {file} does not exist", "correct its path in the datalist or restore the file")
    if file.stat().st_size == 0:
        raise CaseError(case, f"{what} {file} is empty", "export or copy it again")
    return file, f"{what} {file}"


def _opened(file: Path, case: str, name: str) -> Any:
    import nibabel as nib

    nifti: Any = nib.load(file)
    _check_spacing(nifti, file, case, name)
    _check_kind(nifti, file, case, name)
    _check_axes(nifti, case, name)
    return nifti


@contextmanager
def _damage_told(case: str, name: str) -> Iterator[None]:
    """Whatever nibabel says of a damaged file, in one sentence."""
    import nibabel as nib

    try:
        yield
    except CaseError:
        raise
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        OverflowError,
        MemoryError,
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CaseError(
            case, f"{name} cannot be read and is damaged or not NIfTI ({reason})", "export or copy it again"
        ) from error


def _check_spacing(nifti: Any, file: Path, case: str, name: str) -> None:
    import nibabel as nib

    spacing = np.asarray(nib.affines.voxel_sizes(nifti.affine), dtype=np.float64)
    if isinstance(nifti.header, nib.Nifti1Header):
        # nibabel repairs zero and negative spacings silently while loading; the file itself is what counts
        opener = gzip.open if file.suffix == ".gz" else open
        with opener(file, "rb") as stream:
            raw = type(nifti.header).from_fileobj(stream, check=False)
        stored = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
        spacing = np.where(np.isfinite(stored) & (stored > 0), spacing, stored)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        shown = " x ".join(f"{s:g}" for s in spacing)
        raise CaseError(case, f"{name} has spacing {shown} mm", "correct the header or export it again")


def _check_kind(nifti: Any, file: Path, case: str, name: str) -> None:
    """One number per voxel, in three dimensions, and no more of them than the file can hold."""
    if len(nifti.shape) != 3:
        raise CaseError(case, f"{name} is {len(nifti.shape)}-D {nifti.shape}, not 3-D", "store one 3-D volume per file")
    kind = nifti.header.get_data_dtype()
    if kind.kind == "c":
        raise CaseError(case, f"{name} holds complex numbers", "store their magnitude")
    if kind.fields is not None:
        raise CaseError(case, f"{name} holds colours", "store one grey value per voxel")
    needed = math.prod(int(n) for n in nifti.shape) * kind.itemsize
    held = file.stat().st_size * (MOST_COMPRESSION if file.suffix == ".gz" else 1)
    if needed > held:
        shape = " x ".join(map(str, nifti.shape))
        raise CaseError(
            case, f"{name} announces {shape} voxels, more than its file can hold", "export or copy it again"
        )


def _half_turn_rounding(nifti: Any, sform: np.ndarray) -> float:
    """How far (mm) a right qform may be off: it stores three of the four numbers of a rotation as float32, and near a half
    turn, which is how scanners store axial slices, the fourth is the root of a small difference."""
    rounding = 3 * float(np.finfo(np.float32).eps)
    real = abs(float(nifti.header.get_qform_quaternion()[0]))
    angle = 2 * min(math.sqrt(rounding), rounding / max(real, rounding))
    return angle * float(np.linalg.norm(sform[:3, :3] @ np.array(nifti.shape)))


def _check_axes(nifti: Any, case: str, name: str) -> None:
    """The grid is told, told once, and its axes are at right angles."""
    import nibabel as nib

    affine = np.asarray(nifti.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise CaseError(case, f"{name} has an affine with NaN or infinite numbers", "export it again")
    if isinstance(nifti.header, nib.Nifti1Header):
        sform, qform = (nifti.get_sform(coded=True)[0], nifti.get_qform(coded=True)[0])
        if sform is None and qform is None:
            raise CaseError(
                case,
                f"{name} has neither sform nor qform, so that left and right are unknown",
                "export it again, or set the sform if you know the orientation",
            )
        if sform is not None and qform is not None:
            apart = corner_distance(sform, qform, nifti.shape)
            allowed = GRID_TOLERANCE * float(nib.affines.voxel_sizes(sform).min())
            if apart > allowed + _half_turn_rounding(nifti, sform):
                raise CaseError(
                    case,
                    f"the sform and the qform of {name} are {apart:.3g} mm apart, and programs differ in which they use",
                    "set both to the right one",
                )
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > SHEAR:
        degrees = math.degrees(math.asin(min(1.0, cosine)))
        raise CaseError(
            case, f"the axes of {name} are sheared by {degrees:.1f} degrees", "resample it to a grid at right angles"
        )
