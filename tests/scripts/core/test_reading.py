"""Whatever a file holds ends in voxels or in one sentence, and a bad case stops no other."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from custom_networks import Case, CaseError
from scripts.core.files import write_nifti
from scripts.core.reading import all_of, each_case, one_sentence, read


def test_an_image_keeps_its_fractions_and_a_label_must_have_none(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    whole, half = np.full((4, 5, 6), 2.0), np.full((4, 5, 6), 2.5)
    good = str(write_nifti(tmp_path / "whole.nii.gz", whole, affine))
    bad = str(write_nifti(tmp_path / "half.nii.gz", half, affine))
    voxels, found = read(bad, "c1")
    np.testing.assert_array_equal(voxels, half)
    np.testing.assert_allclose(found, affine)
    np.testing.assert_array_equal(read(good, "c1", "label")[0], whole)
    with pytest.raises(CaseError, match=r"^c1: "):
        read(bad, "c1", "label")


def test_what_is_no_volume_is_one_sentence_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"no volume")
    with pytest.raises(CaseError, match=r"^c1: .*x\.nii\.gz"):
        read(str(tmp_path / "x.nii.gz"), "c1")


def test_any_failure_becomes_a_sentence_and_a_sentence_stays_what_it_is() -> None:
    sentence = r"^c1: image x cannot be read \(ZeroDivisionError: a b\); export or copy"
    with pytest.raises(CaseError, match=sentence), one_sentence("c1", "image x"):
        raise ZeroDivisionError("a\n  b")
    said = CaseError("c2", "it is wrong", "correct it")
    with pytest.raises(CaseError) as raised, one_sentence("c1", "image x"):
        raise said
    assert raised.value is said
    with pytest.raises(KeyboardInterrupt), one_sentence("c1", "image x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 3])
def test_a_bad_case_stops_no_other_and_order_is_kept(workers: int) -> None:
    cases = [Case(f"c{i}", {"image": f"{i}.nii"}, f"p{i}", folder=Path()) for i in range(6)]
    seen = set()

    def work(case: Case) -> str:
        seen.add(threading.get_ident())
        if case.name in {"c1", "c4"}:
            raise CaseError(case.name, "it is empty", "restore it")
        return case.name

    results, errors = each_case(work, cases, "cases", workers)
    assert results == ["c0", "c2", "c3", "c5"]
    assert [error.case for error in errors] == ["c1", "c4"]
    assert len(seen) <= workers


def test_a_fault_of_ours_is_not_taken_for_a_bad_case() -> None:
    def work(case: Case) -> None:
        raise TypeError("a fault of ours")

    with pytest.raises(TypeError, match="a fault of ours"):
        each_case(work, [Case("c", {"image": "i.nii"}, "p", folder=Path())], "cases", 2)


def test_several_errors_are_one_that_names_each() -> None:
    errors = [CaseError(f"c{i}", f"problem {i}", "restore it") for i in range(2)]
    assert all_of(errors[:1], "their labels", "leave them out") is errors[0]
    text = str(all_of(errors, "their labels", "leave them out"))
    assert text == "2 cases: their labels cannot be used (c0: problem 0; c1: problem 1); leave them out."
