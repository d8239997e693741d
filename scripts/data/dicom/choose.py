"""From a scanned DICOM tree to the cases to convert: which series, which structure set, which name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.data.dicom.convert import TABLE_HINT, Conversion, LabelSource
from scripts.data.dicom.doses import DOSES, doses_of, unclaimed
from scripts.data.dicom.labels import LabelRule
from scripts.data.dicom.outcome import LEFT_OUT, ImportOutcome, refused
from scripts.data.dicom.patients import doubts, identity_of
from scripts.data.dicom.pseudonyms import PseudonymTable
from scripts.data.dicom.scan import NOT_IMAGES, Series, Tree, unwanted
from scripts.data.dicom.structures import Drawn, belonging, read_structures


@dataclass(frozen=True)
class Wanted:
    """What to take from a tree; see `import_dicom` for the meaning of each, `each` for `--patients each`."""

    rules: tuple[LabelRule, ...]
    modality: str
    description: str
    structure_set: str
    min_slices: int
    allow_missing: bool
    axial: bool = False
    each: bool = False


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
    found = read_structures(tree, wanted.structure_set, workers) if wanted.rules else []
    structures = [one for one in found if not one.fault]
    for one in found:
        if one.fault:
            outcomes.append(
                refused(table.file(one.header.file), "", one.fault, f"{one.remedy}; the pseudonym table has its path")
            )
    pseudonyms = table.names([identity_of(series.headers[0]) for series in chosen])
    doubtful = doubts(pseudonyms, pseudonyms)
    conversions = []
    undrawn = elsewhere = 0
    for series in chosen:
        mine, notes = belonging(series, structures, chosen, tree)
        rois = [f"#{roi.number} rgb{roi.colour} {roi.name}" for one in mine for roi in (*one.rois, *one.elsewhere)]
        table.describe(
            series.key, folder=str(series.files[0].parent), description=series["SeriesDescription"], rois=rois
        )
        if wanted.rules and not any(one.rois for one in mine):
            # no name: it would use up the number of a time point
            undrawn += not mine
            elsewhere += bool(mine)
            continue
        identity = identity_of(series.headers[0])
        patient = pseudonyms[identity]
        case = table.case(identity, series["StudyInstanceUID"], series.key)
        unusable = _unusable(series, wanted.each)
        if unusable:
            outcomes.append(refused(case, patient, *unusable))
            continue
        notes += [*_notes(series), *doubtful.get(identity, [])]
        sources = _sources(case, patient, mine, wanted, notes)
        if isinstance(sources, ImportOutcome):
            outcomes.append(sources)
            continue
        doses, said = doses_of(series, tree)
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
                (*notes, *said),
                doses,
                series["FrameOfReferenceUID"],
            )
        )
    lost = unclaimed(tree, [one.doses for one in conversions])
    if lost:
        outcomes.append(ImportOutcome("", "", LEFT_OUT, f"{lost} RTDOSE, because they belong to no imported image"))
    for number, reason in (
        (undrawn, "no RTSTRUCT or SEG refers to it"),
        (elsewhere, "the contours that refer to it lie in another frame of reference"),
    ):
        if number:
            outcomes.append(ImportOutcome("", "", LEFT_OUT, f"{number} series, because {reason}"))
    return conversions, outcomes


def _unusable(series: Series, each: bool) -> tuple[str, str] | None:
    """What is wrong with a series that its headers show, and what to do."""
    if series.clashes:
        return "different images share one SOPInstanceUID", "export the series again"
    if not each and not identity_of(series.headers[0]).known:
        return (
            "it says nothing of whose it is (no patient id, or one that stands for all)",
            "export it with pseudonyms, or pass --patients each if every study is of another patient",
        )
    return None


def _notes(series: Series) -> list[str]:
    notes = []
    if not identity_of(series.headers[0]).known:
        notes.append("it has no patient identity and was taken for a patient of its own")
    if series.separated:
        notes.append(f"its series mixes images that differ in {', '.join(series.separated)} and was separated")
    if series.duplicates:
        notes.append(f"{series.duplicates} duplicate files were left out")
    return notes


def _choose(tree: Tree, wanted: Wanted, table: PseudonymTable) -> tuple[list[Series], list[ImportOutcome]]:
    chosen, reasons = [], Counter[str]()
    for series in tree.series.values():
        if series["Modality"].upper() in NOT_IMAGES | DOSES:
            continue
        reason = unwanted(series, wanted.modality, wanted.description, wanted.min_slices)
        if reason is None:
            chosen.append(series)
        else:
            reasons[reason] += 1
            table.describe(series.key, folder=str(series.files[0].parent), left_out=reason)
    order = ("StudyDate", "StudyTime", "StudyInstanceUID")
    chosen.sort(key=lambda s: (identity_of(s.headers[0]), *(s[tag] for tag in order), s.key))
    outcomes = [ImportOutcome("", "", LEFT_OUT, f"{n} series, because {reason}") for reason, n in reasons.items()]
    if not chosen and not outcomes and tree.series:
        outcomes.append(ImportOutcome("", "", LEFT_OUT, "the folder holds structure sets but no images"))
    return chosen, outcomes


def _sources(
    case: str, patient: str, mine: Sequence[Drawn], wanted: Wanted, notes: list[str]
) -> list[LabelSource] | ImportOutcome:
    sources: list[LabelSource] = []
    for rule in wanted.rules:
        matching = [(one.content, [roi for roi in one.rois if rule.matches(roi)]) for one in mine]
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
            continue
        foreign = any(rule.matches(roi) for one in mine for roi in one.elsewhere)
        if not wanted.allow_missing:
            problem = f"no ROI matches label '{rule.name}'"
            remedy = f"{TABLE_HINT}, or pass --allow_missing"
            if foreign:
                problem = f"the ROIs of label '{rule.name}' lie in another frame of reference"
                remedy = "import the series that they were drawn on, or pass --allow_missing"
            return refused(case, patient, problem, remedy)
    return sources
