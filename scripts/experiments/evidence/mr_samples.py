"""Datalists of the real MR samples that stand in for what was not to be had: no public female pelvic T2w MRI has labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist, write_datalist
from scripts.data.split.split import split
from scripts.experiments.evidence.ct_samples import samples_folder


def stand_ins(output: str, samples: str = "", folds: int = 5, seed: int = 0) -> None:
    """Write OUTPUT/bladder/datalist.json and OUTPUT/sarcoma/datalist.json for the evidence in docs/evidence.md.

    The bladder on axial T2w MRI of the male pelvis stands in for the organ: four cases train (use --fold -1), the fifth is
    `testing`. Soft-tissue sarcoma on T1w MRI stands in for the tumour: 35 patients in folds. Images stay where they are.

    Args:
        output: folder to write to.
        samples: folder of real samples; default the variable GYN_SAMPLES.
        folds: of the sarcomas.
        seed: of the folds.

    Raises:
        CaseError: a sample is missing.
    """
    source, target = samples_folder(samples).resolve(), Path(output)
    pelvis = sorted((source / "cases").glob("mr_pelvis_t2_*"))
    if len(pelvis) < 2:
        raise CaseError("stand_ins", f"{source / 'cases'} has no mr_pelvis_t2_* folders", "set GYN_SAMPLES")
    cases = [_case(folder.name, folder / "image.nii.gz", folder / "label.nii.gz") for folder in pelvis]
    write_datalist(
        target / "bladder" / "datalist.json",
        Datalist(
            "bladder as organ",
            "MR",
            {0: "background", 1: "organ"},
            [replace(case, fold=i) for i, case in enumerate(cases[:-1])],
            cases[-1:],
        ),
    )
    index = json.loads((source / "sts_t1" / "index.json").read_text(encoding="utf-8"))
    sarcoma = [
        _case(entry["case"], *(source / "sts_t1" / kind / f"{entry['case']}.nii.gz" for kind in ("images", "labels")))
        for entry in index["cases"]
    ]
    file = target / "sarcoma" / "datalist.json"
    write_datalist(file, Datalist("sarcoma as tumour", "MR", {0: "background", 1: "GTV"}, sarcoma))
    split(str(file), folds=folds, test=0.0, seed=seed)


def _case(name: str, image: Path, label: Path) -> Case:
    for file in (image, label):
        if not file.is_file():
            raise CaseError(name, f"{file} does not exist", "set GYN_SAMPLES to the complete folder of samples")
    return Case(name, {"image": str(image), "label": str(label)}, name)
