"""`python -m scripts import_cohort`: a public data set, as published, to a datalist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError
from scripts.core.datalist import Case, Datalist, add_cases, existing, write_datalist
from scripts.data.cohorts.nifti_sets import import_scans
from scripts.data.cohorts.sets import CCTH_LABELS, COHORTS, Cohort, hold_out
from scripts.data.cohorts.totalsegmentator import CLASSES_V1, SPLITS, import_totalsegmentator, published_split
from scripts.data.dicom.choose import Wanted
from scripts.data.dicom.import_dicom import import_tree, whole
from scripts.data.dicom.labels import parse_labels
from scripts.data.dicom.outcome import IMPORTED, REFUSED, ImportOutcome, summary, write_report


def import_cohort(
    cohort: str,
    source_dir: str,
    output_dir: str,
    official_split: bool = False,
    axial: bool = False,
    allow_missing: bool = False,
    copy: bool = False,
    table: str = "",
    seed: int = 0,
    workers: int = 2,
) -> int:
    """Turn one of the papers' public data sets into a datalist.

    `ccth` becomes an external test set (`testing`) with organ and tumour told apart by display colour, sagittal as
    acquired. The others become `training` with the paper's split in `fold`: fold 0 is the held-out part, 20 % of
    TotalSegmentator's subjects, 15 % of the scans of FLARE22, HNSCC, RibFrac, ACRIN 6664 and COVID-19 (which stay
    unlabelled), all scans of a patient on one side. So `--fold 0` of a bundle trains on the rest.

    How many scans were found is told next to the paper's number. `import_report.csv` has every case.

    Example:
        python -m scripts import_cohort totalsegmentator downloads/Totalsegmentator_dataset data/totalsegmentator

    Args:
        cohort: `ccth`, `totalsegmentator`, `flare22`, `hnscc`, `ribfrac`, `acrin6664` or `covid19`.
        source_dir: folder of the unpacked download.
        output_dir: folder of the data set.
        official_split: `totalsegmentator` alone: the published split of `meta.csv` instead of the paper's 80/20; `train`
            becomes fold 1, `val` fold 0, `test` the section `testing`.
        axial: `ccth` alone: resample to axial 0.469 x 0.469 x 5 mm, as the PocketNet paper did; this loses resolution.
        allow_missing: import cases that lack some of the labels.
        copy: copy the published NIfTI images; otherwise `images/` has links to where they lie, named by case.
        table: file of the pseudonym table of a DICOM set; default `OUTPUT_DIR_pseudonyms.json`.
        seed: of the split.
        workers: processes.

    Returns:
        0, or 1 if no case could be imported.

    Raises:
        CaseError: unknown data set, an option that does not apply to it, or a folder that does not exist.
    """
    key, source, output = str(cohort).lower(), Path(str(source_dir)), Path(str(output_dir))
    if key not in COHORTS:
        raise CaseError("import_cohort", f"'{cohort}' is not a known data set", f"choose one of {', '.join(COHORTS)}")
    for option, given, owner in (("--official_split", official_split, "totalsegmentator"), ("--axial", axial, "ccth")):
        if given and key != owner:
            raise CaseError(key, f"{option} applies to {owner} alone", f"leave {option} out")
    if not source.is_dir():
        raise CaseError(key, f"{source} is not a folder", "pass the folder of the unpacked download")
    chosen, workers = COHORTS[key], whole("--workers", workers)
    splits = published_split(source) if official_split else {}
    rules = tuple(parse_labels(CCTH_LABELS)) if key == "ccth" else ()
    labels = {0: "background", **{rule.value: rule.name for rule in rules}} if rules else {}
    if key == "totalsegmentator":
        labels = dict(enumerate(("background", *CLASSES_V1)))
    existing(output / "datalist.json", labels, chosen.modality)
    if chosen.kind == "dicom":
        wanted = Wanted(rules, chosen.modality, "", "", chosen.min_slices, bool(allow_missing), bool(axial))
        outcomes = import_tree(source, output, wanted, table, workers, public=key)
    elif chosen.kind == "nifti":
        outcomes = import_scans(key, chosen, source, output, bool(copy), workers)
    else:
        outcomes = import_totalsegmentator(source, output, bool(allow_missing), bool(copy), workers)
    if not any(one.case for one in outcomes):
        raise CaseError(
            key, "the folder holds no scan of this data set", f"unpack the download there ({chosen.source})"
        )
    if official_split:
        _refuse_unknown(outcomes, splits)
    cases: list[dict[str, Any]] = [dict(one.entry) for one in outcomes if one.outcome == IMPORTED]
    report = write_report(output / "import_report.csv", outcomes)
    training, testing = _sections(cases, key, chosen, splits, seed)
    if cases:
        train, test = ([Case.of(case, output) for case in section] for section in (training, testing))
        new = Datalist(chosen.title, chosen.modality, labels, train, test)
        write_datalist(output / "datalist.json", add_cases(output / "datalist.json", new))
    print(summary(outcomes, report))
    print(_count(key, chosen, len(cases)))
    return 0 if cases else 1


def _refuse_unknown(outcomes: list[ImportOutcome], splits: dict[str, str]) -> None:
    for one in outcomes:
        if one.outcome == IMPORTED and one.case not in splits:
            one.outcome, one.finding = REFUSED, "meta.csv does not name it"
            one.remedy = "download version 1 again, or leave --official_split out"


def _sections(
    cases: list[dict[str, Any]], key: str, cohort: Cohort, splits: dict[str, str], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if key == "ccth":
        return [], cases
    if not splits:
        hold_out(cases, cohort.held_out, seed)
        return cases, []
    train, val, test = SPLITS
    for case in cases:
        if splits[case["case"]] != test:
            case["fold"] = {val: 0, train: 1}[splits[case["case"]]]
    return [c for c in cases if "fold" in c], [c for c in cases if "fold" not in c]


def _count(key: str, cohort: Cohort, found: int) -> str:
    text = f"{key}: found {found} of the paper's {cohort.count} {cohort.unit}"
    if found != cohort.count:
        text += f" (source: {cohort.source}{'; ' + cohort.caution if cohort.caution else ''})"
    return text + "."
