from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks.errors import CaseError
from scripts.data.dicom.patients import Identity
from scripts.data.dicom.pseudonyms import PseudonymTable

DOE = Identity("", "DOE")


def test_names_are_stable_with_the_table_and_unrelated_without_it(tmp_path: Path) -> None:
    first = PseudonymTable(tmp_path / "a.json")
    names = [first.case(DOE, "study1", "s1"), first.case(DOE, "study1", "s2"), first.case(DOE, "study2", "s3")]
    patient = first.patient(DOE)
    assert names == [f"{patient}_t1", f"{patient}_t1_s2", f"{patient}_t2"]
    first.save()
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    second = PseudonymTable(tmp_path / "a.json")
    # an earlier scan that turns up later does not rename the others
    assert second.case(DOE, "study0", "s0") == f"{patient}_t3"
    assert second.case(DOE, "study2", "s3") == names[2]
    assert PseudonymTable(tmp_path / "b.json").patient(DOE) != patient


def test_patients_are_told_apart_when_hashes_begin_alike(tmp_path: Path) -> None:
    table = PseudonymTable(tmp_path / "a.json")
    a = Identity("", "A", "19500101")
    taken = table.patient(a)
    table.content["patients"] = {"other": taken}
    second = table.patient(a)
    assert second != taken
    table.content["patients"] = {"other": taken, "another": second}
    assert table.patient(a).startswith(second)
    assert table.patient(a) != second


def test_what_an_identity_lacks_does_not_make_another_patient(tmp_path: Path) -> None:
    table = PseudonymTable(tmp_path / "a.json")
    whole = Identity("CLINIC", "7", "19500101")
    bare, other = Identity("", "7"), Identity("ELSEWHERE", "7", "19600101")
    names = table.names([bare, whole])
    assert names[bare] == names[whole]
    # in a later import there are two whom the bare id could mean, but it has its name
    assert table.names([other, bare])[bare] == names[whole]
    assert table.patient(other) != names[whole]
    # a new one that either could be is neither
    assert table.patient(Identity("", "7", "")) == names[whole]
    fresh = PseudonymTable(tmp_path / "b.json")
    assert len(set(fresh.names([bare, whole, other]).values())) == 3


def test_a_table_of_the_first_version_still_names_its_patients(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"key": "00", "patients": {"CLINIC|7": "pold", "|8": "pbare"}, "studies": {}, "series": {}, "files": {}}
    path.write_text(json.dumps(content))
    table = PseudonymTable(path)
    assert table.patient(Identity("CLINIC", "7", "19500101")) == "pold"
    assert table.patient(Identity("CLINIC", "8", "19500101")) == "pbare"
    assert table.patient(Identity("CLINIC", "7", "19600101")) not in {"pold", "pbare"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": 1}', '{"key": "zz"}', '{"key": "00"}'])
def test_a_file_that_is_no_table_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CaseError, match="pseudonym table"):
        PseudonymTable(path)
    assert path.read_text() == text
