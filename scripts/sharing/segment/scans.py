"""What there is to segment: NIfTI files, DICOM series, or folders of either; and what must not be segmented."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.data.checks import check_image
from custom_networks.errors import CaseError
from scripts.core.datalist import safe_name
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.volume import read_series
from scripts.core.files import write_nifti
from scripts.core.reading import read
from scripts.data.dicom.scan import Series, scan_tree, unwanted

SUFFIXES = (".nii", ".nii.gz")
# grey values that no MR has and every CT with air has
AIR_HU = -500.0


@dataclass
class Scan:
    """One scan, not yet read.

    Attributes:
        name: of its results; a series' own names may identify a patient and are not used.
        file: NIfTI, or None.
        series: DICOM series, or None.
    """

    name: str
    file: Path | None = None
    series: Series | None = None


@dataclass
class ReadScan:
    """A scan that may be segmented.

    Attributes:
        image: NIfTI file.
        array: voxels (X, Y, Z).
        affine: 4x4 voxel-to-world matrix in RAS+ mm.
        source: its DICOM series, if it came as one.
        notes: sentences for the user.
    """

    image: Path
    array: np.ndarray
    affine: np.ndarray
    source: SourceSeries | None
    notes: list[str]


def find_scans(
    given: str, modality: str, description: str = "", output: Path | None = None
) -> tuple[list[Scan], list[str]]:
    """List the scans of a path.

    Args:
        given: a NIfTI file, a DICOM file or a folder of either, of any depth.
        modality: what the bundle takes: series of others are left out.
        description: regular expression that a DICOM series' description must contain.
        output: results, left out where they lie within `given`.

    Returns:
        Scans in the order of their paths, and a sentence for each series that was left out.

    Raises:
        CaseError: nothing to segment.
    """
    path = Path(given)
    if path.is_file() and path.name.endswith(SUFFIXES):
        return [Scan(safe_name(_stem(path)), file=path)], []
    if not path.is_dir():
        raise CaseError(given, "it is neither a NIfTI file nor a folder", "give a .nii.gz or a folder of scans")
    files = [f for f in sorted(path.rglob("*")) if f.name.endswith(SUFFIXES) and not f.name.startswith(".")]
    files = [f for f in files if output is None or output.resolve() not in f.resolve().parents]
    scans = [Scan(safe_name(_relative(f, path)), file=f) for f in files]
    left_out, number = [], 0
    for series in sorted(scan_tree(path).series.values(), key=lambda s: str(s.files[0])):
        reason = unwanted(series, modality, description, 2)
        if reason is None:
            number += 1
            scans.append(Scan(f"scan{number:03d}", series=series))
        else:
            left_out.append(f"a series of {len(series.files)} images is left out: {reason}")
    names = [scan.name for scan in scans]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CaseError(given, f"two scans in it would both be called {twice}", "rename one of them")
    if not scans:
        raise CaseError(
            given, "there is no scan to segment in it" + "".join(f"; {s}" for s in left_out[:3]), "give another folder"
        )
    return scans, left_out


def read_scan(scan: Scan, work: Path, modality: str, least_mm: Any = None) -> ReadScan:
    """Read a scan and refuse what the bundle should not touch.

    Args:
        scan: from `find_scans`.
        work: folder for the NIfTI that a series is turned into.
        modality: what the bundle takes.
        least_mm: least field of view along left-right, anterior-posterior and inferior-superior, mm, or None.

    Returns:
        The scan.

    Raises:
        CaseError: damaged, incomplete, 2-D, of another modality, constant, or with too small a field of view.
    """
    source, notes = None, []
    if scan.series is not None:
        volume, _ = read_series(scan.name, scan.series.files)
        array, affine, notes = volume.array, volume.ras, volume.notes
        image = write_nifti(work / f"{scan.name}.nii.gz", array, affine)
        source = read_source(scan.series.files, scan.name)
    else:
        assert scan.file is not None
        image = scan.file
        array, affine = read(str(image), scan.name)
    _refuse(scan.name, array, affine, modality, least_mm)
    return ReadScan(image, array, affine, source, notes)


def _refuse(name: str, array: np.ndarray, affine: np.ndarray, modality: str, least_mm: Any) -> None:
    check_image(name, name, array)
    if min(array.shape) < 2:
        raise CaseError(name, f"it is an image of {array.shape}, not a volume", "give the whole series")
    low = float(array.min())
    if modality == "MR" and low < AIR_HU:
        raise CaseError(name, f"its values reach down to {low:g}, as in CT", "this bundle takes MR")
    if modality == "CT" and low > AIR_HU:
        raise CaseError(
            name, f"its lowest value is {low:g}: these are no Hounsfield units", "this bundle takes CT in HU"
        )
    if least_mm is not None:
        extent = np.abs(affine[:3, :3]) @ np.array(array.shape)
        short = [f"{mm:.0f} mm {axis}" for mm, least, axis in zip(extent, least_mm, _AXES, strict=True) if mm < least]
        if short:
            wanted = " x ".join(f"{v:g}" for v in least_mm)
            raise CaseError(name, f"its field of view is only {', '.join(short)}", f"this bundle needs {wanted} mm")


_AXES = ("left to right", "front to back", "head to foot")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root).with_name(_stem(path)))
