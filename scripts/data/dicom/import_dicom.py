"""`python -m scripts import_dicom`: a DICOM tree with RTSTRUCT or SEG to NIfTI and a datalist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from custom_networks.errors import CaseError
from scripts.core.datalist import Case, Datalist, add_cases, existing, write_datalist
from scripts.core.files import locked
from scripts.core.jobs import parallel
from scripts.data.dicom.choose import Wanted, choose_cases
from scripts.data.dicom.convert import convert
from scripts.data.dicom.labels import parse_labels
from scripts.data.dicom.outcome import IMPORTED, ImportOutcome, summary, write_report
from scripts.data.dicom.patterns import checked_pattern
from scripts.data.dicom.pseudonyms import PseudonymTable
from scripts.data.dicom.scan import scan_tree

MODALITIES = ("MR", "CT")
PATIENTS = ("named", "each")


def import_dicom(
    dicom_dir: str,
    output_dir: str,
    labels: str | Mapping[str, str | Sequence[str]] = "",
    modality: str = "MR",
    description: str = "",
    structure_set: str = "",
    min_slices: int = 8,
    allow_missing: bool = False,
    patients: str = "named",
    name: str = "",
    table: str = "",
    workers: int = 2,
) -> int:
    """Turn a folder tree of DICOM into NIfTI images, label maps and a datalist that every bundle reads.

    Series are found by SeriesInstanceUID, wherever their files lie, and separated where images of one differ in echo,
    kernel, orientation, frame of reference or patient. Scouts, PET, registrations, short series and duplicate files are
    left out. A series whose slices do not form a regular stack, or whose contours do not fit, is refused with its
    reason; the rest goes on. RTDOSE in an image's frame of reference comes with it, in Gy, with the number of fractions where
    its RTPLAN says it. Everything is told in `import_report.csv`. A datalist that is there is added to: who has a
    fold or is held out keeps that place.

    Names, ids, dates, descriptions, ROI names and paths of the export stay in the pseudonym table, a separate file that
    only its owner can read. The next import with the same table gives the same patients the same names.

    Example:
        python -m scripts import_dicom export data/mr --description T2 --labels "{organ: 'uterus|cervix', tumor: 'GTV'}"

    Args:
        dicom_dir: folder of the export.
        output_dir: folder of the data set: `images/`, `labels/`, `doses/`, `datalist.json`, `import_report.csv`.
        labels: label names to ROIs, in the order of the label values 1, 2, …; where ROIs overlap, the later label
            wins. An ROI is chosen by a regular expression for its name (upper and lower case alike), by its number,
            `'#2'`, or by its display colour, `'rgb(0,235,235)'`; a list of these takes all that match. Without labels,
            all series of the modality are imported unlabelled; with labels, those that an RTSTRUCT or SEG refers to.
        modality: `MR` or `CT`.
        description: regular expression that the series description must contain.
        structure_set: regular expression that the structure set's label or description must contain.
        min_slices: series with fewer slices are left out.
        allow_missing: import cases that lack some of the labels.
        patients: `named` refuses images without patient id and name, or with one that stands for all, such as ANON;
            `each` takes every study of these for a patient of its own.
        name: name of the data set in the datalist; default the output folder's.
        table: file of the pseudonym table, outside `output_dir`; default `OUTPUT_DIR_pseudonyms.json` beside it.
        workers: processes.

    Returns:
        0, or 1 if no case could be imported.

    Raises:
        CaseError: an option is wrong, or the folder does not exist.
    """
    output = Path(str(output_dir))
    rules = parse_labels(labels)
    wanted = Wanted(
        tuple(rules),
        str(modality).upper(),
        checked_pattern("--description", description),
        checked_pattern("--structure_set", structure_set),
        whole("--min_slices", min_slices),
        bool(allow_missing),
        each=_each(patients),
    )
    named = {0: "background", **{rule.value: rule.name for rule in rules}} if rules else {}
    file = output / "datalist.json"
    existing(file, named, wanted.modality)
    # until the datalist is written: of two imports at once, the later one would forget the pseudonyms of the other
    with locked(table_path(output, table)):
        outcomes = import_tree(dicom_dir, output, wanted, table, workers)
        cases = [one.entry for one in outcomes if one.outcome == IMPORTED]
        report = write_report(output / "import_report.csv", outcomes)
        if cases:
            title = str(name) or output.resolve().name
            new = Datalist(title, wanted.modality, named, [Case.of(case, output) for case in cases])
            with locked(file):
                write_datalist(file, add_cases(file, new))
    print(summary(outcomes, report))
    return 0 if cases else 1


def import_tree(
    dicom_dir: str | Path, output: Path, wanted: Wanted, table: str | Path, workers: int, public: str = ""
) -> list[ImportOutcome]:
    """Convert what is wanted of a DICOM tree; writes images, labels and the pseudonym table.

    Args:
        dicom_dir: folder of the export.
        output: folder of the data set.
        wanted: what to take.
        table: file of the pseudonym table; empty for the default.
        workers: processes.
        public: name of a public data set, see `PseudonymTable`.

    Returns:
        What became of every case, ordered by pseudonym; imported ones with their datalist entries.

    Raises:
        CaseError: the folder does not exist or holds no DICOM, the modality is unknown, or the pseudonym table is to
            lie inside the data set.
    """
    root = Path(str(dicom_dir))
    if wanted.modality not in MODALITIES:
        raise CaseError("--modality", f"'{wanted.modality}' is not supported", f"choose one of {', '.join(MODALITIES)}")
    if not root.is_dir():
        raise CaseError("--dicom_dir", f"{root} is not a folder", "pass the folder of the DICOM export")
    workers = whole("--workers", workers)
    secret = table_path(output, table)
    with locked(secret):
        return _convert_tree(root, output, wanted, PseudonymTable(secret, public), workers)


def table_path(output: Path, table: str | Path) -> Path:
    """Where the pseudonym table lies; beside the data set, if it is not said.

    Raises:
        CaseError: it would lie inside the data set, which is passed on.
    """
    secret = Path(str(table)) if table else output.resolve().parent / f"{output.resolve().name}_pseudonyms.json"
    if secret.resolve().is_relative_to(output.resolve()):
        raise CaseError(
            "--table", "the pseudonym table would lie inside the data set", "choose a file outside --output_dir"
        )
    return secret


def _convert_tree(
    root: Path, output: Path, wanted: Wanted, pseudonyms: PseudonymTable, workers: int
) -> list[ImportOutcome]:
    tree = scan_tree(root, workers)
    if not tree.series and not tree.damaged:
        hint = "unpack the archives in it" if tree.archives else "pass the folder of the DICOM export"
        raise CaseError("--dicom_dir", "the folder holds no DICOM files", hint)
    conversions, outcomes = choose_cases(tree, wanted, pseudonyms, output, workers)
    try:
        # before the first image: an interrupted import must not leave pseudonyms that nobody can resolve
        pseudonyms.save()
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaseError(
            "--output_dir", f"it cannot be written ({type(error).__name__})", "choose another folder"
        ) from None
    # the order of the pseudonyms, since that of the identities they stand for says something about them
    return sorted(parallel(convert, conversions, workers, "cases") + outcomes, key=lambda one: (not one.case, one.case))


def _each(patients: object) -> bool:
    if patients not in PATIENTS:
        raise CaseError("--patients", f"'{patients}' is not supported", f"choose one of {', '.join(PATIENTS)}")
    return patients == "each"


def whole(option: str, value: object) -> int:
    """Return a positive whole number.

    Args:
        option: the option's name, for the message.
        value: what was passed.

    Returns:
        The number.

    Raises:
        CaseError: it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CaseError(option, f"{value!r} is not a whole number above zero", "pass for example 2")
    return value
