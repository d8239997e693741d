from __future__ import annotations

from pathlib import Path

import pytest

from custom_networks.errors import CaseError
from scripts.data.dicom.pseudonyms import PseudonymTable


def test_names_are_stable_with_the_table_and_unrelated_without_it(tmp_path: Path) -> None:
    first = PseudonymTable(tmp_path / "a.json")
    names = [first.case("DOE", "study1", "s1"), first.case("DOE", "study1", "s2"), first.case("DOE", "study2", "s3")]
    patient = first.patient("DOE")
    assert names == [f"{patient}_t1", f"{patient}_t1_s2", f"{patient}_t2"]
    first.save()
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    second = PseudonymTable(tmp_path / "a.json")
    # an earlier scan that turns up later does not rename the others
    assert second.case("DOE", "study0", "s0") == f"{patient}_t3"
    assert second.case("DOE", "study2", "s3") == names[2]
    assert PseudonymTable(tmp_path / "b.json").patient("DOE") != patient


def test_patients_are_told_apart_when_hashes_begin_alike(tmp_path: Path) -> None:
    table = PseudonymTable(tmp_path / "a.json")
    taken = table.patient("A")
    table.content["patients"] = {"other": taken}
    assert table.patient("A").startswith(taken)
    assert table.patient("A") != taken


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": 1}', '{"key": "zz"}', '{"key": "00"}'])
def test_a_file_that_is_no_table_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CaseError, match="pseudonym table"):
        PseudonymTable(path)
    assert path.read_text() == text
