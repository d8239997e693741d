"""`export_nnunet`: a datalist to nnU-Net's raw format, with our folds."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.data.checks import check_grid, check_image, check_values
from custom_networks.data.datalist import Case, Datalist, safe_name
from custom_networks.errors import CaseError
from scripts.core.datalist import distinct_names
from scripts.core.files import atomic_file, write_text
from scripts.core.reading import each_case, one_sentence, read
from scripts.data.cohorts.nnunet import CHANNELS, DATASET, ENDING, SPLITS, splits


def export_nnunet(datalist: str, output: str, workers: int = 2) -> int:
    """Write a datalist as a raw data set of nnU-Net v2, by hard links where the file system has them.

    Writes imagesTr, labelsTr, imagesTs, labelsTs, dataset.json and splits_final.json with the datalist's folds, which
    belongs into nnUNet_preprocessed once nnU-Net has planned. dataset.json also says which patient a case is of;
    `import_nnunet` reads it, nnU-Net ignores it.

    Example:
        python -m scripts export_nnunet data/datalist.json nnUNet_raw/Dataset501_Cervix

    Args:
        datalist: the datalist.
        output: folder of the data set, called DatasetNNN_NAME, below nnUNet_raw.
        workers: cases checked at a time.

    Returns:
        0; 1 if a case could not be exported, after all others were.

    Raises:
        CaseError: the folder has another name, or the labels are not what nnU-Net takes.
    """
    content, target = Datalist.read(datalist), Path(output)
    cases = [case for case in content.training if case.label] + list(content.testing)
    check_exportable(content, datalist, target)
    exported, failed = export_raw(content, cases, target, workers)
    for error in failed:
        print(f"not exported: {error}")
    print(f"{len(exported)} of {len(cases)} cases: {target}")
    return int(bool(failed))


def check_exportable(content: Datalist, datalist: str | Path, target: Path) -> None:
    """Refuse what nnU-Net would not take.

    Raises:
        CaseError: see `export_nnunet`.
    """
    if not re.fullmatch(r"Dataset\d{3}_\w+", target.name):
        raise CaseError(
            f"output {target}", "nnU-Net wants a folder named DatasetNNN_NAME", "pass such as Dataset501_Cervix"
        )
    distinct_names(content.cases, f"datalist {datalist}")
    values = sorted(content.labels)
    if values != list(range(len(values))) or len(values) < 2:
        raise CaseError(
            f"datalist {datalist}", f"its label values are {values}", "nnU-Net wants 0, 1, 2 … without a gap"
        )


def export_raw(
    content: Datalist, cases: Sequence[Case], target: Path, workers: int = 2
) -> tuple[list[Case], list[CaseError]]:
    """Write cases and the two JSON files.

    Args:
        content: whose labels and modality count.
        cases: of its sections.
        target: folder of the data set.
        workers: cases at a time.

    Returns:
        The cases that were written, and why others were not.

    Raises:
        CaseError: not one case could be written.
    """
    held_out = {case.name for case in content.testing}
    known = sorted(content.labels)

    def work(case: Case) -> str:
        with one_sentence(case.name, "image or label"):
            _export(case, target, "Ts" if case.name in held_out else "Tr", known)
        return case.name

    done, failed = each_case(work, cases, "export", workers)
    if not done:
        raise failed[0]
    exported = [case for case in cases if case.name in set(done)]
    training = [case for case in exported if case.name not in held_out]
    names = {case.name: safe_name(case.name) for case in exported}
    about: dict[str, Any] = {
        "name": content.name or target.name,
        "channel_names": {"0": CHANNELS.get(content.modality, "MRI")},
        "labels": {content.labels[value]: value for value in known},
        "numTraining": len(training),
        "file_ending": ENDING,
        "patients": {names[case.name]: case.patient for case in exported},
    }
    write_text(target / DATASET, json.dumps(about, indent=4, ensure_ascii=False) + "\n")
    if any(case.fold is not None for case in training):
        write_text(target / SPLITS, json.dumps(splits(training, names), indent=4) + "\n")
    return exported, failed


def _export(case: Case, target: Path, part: str, known: Sequence[int]) -> None:
    image = read(case.image, case.name)
    check_image(case.name, case.image, image[0])
    if case.label is not None:
        label = read(case.label, case.name, "label")
        check_grid(case.name, f"label {case.label}", label, image)
        check_values(case.name, f"label {case.label}", label[0], known)
        _place(Path(case.label), target / f"labels{part}" / f"{safe_name(case.name)}{ENDING}")
    _place(Path(case.image), target / f"images{part}" / f"{safe_name(case.name)}_0000{ENDING}")


def _place(file: Path, placed: Path) -> None:
    """Link a file, or copy it where links do not reach; one that is not compressed is compressed."""
    placed.parent.mkdir(parents=True, exist_ok=True)
    if placed.exists() and placed.samefile(file):
        return
    if file.name.lower().endswith(".gz"):
        placed.unlink(missing_ok=True)
        try:
            os.link(file.resolve(), placed)
            return
        except OSError:
            # another disk, or a file system without links
            pass
    with atomic_file(placed) as partial, file.open("rb") as source:
        if file.name.lower().endswith(".gz"):
            shutil.copyfile(file, partial)
        else:
            with gzip.open(partial, "wb") as stream:
                shutil.copyfileobj(source, stream)
