"""`python -m scripts contours`: a label map as RTSTRUCT and DICOM SEG on the series that was segmented."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from custom_networks.data.datalist import read_json, read_labels
from custom_networks.errors import CaseError
from scripts.core.dicom.outlines import outlines
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.write_rtstruct import DrawnRoi, write_rtstruct
from scripts.core.dicom.write_seg import Segment, write_seg
from scripts.core.look import label_colors
from scripts.core.reading import read
from scripts.data.dicom.scan import scan_tree
from scripts.sharing.contours.names import RoiName, roi_names, structure_masks
from scripts.sharing.contours.place import on_series

FORMATS = ("rtstruct", "seg")
# SeriesDescription has at most 64 characters
DESCRIPTION = "automatic, not approved"
SYNTHETIC = "automatic, not approved; weights trained on SYNTHETIC images"


def contours(
    label_map: str,
    series: str,
    output: str,
    bundle: str | None = None,
    labels: str | None = None,
    formats: list[str] | None = None,
    names: str | None = None,
    series_uid: str | None = None,
    smoothing_mm: float = 0.0,
    least_area_mm2: float = 0.0,
) -> int:
    """Write a label map as contours for the clinic's system. Research only: not approved, for no treatment.

    Args:
        label_map: NIfTI of whole numbers, on the grid of the series or another one.
        series: folder of the DICOM series that was segmented.
        output: folder for rtstruct.dcm and seg.dcm.
        bundle: bundle whose metadata names the labels.
        labels: or a datalist (or any JSON with `labels`) that names them.
        formats: rtstruct, seg; both by default.
        names: JSON of a site's own ROI names; by default those of AAPM TG-263.
        series_uid: which series, where the folder holds several.
        smoothing_mm: standard deviation of a Gaussian that rounds outlines; 0 keeps the voxels.
        least_area_mm2: regions and holes below it are left out of the RTSTRUCT.

    Returns:
        0.

    Raises:
        CaseError: the label map lies elsewhere, holds values without a name, or the series is not a regular stack.
    """
    wanted = formats or list(FORMATS)
    unknown = sorted(set(wanted) - set(FORMATS))
    if unknown:
        raise CaseError("--formats", f"{', '.join(unknown)} is not known", f"choose from {', '.join(FORMATS)}")
    classes = label_names(bundle, labels)
    source = find_source(series, series_uid)
    array, affine = read(label_map, Path(label_map).name, "label")
    present = {int(value) for value in np.unique(array) if value}
    if present - set(classes):
        raise CaseError(
            label_map, f"it holds {sorted(present - set(classes))}, which have no name", "give the bundle it came from"
        )
    placed = on_series(label_map, array.astype(np.int32), affine, source)
    if "seg" in wanted and not placed.any():
        raise CaseError(label_map, "none of the structures was found", "pass --formats rtstruct, which may be empty")
    for written in write_contours(output, placed, source, classes, wanted, names, smoothing_mm, least_area_mm2):
        print(written)
    return 0


def write_contours(
    folder: str | Path,
    placed: np.ndarray,
    source: SourceSeries,
    classes: Mapping[int, str],
    formats: Collection[str] = FORMATS,
    own: str | None = None,
    smoothing_mm: float = 0.0,
    least_area_mm2: float = 0.0,
    description: str = DESCRIPTION,
) -> list[Path]:
    """Write rtstruct.dcm, and seg.dcm where anything was found: a SEG without a voxel is not valid.

    Args:
        folder: for the files.
        placed: whole numbers (columns, rows, slices) on the series' grid.
        source: the series.
        classes: label value to name.
        formats: rtstruct, seg.
        own: JSON of a site's own ROI names.
        smoothing_mm: see `contours`.
        least_area_mm2: see `contours`.
        description: SeriesDescription.

    Returns:
        What was written.
    """
    found, written, target = roi_names(classes, own), [], Path(folder)
    if "rtstruct" in formats:
        rois = drawn_rois(placed, source, classes, found, smoothing_mm, least_area_mm2)
        written.append(write_rtstruct(target / "rtstruct.dcm", source, rois, "AUTO", description))
    if "seg" in formats and placed.any():
        segments = [Segment(classes[value], name.category, name.code) for value, name in found.items()]
        masks = (mask for _, mask in structure_masks(placed, classes, found))
        algorithm = ("custom_networks", version("custom_networks"))
        written.append(write_seg(target / "seg.dcm", source, masks, segments, algorithm, description))
    return written


def label_names(bundle: str | None, labels: str | None) -> dict[int, str]:
    """Label value to name, from a bundle's metadata or a JSON file with `labels` as a datalist writes them.

    Raises:
        CaseError: none or both are given, or there are no such names in the file.
    """
    if (bundle is None) == (labels is None):
        raise CaseError("labels", "what the values mean is not said", "give --bundle or --labels, one of them")
    path = str(Path(bundle) / "configs/metadata.json") if bundle else str(labels)
    content = read_json(path, path, "give another file")
    try:
        named = content["network_data_format"]["outputs"]["pred"]["channel_def"] if bundle else content["labels"]
    except (KeyError, TypeError) as error:
        raise CaseError(path, f"no names of labels in it ({type(error).__name__})", "give another file") from None
    return read_labels(named, path)


def find_source(folder: str, uid: str | None = None) -> SourceSeries:
    """The one image series of a folder, or the one that is asked for.

    Raises:
        CaseError: none, or several without a choice.
    """
    tree = scan_tree(folder)
    images = {
        u: s for u, s in tree.series.items() if s["ImagePositionPatient"] and s["Modality"] not in {"RTDOSE", "SEG"}
    }
    if uid is not None:
        images = {u: s for u, s in images.items() if u == uid}
    if len(images) != 1:
        what = f"{len(images)} image series" if images else "no image series"
        raise CaseError(
            folder, f"it holds {what}", "give the folder of one series, or --series_uid with one of its UIDs"
        )
    series = next(iter(images.values()))
    return read_source(series.files, folder)


def drawn_rois(
    placed: np.ndarray,
    source: SourceSeries,
    classes: Mapping[int, str],
    names: Mapping[int, RoiName],
    smoothing_mm: float = 0.0,
    least_area_mm2: float = 0.0,
) -> list[DrawnRoi]:
    """Outlines of every label, slice by slice.

    Args:
        placed: whole numbers (columns, rows, slices) on the series' grid.
        source: the series.
        classes: label value to name.
        names: label value to ROI name.
        smoothing_mm: see `outlines`.
        least_area_mm2: see `outlines`.

    Returns:
        One ROI a label, empty where the label is absent.
    """
    colours = label_colors(classes)
    rois = []
    pixel = (float(source.spacing[0]), float(source.spacing[1]))
    for value, mask in structure_masks(placed, classes, names):
        polygons = {
            int(z): outlines(mask[:, :, z], pixel, smoothing_mm, None, least_area_mm2)
            for z in np.flatnonzero(mask.any(axis=(0, 1)))
        }
        rois.append(DrawnRoi(names[value].roi, names[value].kind, colours[value], polygons, classes[value]))
    return rois
