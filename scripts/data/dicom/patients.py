"""Who a patient is: by id, issuer and birth date. Two patients taken for one, or one for two, make folds leak."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

# what software writes in place of an id or a name; it tells nobody apart
_WORD = r"(anon(ym\w*)?|unknown|unnamed|undefined|none|null|no ?(id|name)|de-?identified|removed|patient|x+|0+|\W*)"
PLACEHOLDER = re.compile(rf"{_WORD}([\W_]+{_WORD})*", re.IGNORECASE)


class Texts(Protocol):
    """Values of a DICOM header as text, such as `scan.Header`."""

    def __getitem__(self, name: str) -> str:
        """Text of one keyword, empty where absent."""


@dataclass(frozen=True, order=True)
class Identity:
    """What a header says about who the patient is.

    Attributes:
        issuer: IssuerOfPatientID; `name` or `study` where the id says nothing and the name or the study stands for it.
        number: PatientID, else the name, else the StudyInstanceUID.
        birth: PatientBirthDate.
        name: PatientName, which is never compared to tell patients apart, only to warn.
    """

    issuer: str
    number: str
    birth: str = ""
    name: str = ""

    @property
    def known(self) -> bool:
        """Whether anything but the study says who it is."""
        return self.issuer != "study"

    @property
    def key(self) -> str:
        """Its form in the pseudonym table."""
        return f"{self.issuer}|{self.number}|{self.birth}"

    def agrees(self, other: Identity) -> bool:
        """Whether both can be one patient: the same id, and nothing that both state differs."""
        return (
            self.number == other.number
            and (self.issuer == other.issuer or not (self.issuer and other.issuer))
            and (self.birth == other.birth or not (self.birth and other.birth))
        )


def identity_of(header: Texts) -> Identity:
    """The patient of an image; falls back on name and birth date, then on the study."""
    name = re.sub(r"[\W_]+", " ", header["PatientName"]).strip().casefold()
    name = "" if PLACEHOLDER.fullmatch(name) else name
    if not PLACEHOLDER.fullmatch(header["PatientID"]):
        return Identity(header["IssuerOfPatientID"], header["PatientID"], header["PatientBirthDate"], name)
    if name:
        return Identity("name", header["PatientName"], header["PatientBirthDate"], name)
    return Identity("study", header["StudyInstanceUID"] or header["SeriesInstanceUID"])


def identity_of_key(key: str) -> Identity:
    """Read the form that the pseudonym table has; tables of the first version have no birth date."""
    issuer, _, rest = key.partition("|")
    number, bar, birth = rest.rpartition("|")
    return Identity(issuer, number, birth) if bar else Identity(issuer, rest)


def doubts(identities: Iterable[Identity], pseudonyms: Mapping[Identity, str]) -> dict[Identity, list[str]]:
    """Where headers disagree about who is who.

    Args:
        identities: of all images.
        pseudonyms: who each was taken for.

    Returns:
        Sentences for the report, which name nobody.
    """
    found: dict[Identity, list[str]] = defaultdict(list)
    by_number, by_person = defaultdict[str, set[Identity]](set), defaultdict[tuple[str, str], set[Identity]](set)
    for one in set(identities):
        by_number[one.number].add(one)
        if one.name and one.birth:
            by_person[one.name, one.birth].add(one)
    for group in by_number.values():
        for one, other in combinations(sorted(group), 2):
            taken = "one patient" if pseudonyms[one] == pseudonyms[other] else "two patients"
            for word, a, b in (
                ("issuer", one.issuer, other.issuer),
                ("birth date", one.birth, other.birth),
                ("name", one.name, other.name),
            ):
                if a and b and a != b:
                    for who in (one, other):
                        found[who].append(f"its patient id also occurs with another {word}; taken for {taken}")
            if taken == "two patients" and one.agrees(other):
                for who in (one, other):
                    found[who].append("it could be one patient or another of the same id; taken for two patients")
    for group in by_person.values():
        if len({pseudonyms[one] for one in group}) > 1:
            for one in group:
                found[one].append(
                    "another patient id has its name and birth date; taken for two patients "
                    "(if they are one, give both the same pseudonym in the table)"
                )
    return {one: list(dict.fromkeys(sentences)) for one, sentences in found.items()}
