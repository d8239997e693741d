"""What is published about each public data set: its size in the paper, its layout, its source."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CCTH_LABELS = {"organ": "rgb(255,0,255)", "tumor": "rgb(0,235,235)"}


@dataclass(frozen=True)
class Cohort:
    """A public data set.

    Attributes:
        title: name in the datalist.
        kind: `dicom` (a TCIA download), `nifti` (one file per scan) or `totalsegmentator`.
        count: scans in the paper.
        unit: what is counted.
        modality: DICOM modality.
        source: where it is published.
        held_out: share of cases in fold 0; 0 for an external test set.
        pattern: for `nifti`, a regular expression for file names, with a group `patient` and, where a patient may have
            several scans, a group `scan`.
        numbers: for `nifti`, last of the consecutive patient numbers that the paper can have used; 0 if unknown.
        min_slices: for `dicom`, series with fewer slices are left out.
        caution: why the found cases may differ from the paper's.
    """

    title: str
    kind: str
    count: int
    unit: str
    modality: str
    source: str
    held_out: float
    pattern: str = ""
    numbers: int = 0
    min_slices: int = 16
    caution: str = ""


RENUMBERED = "the paper's list has renumbered files, so its exact membership cannot be rebuilt"
COHORTS = {
    "ccth": Cohort(
        "Cervical Cancer - Tumor Heterogeneity (CCTH)",
        "dicom",
        18,
        "cases",
        "MR",
        "TCIA collection CC-Tumor-Heterogeneity: DICOM with RTSTRUCT",
        0.0,
        min_slices=8,
    ),
    "totalsegmentator": Cohort(
        "TotalSegmentator v1",
        "totalsegmentator",
        1204,
        "scans",
        "CT",
        "Zenodo record 6802614 (version 1)",
        0.2,
        caution="the paper's own 80/20 lists are not published",
    ),
    "flare22": Cohort(
        "FLARE22 unlabelled cases",
        "nifti",
        2000,
        "scans",
        "CT",
        "FLARE22 challenge: FLARE22_UnlabeledCase*",
        0.15,
        r"Case_(?P<patient>\d{5})_0000\.nii(\.gz)?",
        2000,
    ),
    "hnscc": Cohort("HNSCC", "dicom", 1287, "scans", "CT", "TCIA collection HNSCC", 0.15, caution=RENUMBERED),
    "ribfrac": Cohort(
        "RibFrac",
        "nifti",
        500,
        "scans",
        "CT",
        "RibFrac challenge: training and validation images",
        0.15,
        r"RibFrac(?P<patient>\d{1,3})-image\.nii(\.gz)?",
        500,
    ),
    "acrin6664": Cohort(
        "ACRIN 6664 (CT COLONOGRAPHY)",
        "dicom",
        1599,
        "scans",
        "CT",
        "TCIA collection CT COLONOGRAPHY",
        0.15,
        caution=RENUMBERED,
    ),
    "covid19": Cohort(
        "CT Images in COVID-19",
        "nifti",
        771,
        "scans",
        "CT",
        "TCIA collection CT Images in COVID-19",
        0.15,
        r"volume-covid19-A-(?P<patient>\d{4})(?P<scan>(?!.*seg).*)\.nii(\.gz)?",
        caution=RENUMBERED,
    ),
}


def hold_out(cases: Sequence[dict[str, Any]], share: float, seed: int) -> None:
    """Set `fold` of every case, all scans of a patient together: 0 for the held-out share, 1 for the others.

    Fold 0 is thus the paper's validation or test part, and `--fold 0` of a bundle trains on the other. Patients are
    ranked by a hash of seed and name, which does not depend on who else is there.

    Args:
        cases: datalist entries, changed in place.
        share: fraction of cases in fold 0.
        seed: another seed gives another choice.
    """
    sizes = Counter(str(case["patient"]) for case in cases)
    patients = sorted(sizes, key=lambda p: hashlib.sha256(f"{seed}:{p}".encode()).hexdigest())
    held: set[str] = set()
    wanted, count = share * len(cases), 0
    for patient in patients:
        # a patient is added where that brings the count closer to what is wanted
        if abs(count + sizes[patient] - wanted) < abs(count - wanted):
            held.add(patient)
            count += sizes[patient]
    for case in cases:
        case["fold"] = 0 if str(case["patient"]) in held else 1
