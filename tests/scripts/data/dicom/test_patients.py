from __future__ import annotations

from typing import Any

import pytest

from scripts.data.dicom.patients import Identity, doubts, identity_of, identity_of_key


def header(**values: str) -> Any:
    names = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "StudyInstanceUID")
    return {**dict.fromkeys((*names, "SeriesInstanceUID"), ""), "StudyInstanceUID": "1.2", **values}


@pytest.mark.parametrize(
    "placeholder", ["ANON", "Anonymous", "anonymized", "ANON^ANON", "unknown", "0000", "XXX", "None", ""]
)
def test_an_id_that_stands_for_all_tells_nobody_apart(placeholder: str) -> None:
    assert not identity_of(header(PatientID=placeholder, PatientName=placeholder)).known
    named = identity_of(header(PatientID=placeholder, PatientName="DOE^JANE", PatientBirthDate="19500101"))
    assert (named.issuer, named.number, named.birth) == ("name", "DOE^JANE", "19500101")


@pytest.mark.parametrize("number", ["ANON-001", "P1", "4711", "X12", "PAT_7", "0001"])
def test_a_pseudonym_is_an_id(number: str) -> None:
    assert identity_of(header(PatientID=number)) == Identity("", number)


def test_identities_agree_where_nothing_that_both_state_differs() -> None:
    whole = Identity("CLINIC", "7", "19500101")
    assert whole.agrees(Identity("", "7"))
    assert whole.agrees(Identity("CLINIC", "7", "", "other name"))
    assert not whole.agrees(Identity("ELSEWHERE", "7"))
    assert not whole.agrees(Identity("", "7", "19600101"))
    assert not whole.agrees(Identity("", "8"))


@pytest.mark.parametrize("one", [Identity("C", "7", "19500101"), Identity("", "a|b", ""), Identity("", "", "")])
def test_the_form_in_the_table_reads_back(one: Identity) -> None:
    assert identity_of_key(one.key) == one


def said(*pairs: tuple[Identity, str]) -> list[str]:
    found = doubts([one for one, _ in pairs], dict(pairs))
    return sorted({sentence for sentences in found.values() for sentence in sentences})


def test_disagreements_are_told_without_naming_anybody() -> None:
    a = Identity("CLINIC", "7", "19500101", "doe jane")
    assert said((a, "p1"), (Identity("", "7", "", "doe jane"), "p1")) == []
    assert said((a, "p1"), (Identity("CLINIC", "7", "19500102", "doe jane"), "p2")) == [
        "its patient id also occurs with another birth date; taken for two patients"
    ]
    assert said((a, "p1"), (Identity("OTHER", "7", "", ""), "p2")) == [
        "its patient id also occurs with another issuer; taken for two patients"
    ]
    assert said((a, "p1"), (Identity("CLINIC", "7", "19500101", "roe mary"), "p1")) == [
        "its patient id also occurs with another name; taken for one patient"
    ]
    assert said((a, "p1"), (Identity("", "7"), "p3")) == [
        "it could be one patient or another of the same id; taken for two patients"
    ]
    (sentence,) = said((a, "p1"), (Identity("CLINIC", "8", "19500101", "doe jane"), "p2"))
    assert "another patient id has its name and birth date" in sentence
