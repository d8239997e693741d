"""`python -m scripts phantom`: a synthetic cohort of female pelves, MR or CT, with labels and a datalist."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks.errors import CaseError
from scripts.core.datalist import Case, Datalist, write_datalist
from scripts.core.files import write_nifti, write_text
from scripts.core.jobs import parallel
from scripts.data.phantom.canvas import PhantomCase, Protocol
from scripts.data.phantom.ct import LABELS as CT_LABELS
from scripts.data.phantom.ct import make_ct_case
from scripts.data.phantom.dicom import write_dicom
from scripts.data.phantom.dose import FRACTIONS, about, dose_grid, read_radial
from scripts.data.phantom.mr import make_mr_case
from scripts.data.phantom.sampled_anatomy import TUMOR_MM

MR_LABELS = {"0": "background", "1": "organ", "2": "tumor"}
FIRST_VISIT = date(2000, 1, 3)
MODALITIES = {"mr": (make_mr_case, MR_LABELS), "ct": (make_ct_case, CT_LABELS)}


@dataclass(frozen=True)
class Visit:
    """One image of a cohort: which patient, which of her time points, on which side of the split, with what in place."""

    patient: int
    visit: int
    testing: bool
    fold: int = 0
    inserted: Mapping[str, bool] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """Name of the case."""
        return f"{self.name}_t{self.visit + 1}"

    @property
    def name(self) -> str:
        """Name of the patient."""
        return f"p{self.patient + 1:03d}"


def cohort(cases: int, seed: int, time_points: int = 3, test: int = 0, folds: int = 5) -> list[Visit]:
    """Share `cases` images out among patients, and patients among folds and the held-out set.

    Args:
        cases: images in all.
        seed: of the cohort.
        time_points: most images of one patient; fewer where that leaves fewer patients than folds.
        test: images held out, of patients who have none in training.
        folds: of the training patients; fewer when there are fewer patients.
    """
    rng = np.random.default_rng([seed, 1])
    visits: list[Visit] = []
    patient = 0
    for total, testing in ((cases - test, False), (test, True)):
        left, first = total, patient
        wanted = min(total, 1 if testing else folds)
        while left:
            spare = left - max(0, wanted - (patient - first) - 1)
            number = min(int(rng.integers(1, time_points + 1)), spare)
            visits += [Visit(patient, visit, testing) for visit in range(number)]
            patient, left = patient + 1, left - number
    training = sorted({v.patient for v in visits if not v.testing})
    order = rng.permutation(len(training))
    count = min(folds, len(training))
    fold = {p: int(order[i]) % count for i, p in enumerate(training)}
    return [Visit(v.patient, v.visit, v.testing, fold.get(v.patient, 0)) for v in visits]


def with_applicators(visits: Sequence[Visit], seed: int, applicator: float, metal_artefacts: float) -> list[Visit]:
    """Share applicators out among the images of a CT cohort, and metal artefacts among those with one.

    Of the training and of the held-out images each, the nearest whole number to the share. One order of the images serves
    every share: who has an applicator at 0.1 has one at 0.3.

    Args:
        visits: of the cohort.
        seed: of the cohort.
        applicator: share of images with an applicator, from 0 to 1.
        metal_artefacts: share with metal artefacts of those, from 0 to 1.
    """
    rng = np.random.default_rng([seed, 2])
    found: dict[str, Visit] = {}
    for testing in (False, True):
        side = [visit for visit in visits if visit.testing == testing]
        order = [side[i] for i in rng.permutation(len(side))]
        count = round(applicator * len(side))
        streaked = round(metal_artefacts * count)
        for i, visit in enumerate(order):
            found[visit.case] = replace(visit, inserted={"applicator": i < count, "metal_artefacts": i < streaked})
    return [found[visit.case] for visit in visits]


@dataclass(frozen=True)
class Writing:
    """What is written of every case.

    Args:
        output: folder of the cohort.
        modality: `MR` or `CT`.
        labels: label value to name; empty for images alone.
        seed: of the cohort, a part of the patients' ids in DICOM.
        dicom: write `dicom/CASE/` too.
        dose: write a synthetic dose.
        radial: file of its radial dose function; empty for 1.
    """

    output: Path
    modality: str
    labels: Mapping[int, str]
    seed: int
    dicom: bool = False
    dose: bool = False
    radial: str = ""


def write_case(visit: Visit, make: Callable[[Visit], PhantomCase], writing: Writing) -> dict[str, Any]:
    """Draw and write one case; returns its datalist entry and, under `info`, what was drawn."""
    import nibabel as nib

    drawn = make(visit)
    entry: dict[str, Any] = {"case": visit.case, "patient": visit.name, **visit.inserted}
    volumes: list[tuple[str, np.ndarray]] = [("image", drawn.image)]
    if writing.labels:
        volumes.append(("label", drawn.label))
    for kind, voxels in volumes:
        nifti = nib.Nifti1Image(voxels, drawn.affine)
        nifti.set_sform(drawn.affine, code=1)
        nifti.set_qform(drawn.affine, code=1)
        nifti.header.set_xyzt_units("mm")
        path = Path(f"{kind}s") / f"{visit.case}.nii.gz"
        nib.save(nifti, writing.output / path)
        entry[kind] = path.as_posix()
    dose = None
    if writing.dose and drawn.implant is not None:
        radial = read_radial(writing.radial) if writing.radial else None
        dose = dose_grid(drawn.image.shape, drawn.affine, drawn.implant, radial)
        entry |= {"dose": f"doses/{visit.case}.nii.gz", "fractions": FRACTIONS}
        write_nifti(writing.output / entry["dose"], *dose)
        drawn.info["dose"] = about(drawn.implant, writing.radial)
    if writing.dicom:
        day = (FIRST_VISIT + visit.visit * timedelta(weeks=1)).strftime("%Y%m%d")
        identity = (f"PHANTOM-{writing.seed}-{visit.name}", visit.case, day)
        write_dicom(writing.output / "dicom" / visit.case, drawn, writing.labels, writing.modality, identity, dose)
    if not visit.testing:
        entry["fold"] = visit.fold
    return {**entry, "info": drawn.info}


def _pair(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise CaseError("phantom", f"--{name} is {value!r}, not two numbers", f'write --{name} "[20,60]"') from error
    if not least <= low <= high <= most:
        raise CaseError(
            "phantom", f"--{name} is {low:g} to {high:g} mm", f"choose an ascending range within {least:g} to {most:g}"
        )
    return low, high


def _switch(name: str, value: Any) -> bool:
    """True or False from the command line, where `false` in small letters arrives as a word."""
    known = {"true": True, "false": False}
    word = str(value).lower()
    if word not in known:
        raise CaseError("phantom", f"--{name} is {value!r}", "write true or false")
    return known[word]


def _check(cases: int, test: int, time_points: int, sizes: dict[str, float | None]) -> None:
    for name, value in {"cases": cases, "time_points": time_points, **sizes}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise CaseError("phantom", f"--{name} is {value!r}", "give a number above zero")
    if not 0 <= test < cases:
        raise CaseError("phantom", f"--test is {test} of {cases} cases", "keep at least one case for training")


def _check_shares(modality: str, shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise CaseError("phantom", f"--{name} is {share!r}", "give a share of the images from 0 to 1")
        if modality != "ct" and share != 1:
            raise CaseError(
                "phantom", f"--{name} is given for {modality}", "leave it out: only the CT has an applicator"
            )


def _check_dose(modality: str, dose: bool, radial: str) -> None:
    if dose and modality != "ct":
        raise CaseError("phantom", f"--dose is given for {modality}", "leave it out: only the CT has an applicator")
    if radial and not dose:
        raise CaseError("phantom", "--radial is given without --dose", "give --dose as well")
    if radial:
        read_radial(radial)


def phantom(
    modality: str = "mr",
    cases: int = 20,
    seed: int = 0,
    output: str = "phantom",
    test: int = 0,
    folds: int = 5,
    time_points: int = 3,
    plane: str | None = None,
    spacing: float | None = None,
    thickness: float | None = None,
    matrix: int | None = None,
    slices: int | None = None,
    tumor_mm: Sequence[float] = TUMOR_MM,
    labelled: bool = True,
    dicom: bool = False,
    dose: bool = False,
    radial: str = "",
    applicator: float = 1.0,
    metal_artefacts: float = 1.0,
    workers: int = 0,
) -> None:
    """Write a synthetic cohort: images, labels, datalist.json (patient-grouped folds) and phantom.json (what was drawn).

    Args:
        modality: mr (T2w; 1 organ, 2 tumor) or ct (planning CT with applicator; 1 HR-CTV, 2 bladder, 3 rectum,
            4 uterus, 5 sigmoid).
        cases: number of images.
        seed: the same seed gives the same files.
        output: folder to write to.
        test: images kept as `testing`, of patients who have none in training.
        folds: number of folds; fewer when there are fewer patients.
        time_points: most images of one patient.
        plane: axial or sagittal; drawn where not given. CT is axial.
        spacing: in plane, in mm; drawn from 0.4 to 0.7 (CT: 0.31 to 1.17) where not given.
        thickness: slice spacing in mm; drawn from 3 to 6 (CT: 1) where not given.
        matrix: samples in plane; from the field of view where not given. Small values make small, quick volumes.
        slices: number of slices; from the organ's extent where not given.
        tumor_mm: range of the longest tumour diameter at the first time point, within 5 to 60 mm.
        labelled: False writes images alone, for pretraining.
        dicom: write `dicom/CASE/` as well, the same image as a DICOM series and its labels as RTSTRUCT.
        dose: write a synthetic dose for CT, in Gy, with `--dicom` as RTDOSE too: inverse square from dwell positions in
            tandem and ovoids, 7 Gy to point A.
        radial: JSON list of pairs of distance in mm and radial dose function, in place of 1.
        applicator: share of the CT images with an applicator, of training and held-out ones each; the datalist says which,
            `applicator` of a case. Another share leaves anatomy, labels and folds as they are.
        metal_artefacts: share with metal artefacts of the images with an applicator; `metal_artefacts` of a case.
        workers: processes; 0 takes one per core, four at most.
    """
    if modality not in MODALITIES:
        raise CaseError("phantom", f"--modality is {modality!r}", f"choose one of {', '.join(MODALITIES)}")
    if modality == "ct" and plane == "sagittal":
        raise CaseError("phantom", "--plane is 'sagittal' for ct", "leave it out: a planning CT is axial")
    if plane not in {None, "axial", "sagittal"}:
        raise CaseError("phantom", f"--plane is {plane!r}", "choose axial or sagittal")
    sizes = {"spacing": spacing, "thickness": thickness, "matrix": matrix, "slices": slices, "folds": folds}
    _check(cases, test, time_points, sizes)
    draw, labels = MODALITIES[modality]
    labelled, dicom, dose = _switch("labelled", labelled), _switch("dicom", dicom), _switch("dose", dose)
    _check_dose(modality, dose, radial)
    _check_shares(modality, {"applicator": applicator, "metal_artefacts": metal_artefacts})
    named = {int(value): text for value, text in labels.items()} if labelled else {}
    protocol = Protocol(plane, spacing, thickness, matrix, slices)
    make = partial(_make, draw, seed, protocol, _pair("tumor_mm", tumor_mm, *TUMOR_MM))
    folder, name = Path(str(output)), f"phantom {modality} seed {seed}"
    visits = cohort(cases, seed, time_points, test, folds)
    if modality == "ct":
        visits = with_applicators(visits, seed, applicator, metal_artefacts)
    there = _same_cohort(folder, name, visits)
    for kind in ("images", "labels") if labelled else ("images",):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    entries = _write_all(visits, make, Writing(folder, modality.upper(), named, seed, dicom, dose, radial), workers)
    drawn = {entry["case"]: entry.pop("info") for entry in entries}
    written = [Case.of(entry, folder) for entry in entries]
    content = Datalist(
        name,
        modality.upper(),
        named,
        [case for case in written if case.fold is not None],
        [case for case in written if case.fold is None],
    )
    # folds that `split` has written since stay
    write_datalist(folder / "datalist.json", there or content)
    write_text(folder / "phantom.json", json.dumps(drawn, indent=4) + "\n")
    people = len({entry["patient"] for entry in entries})
    print(
        f"phantom: {len(entries)} {modality.upper()} images of {people} patients, {test} held out: {folder / 'datalist.json'}"
    )


def _same_cohort(folder: Path, name: str, visits: Sequence[Visit]) -> Datalist | None:
    """The datalist of an earlier run with these cases; that of anything else is not overwritten."""
    path = folder / "datalist.json"
    if not path.exists():
        return None
    there = Datalist.read(path, patients=None)
    # a case of an earlier version says nothing of its applicator: it has one, with metal artefacts
    written = {case.name: {key: case.more.get(key, True) for key in visits[0].inserted} for case in there.cases}
    drawn = {visit.case: dict(visit.inserted) for visit in visits}
    if not (folder / "phantom.json").exists() or there.name != name or written != drawn:
        raise CaseError(
            "phantom", f"{path} is there already and is of another data set", "pass another --output, or remove it"
        )
    return there


def _make(
    draw: Callable[..., PhantomCase],
    seed: int,
    protocol: Protocol,
    tumor_mm: tuple[float, float],
    visit: Visit,
) -> PhantomCase:
    return draw(seed, visit.patient, visit.visit, protocol, tumor_mm, **visit.inserted)


def _write_all(
    visits: list[Visit], make: Callable[[Visit], PhantomCase], writing: Writing, workers: int
) -> list[dict[str, Any]]:
    task = partial(write_case, make=make, writing=writing)
    processes = min(workers or min(4, os.cpu_count() or 1), len(visits) // 4)
    return parallel(task, visits, processes, "phantom")
