"""`import_nnunet`: a data set in nnU-Net's raw format, or in the Medical Decathlon's, to a datalist."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from custom_networks.data.datalist import Case, Datalist, Patients
from custom_networks.errors import CaseError
from scripts.core.datalist import add_cases, existing, write_datalist
from scripts.core.jobs import parallel
from scripts.data.cohorts.import_nifti import Volume, import_volume, patient_of
from scripts.data.cohorts.nnunet import SPLITS, RawDataset, read_raw, read_splits
from scripts.data.dicom.import_dicom import whole
from scripts.data.dicom.outcome import IMPORTED, refused, summary, write_report
from scripts.data.dicom.patterns import checked_pattern


def import_nnunet(
    source_dir: str,
    output_dir: str,
    patient: str = "",
    patients: Patients = "named",
    modality: str = "",
    channel: int | None = None,
    splits: str = "",
    copy: bool = False,
    workers: int = 2,
) -> int:
    """Turn a data set of nnU-Net or the Medical Decathlon into a datalist, or add it to the one that is there.

    Every file is read; a case that cannot be used is refused with its reason, and the rest goes on. imagesTs becomes
    `testing`. A splits_final.json becomes the folds, as long as it keeps the cases of a patient together.

    Example:
        python -m scripts import_nnunet nnUNet_raw/Dataset501_Cervix data --patient "(P[0-9]+)_"

    Args:
        source_dir: the folder with dataset.json.
        output_dir: folder of the data set: `images/`, `labels/`, `datalist.json`, `import_report.csv`.
        patient: regular expression that finds the patient in a case's name: its group `patient`, else its first group,
            else all that it matches; default what dataset.json says.
        patients: `named` refuses a case without a patient; `each` says that such a case is a patient of its own.
        modality: `MR` or `CT`; default what dataset.json says.
        channel: which of several channels to take.
        splits: file of the folds; default splits_final.json in the folder, where it is; `none` for no folds.
        copy: copy NIfTI files; otherwise `images/` and `labels/` have links to where they lie.
        workers: processes.

    Returns:
        0, or 1 if no case could be imported.

    Raises:
        CaseError: the folder is no such data set, an option is wrong, or the datalist that is there is of another kind.
    """
    source, output = Path(source_dir), Path(output_dir)
    raw = read_raw(source, channel)
    kind = (modality or raw.modality).upper()
    if kind not in {"MR", "CT"}:
        raise CaseError(
            f"data set {source}", "dataset.json does not say whether it is MR or CT", "pass --modality MR or CT"
        )
    if not patient and not raw.patients and patients == "named":
        raise CaseError(
            f"data set {source}",
            "nothing says which images are of one patient",
            "pass --patient a regular expression for it, or --patients each if every image is of another one",
        )
    target = output / "datalist.json"
    existing(target, raw.labels, kind)
    finder = re.compile(checked_pattern("--patient", patient)) if patient else None
    outcomes, volumes, held_out = [], [], {case.name for case in raw.cases if case.held_out}
    for case in raw.cases:
        of = patient_of(case.name, finder) if finder else str(raw.patients.get(case.name, ""))
        of = of or (case.name if patients == "each" else "")
        if not of:
            outcomes.append(refused(case.name, "", f"--patient finds nothing in {case.name}", "correct it"))
        elif not case.held_out and case.label is None:
            outcomes.append(refused(case.name, of, f"{case.image} has no label map in labelsTr", "add it"))
        else:
            volumes.append(Volume(case.name, of, case.image, case.label, tuple(raw.labels), output, copy))
    folds = folds_of(raw, {volume.case: volume.patient for volume in volumes}, source, splits)
    outcomes += parallel(import_volume, volumes, whole("--workers", workers), "cases")
    outcomes.sort(key=lambda one: one.case)
    report = write_report(output / "import_report.csv", outcomes)
    done = [one for one in outcomes if one.outcome == IMPORTED]
    if done:
        sections: dict[bool, list[Case]] = {False: [], True: []}
        for one in done:
            fold = folds.get(one.case)
            entry = {**one.entry, **({} if fold is None else {"fold": fold})}
            sections[one.case in held_out].append(Case.of(entry, output))
        more = {"regions": dict(raw.regions)} if raw.regions else {}
        new = Datalist(raw.name, kind, raw.labels, sections[False], sections[True], more)
        write_datalist(target, add_cases(target, new))
    print(summary(outcomes, report))
    return 0 if done else 1


def folds_of(raw: RawDataset, patients: dict[str, str], source: Path, splits: str) -> dict[str, int]:
    """The fold of each training case; empty without splits.

    Args:
        raw: the data set.
        patients: case to patient, of the cases that are imported.
        source: its folder.
        splits: see `import_nnunet`.

    Raises:
        CaseError: the splits do not fit the data set, or a patient is in two folds.
    """
    file = Path(splits) if splits else source / SPLITS
    if splits == "none" or (not splits and not file.is_file()):
        return {}
    names = [case.name for case in raw.cases if not case.held_out and case.name in patients]
    folds, of_patient = read_splits(file, names), defaultdict(set)
    for name, fold in folds.items():
        of_patient[patients[name]].add(fold)
    both = next((who for who, numbers in of_patient.items() if len(numbers) > 1), None)
    if both is not None:
        raise CaseError(
            f"splits {file}",
            f"patient {both} is in folds {', '.join(map(str, sorted(of_patient[both])))}",
            "pass --splits none and write patient-grouped folds with `python -m scripts split`",
        )
    return folds
