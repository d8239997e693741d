from __future__ import annotations

import re

import pytest

from scripts.data.cohorts.sets import COHORTS, hold_out


def test_published_file_names_are_matched() -> None:
    names = {
        "flare22": ("Case_00017_0000.nii.gz", "00017", "Case_00017.nii.gz"),
        "ribfrac": ("RibFrac42-image.nii.gz", "42", "RibFrac42-label.nii.gz"),
        "covid19": ("volume-covid19-A-0003_day010.nii.gz", "0003", "volume-covid19-A-0003_seg.nii.gz"),
    }
    assert {key for key, cohort in COHORTS.items() if cohort.kind == "nifti"} == set(names)
    for key, (image, patient, other) in names.items():
        match = re.fullmatch(COHORTS[key].pattern, image)
        assert match is not None
        assert match["patient"] == patient
        assert re.fullmatch(COHORTS[key].pattern, other) is None


@pytest.mark.parametrize("share", [0.0, 0.15, 0.2])
def test_whole_patients_near_the_wanted_share(share: float) -> None:
    cases = [{"patient": f"p{i // 3}"} for i in range(300)]
    hold_out(cases, share, seed=0)
    folds = {case["patient"]: {c["fold"] for c in cases if c["patient"] == case["patient"]} for case in cases}
    assert all(len(fold) == 1 for fold in folds.values())
    assert abs(sum(case["fold"] == 0 for case in cases) - 300 * share) <= 1.5
    again = [{"patient": f"p{i // 3}"} for i in range(300)][::-1]
    hold_out(again, share, seed=0)
    assert [case["fold"] for case in again[::-1]] == [case["fold"] for case in cases]
    hold_out(again, share, seed=1)
    assert share == 0 or [case["fold"] for case in again[::-1]] != [case["fold"] for case in cases]
