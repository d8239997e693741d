"""`python -m scripts segment`: scans in, label maps, SEG, RTSTRUCT, volumes and a picture out."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from custom_networks.errors import CaseError
from scripts.core.classes import Classes
from scripts.core.manifest import record
from scripts.core.reading import read
from scripts.core.tables import text_table, write_csv
from scripts.experiments.quality.file import NAME
from scripts.experiments.quality.signs import agreements
from scripts.sharing.contours.contours import DESCRIPTION, SYNTHETIC, write_contours
from scripts.sharing.contours.names import roi_names, structure_masks, structure_values
from scripts.sharing.contours.place import on_series
from scripts.sharing.segment.bundle import OpenBundle, unpacked
from scripts.sharing.segment.preview import preview
from scripts.sharing.segment.quality import SegmentedQuality, open_quality
from scripts.sharing.segment.scans import ReadScan, Scan, find_scans, read_scan

FORMATS = ("nifti", "seg", "rtstruct")
NOTE = "automatic, not approved; research only"


def segment(
    input: str,
    output: str,
    bundle: str,
    weights: str | None = None,
    folds: str | None = None,
    formats: list[str] | None = None,
    description: str = "",
    names: str | None = None,
    device: str | None = None,
    quality: str | None = None,
) -> int:
    """Segment scans with a bundle. Research only: nothing that is written is approved, for no treatment.

    Args:
        input: a NIfTI, the folder of a DICOM series, or a folder of either.
        output: folder; each scan gets one of its own, beside volumes.csv and run.json.
        bundle: a bundle's folder or a release's zip.
        weights: file of weights; by default the bundle's models/model.pt.
        folds: folder with fold0/final.pt, fold1/final.pt …: the mean of their softmax, and how far they agree.
        formats: nifti, seg, rtstruct; all by default. A NIfTI without a DICOM series gives NIfTI only.
        description: regular expression that the description of a DICOM series must contain.
        names: JSON of a site's own ROI names.
        device: cpu, cuda, cuda:1 …
        quality: quality.json of these weights, for the order in which to look at scans; default that of a release.

    Returns:
        0; 2 if a scan was refused (the others are done).

    Raises:
        CaseError: nothing to segment, or weights that are missing or of another network.
    """
    wanted = formats or list(FORMATS)
    unknown = sorted(set(wanted) - set(FORMATS))
    if unknown:
        raise CaseError("--formats", f"{', '.join(unknown)} is not known", f"choose from {', '.join(FORMATS)}")
    if weights and folds:
        raise CaseError("--weights", "it contradicts --folds", "give one of them")
    target = Path(output)
    told = {"input": input, "output": output, "bundle": bundle, "weights": weights, "folds": folds}
    told |= {"names": names, "quality": quality}
    # paths and descriptions may name a patient, and what is written is handed on
    hidden = frozenset([*told, "description"])
    options = {**told, "description": description, "formats": wanted, "device": device}
    with (
        record(target, "segment", options, hidden) as run,
        tempfile.TemporaryDirectory(prefix="segment_") as folder,
    ):
        work = Path(folder)
        house = unpacked(bundle, work)
        metadata = json.loads((house / "configs/metadata.json").read_text("utf-8"))
        modality = str(metadata["network_data_format"]["inputs"]["image"]["modality"])
        scans, left_out = find_scans(input, modality, description, target)
        for sentence in left_out:
            print(sentence)
        files: Any = fold_files(folds) if folds else weights
        shipped = house / "models" / NAME
        if quality is None and not folds and not weights and shipped.is_file():
            quality = str(shipped)
        opened = OpenBundle(house, files, work / "predictions", device, entropy=bool(folds or quality))
        structures = classes_of(opened.labels, names)
        watched = open_quality(quality, opened.digests(), structures, opened.labels, modality)
        # each fold on its own, for how far they agree
        single = [
            OpenBundle(house, file, work / f"fold{i}", device, entropy=True)
            for i, file in enumerate(files or ())
            if folds
        ]
        rows: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        for scan in tqdm(scans, desc="segment", disable=None if len(scans) > 1 else True):
            began = time.perf_counter()
            try:
                found = _segment(scan, opened, single, target, wanted, names, work, watched)
                records.append(found | {"seconds": round(time.perf_counter() - began, 2)})
                rows += [{"scan": scan.name, **row} for row in found["structures"]]
            except CaseError as refusal:
                records.append({"scan": scan.name, "refused": _without_paths(str(refusal), scan)})
                print(refusal, file=sys.stderr)
        if rows:
            write_csv(target / "volumes.csv", rows)
            print(text_table(rows))
            if watched is not None:
                watched.write(target, opened.digests())
                if watched.order():
                    print(f"\nlook here first:\n{text_table(watched.order(), left=2)}")
        target.mkdir(parents=True, exist_ok=True)
        run |= {
            "bundle": {"name": metadata["name"], "version": metadata["version"], "weights_sha256": opened.digests()},
            "settings": opened.settings,
            "left_out": left_out,
            "scans": records,
            "look_first": watched.order() if watched is not None else [],
            "note": NOTE,
            "synthetic_weights": opened.synthetic,
        }
    refused = sum("refused" in record for record in records)
    print(f"{len(records) - refused} of {len(records)} scans segmented: {target}")
    if opened.synthetic:
        print("The weights were trained on synthetic images alone: they are of no use for patients.")
    return 2 if refused else 0


def _without_paths(text: str, scan: Scan) -> str:
    files = [scan.file] if scan.file else scan.series.files if scan.series else []
    for path in files:
        text = text.replace(str(path), "its file")
    for folder in {path.parent for path in files}:
        text = text.replace(str(folder), "its folder")
    return text


def fold_files(folder: str) -> list[str]:
    """Weights of the folds, in order.

    Raises:
        CaseError: fewer than two.
    """
    found = sorted(Path(folder).glob("fold*/final.pt"), key=lambda path: (len(path.parent.name), path.parent.name))
    if len(found) < 2:
        raise CaseError(
            f"folds {folder}", f"{len(found)} fold*/final.pt in it", "give the output of crossval, or --weights"
        )
    return [str(path) for path in found]


def _segment(
    scan: Scan,
    opened: OpenBundle,
    single: list[OpenBundle],
    output: Path,
    formats: list[str],
    names: str | None,
    work: Path,
    watched: SegmentedQuality | None = None,
) -> dict[str, Any]:
    """One scan from reading to files; returns its record for run.json."""
    given = read_scan(scan, work, opened.modality, opened.metadata.get("least_field_of_view_mm"))
    written = opened.predict(given.image)
    label, affine = read(str(written), scan.name, "label")
    label = label.astype(np.uint8)
    folder, labels = output / scan.name, opened.labels
    structures = _structures(label, affine, labels, names)
    found: list[dict[str, Any]] = []
    if watched is not None:
        maps = [
            (read(str(one.predict(given.image)), scan.name, "label")[0], one.entropy(given.image)) for one in single
        ]
        found = watched.note(scan.name, given.array, affine, (label, opened.entropy(given.image)), maps)
        agreed = agreements([one for one, _ in maps], classes_of(labels, names)) if maps else {}
        for row in structures if maps else ():
            row["fold_agreement"] = agreed[row["structure"]]
    folder.mkdir(parents=True, exist_ok=True)
    description = SYNTHETIC if opened.synthetic else DESCRIPTION
    if "nifti" in formats:
        shutil.copyfile(written, folder / "label.nii.gz")
    if given.source is not None:
        placed = on_series(scan.name, label, affine, given.source)
        write_contours(folder, placed, given.source, labels, formats, names, description=description)
    preview(folder / "preview.png", given.array, label, affine, labels, opened.modality, description)
    written.unlink()
    return {
        "scan": scan.name,
        "input_sha256": _digest(given),
        "shape": list(given.array.shape),
        "spacing_mm": [round(float(v), 4) for v in np.linalg.norm(given.affine[:3, :3], axis=0)],
        "structures": structures,
        "signs": found,
        "warnings": [*given.notes, *_warnings(label, labels)],
    }


def _structures(label: np.ndarray, affine: np.ndarray, labels: dict[int, str], own: str | None) -> list[dict[str, Any]]:
    ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    masks = structure_masks(label, labels, roi_names(labels, own))
    return [{"structure": labels[value], "ml": round(np.count_nonzero(mask) * ml, 3)} for value, mask in masks]


def classes_of(labels: dict[int, str], own: str | None) -> Classes:
    """Name of each structure to the label values that it consists of, what lies within it included."""
    return {labels[value]: values for value, values in structure_values(labels, roi_names(labels, own)).items()}


def _warnings(label: np.ndarray, labels: dict[int, str]) -> list[str]:
    found = []
    present = set(np.unique(label).tolist())
    absent = [name for value, name in labels.items() if value and value not in present]
    if absent and len(labels) <= 10:
        found.append(f"not found: {', '.join(absent)}")
    shell = np.ones(label.shape, dtype=bool)
    shell[1:-1, 1:-1, 1:-1] = False
    cut = sorted(set(np.unique(label[shell]).tolist()) - {0})
    if cut and len(labels) <= 10:
        found.append(f"cut off by the border of the image: {', '.join(labels[int(value)] for value in cut)}")
    return found


def _digest(given: ReadScan) -> str:
    """sha256 of voxels and geometry, the same whatever the file's compression."""
    digest = hashlib.sha256(np.ascontiguousarray(given.array).tobytes())
    digest.update(np.ascontiguousarray(given.affine, dtype=np.float64).tobytes())
    return digest.hexdigest()
