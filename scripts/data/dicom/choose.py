"""From a scanned DICOM tree to the cases to convert: which series, which structure set, which name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.core.dicom.dataset import silent_dicom
from scripts.core.dicom.rtstruct import Structures, read_rtstruct
from scripts.core.dicom.seg import read_seg
from scripts.data.dicom.convert import TABLE_HINT, Conversion, LabelSource
from scripts.data.dicom.labels import LabelRule
from scripts.data.dicom.outcome import LEFT_OUT, ImportOutcome, refused
from scripts.data.dicom.pseudonyms import PseudonymTable
from scripts.data.dicom.scan import NOT_IMAGES, Header, Series, Tree, parallel, unwanted


@dataclass(frozen=True)
class Wanted:
    """What to take from a tree; see `import_dicom` for the meaning of each."""

    rules: tuple[LabelRule, ...]
    modality: str
    description: str
    structure_set: str
    min_slices: int
    allow_missing: bool
    axial: bool = False


def choose_cases(
    tree: Tree, wanted: Wanted, table: PseudonymTable, output_dir: Path, workers: int
) -> tuple[list[Conversion], list[ImportOutcome]]:
    """Choose the series and find their structure sets.

    Args:
        tree: the scanned tree.
        wanted: what is asked for.
        table: gives names, and keeps what would identify a patient.
        output_dir: folder of the data set.
        workers: processes.

    Returns:
        A conversion per case, in the order of patients and dates, and the outcomes that are known without reading pixels.
    """
    chosen, outcomes = _choose(tree, wanted, table)
    for file in tree.damaged:
        outcomes.append(
            refused(
                table.file(file),
                "",
                "the file cannot be read as DICOM",
                "copy or export it again; the pseudonym table has its path",
            )
        )
    for file in tree.archives:
        outcomes.append(
            refused(
                table.file(file),
                "",
                "the archive was not opened",
                "unpack it (the pseudonym table has its path) and import again",
            )
        )
    structures, faults = _structures(tree, wanted, table, workers) if wanted.rules else ([], [])
    outcomes += faults
    conversions, undrawn = [], 0
    for series in chosen:
        mine, notes = _belonging(series, structures, chosen, tree)
        rois = [f"#{roi.number} rgb{roi.colour} {roi.name}" for one in mine for roi in one.rois]
        table.describe(
            series.uid, folder=str(series.files[0].parent), description=series["SeriesDescription"], rois=rois
        )
        if wanted.rules and not mine:
            # no name: it would use up the number of a time point
            undrawn += 1
            continue
        patient = table.patient(series.patient_key)
        case = table.case(series.patient_key, series["StudyInstanceUID"], series.uid)
        if series.clashes:
            outcomes.append(
                refused(case, patient, "different images share one SOPInstanceUID", "export the series again")
            )
            continue
        if series.duplicates:
            notes.append(f"{series.duplicates} duplicate files were left out")
        if not series["PatientID"]:
            notes.append("it has no patient identity; check that patients are told apart")
        sources = _sources(case, patient, mine, wanted, notes)
        if isinstance(sources, ImportOutcome):
            outcomes.append(sources)
            continue
        conversions.append(
            Conversion(
                case,
                patient,
                tuple(series.files),
                tuple(sources),
                bool(wanted.rules),
                output_dir,
                wanted.allow_missing,
                wanted.axial,
                tuple(notes),
            )
        )
    if undrawn:
        outcomes.append(ImportOutcome("", "", LEFT_OUT, f"{undrawn} series, because no RTSTRUCT or SEG refers to it"))
    return conversions, outcomes


def _choose(tree: Tree, wanted: Wanted, table: PseudonymTable) -> tuple[list[Series], list[ImportOutcome]]:
    chosen, reasons = [], Counter[str]()
    for series in tree.series.values():
        if series["Modality"].upper() in NOT_IMAGES:
            continue
        reason = unwanted(series, wanted.modality, wanted.description, wanted.min_slices)
        if reason is None:
            chosen.append(series)
        else:
            reasons[reason] += 1
            table.describe(series.uid, folder=str(series.files[0].parent), left_out=reason)
    chosen.sort(key=lambda s: (s.patient_key, s["StudyDate"], s["StudyTime"], s["StudyInstanceUID"], s.uid))
    outcomes = [ImportOutcome("", "", LEFT_OUT, f"{n} series, because {reason}") for reason, n in reasons.items()]
    if not chosen and not outcomes and tree.series:
        outcomes.append(ImportOutcome("", "", LEFT_OUT, "the folder holds structure sets but no images"))
    return chosen, outcomes


def _read(header: Header) -> Structures | None:
    try:
        with silent_dicom():
            found = (read_seg if header["Modality"].upper() == "SEG" else read_rtstruct)(header.file)
    except Exception:  # told by the caller without the text, which may hold header values
        return None
    for roi in found.rois:
        # workers read the points again: all contours of a cohort at once would fill the memory
        roi.contours = []
    return found


def _structures(
    tree: Tree, wanted: Wanted, table: PseudonymTable, workers: int
) -> tuple[list[Structures], list[ImportOutcome]]:
    headers = [h for s in tree.series.values() if s["Modality"].upper() in NOT_IMAGES for h in s.headers]
    if wanted.structure_set:
        pattern = re.compile(wanted.structure_set, re.IGNORECASE)
        headers = [h for h in headers if pattern.search(h["StructureSetLabel"] + "\n" + h["SeriesDescription"])]
    structures, outcomes = [], []
    images = {h["SOPInstanceUID"] for s in tree.series.values() for h in s.headers}
    for header, found in zip(headers, parallel(_read, headers, workers, "structure sets"), strict=True):
        name = table.file(header.file)
        if found is None:
            outcomes.append(
                refused(
                    name, "", "the RTSTRUCT or SEG cannot be read", "export it again; the pseudonym table has its path"
                )
            )
        elif (found.series or found.images) and not (found.series & tree.series.keys() or found.images & images):
            outcomes.append(
                refused(
                    name,
                    "",
                    "it was drawn on a series that is not in the folder",
                    "export that series with it; the pseudonym table has its path",
                )
            )
        else:
            structures.append(found)
    return structures, outcomes


def _belonging(
    series: Series, structures: Sequence[Structures], chosen: Sequence[Series], tree: Tree
) -> tuple[list[Structures], list[str]]:
    """Structure sets drawn on a series: by its uid, else by its images, else by a frame of reference of its own."""
    images = {header["SOPInstanceUID"] for header in series.headers}
    frame = series["FrameOfReferenceUID"]
    mine, notes = [], []
    for one in structures:
        named = one.series & tree.series.keys()
        if series.uid in named or (not named and one.images & images):
            mine.append(one)
            if one.series <= {series.uid} and one.images - images:
                notes.append(f"{len(one.images - images)} images that its contours were drawn on are not in the folder")
            if one.frames and frame and frame not in one.frames:
                notes.append("its structure set names another frame of reference")
        elif not one.series and not one.images and frame and frame in one.frames:
            sharing = [s for s in chosen if s["FrameOfReferenceUID"] == frame]
            if len(sharing) == 1:
                mine.append(one)
                notes.append("its structure set was found through the frame of reference alone")
    return mine, notes


def _sources(
    case: str, patient: str, mine: Sequence[Structures], wanted: Wanted, notes: list[str]
) -> list[LabelSource] | ImportOutcome:
    sources: list[LabelSource] = []
    for rule in wanted.rules:
        matching = [(one, [roi for roi in one.rois if rule.matches(roi)]) for one in mine]
        matching = [(one, rois) for one, rois in matching if rois]
        if len(matching) > 1:
            return refused(
                case,
                patient,
                f"label '{rule.name}' is in {len(matching)} structure sets",
                "choose one with --structure_set, a pattern for its label or description",
            )
        if matching:
            one, rois = matching[0]
            if len(rois) > 1:
                notes.append(f"label '{rule.name}' is the union of {len(rois)} ROIs")
            for other in sources:
                both = {roi.number for roi in rois} & set(other.numbers) if other.file == one.file else set()
                if both:
                    notes.append(
                        f"{len(both)} ROIs match '{other.rule.name}' and '{rule.name}'; the latter has their voxels"
                    )
            sources.append(LabelSource(rule, one.file, one.seg, tuple(roi.number for roi in rois)))
        elif not wanted.allow_missing:
            return refused(
                case, patient, f"no ROI matches label '{rule.name}'", f"{TABLE_HINT}, or pass --allow_missing"
            )
    return sources
