"""The pseudonym table: the only file that links pseudonyms to patients. Mode 0600, kept apart from the data set."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError
from scripts.core.files import write_text
from scripts.data.dicom.patients import Identity, identity_of_key


class PseudonymTable:
    """Names for patients, time points and cases: keyed hashes, the same in every run that uses the same table.

    A patient's name is HMAC-SHA256 of the patient's identity under a random key that only the table holds, so that
    nobody without the table can test whether a known patient is in the data set. Time points are numbered by date when
    they first appear and never renumbered.

    Args:
        path: the JSON file; read if it exists.
        public: name of a public data set, whose patients are no secret: the key is then made from it, so that everybody
            gets the same names and the same seeded split.

    Raises:
        CaseError: the file exists and is not such a table.
    """

    def __init__(self, path: str | Path, public: str = "") -> None:
        self.path = Path(path)
        self.content: dict[str, Any] = {
            "note": "links pseudonyms to patients: keep it secret, and keep it to import later scans of the same patients",
            "key": hashlib.sha256(public.encode()).hexdigest() if public else secrets.token_hex(32),
            "patients": {},
            "studies": {},
            "series": {},
            "files": {},
        }
        if self.path.exists():
            name, remedy = "pseudonym table", "pass the file of an earlier import as --table, or a name that is free"
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
                self._key = bytes.fromhex(content["key"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CaseError(name, f"{self.path} is not one ({type(error).__name__})", remedy) from None
            if not all(isinstance(content.get(k), dict) for k in ("patients", "studies", "series", "files")):
                raise CaseError(name, f"{self.path} lacks its entries", remedy)
            self.content = content
        self._key = bytes.fromhex(self.content["key"])

    def patient(self, identity: Identity) -> str:
        """Pseudonym of a patient, such as `p3f0a91c2`.

        An identity that lacks the issuer or the birth date gets the name of the one patient that it agrees with. Name
        the most complete identities first: `names` does.
        """
        known: dict[str, str] = self.content["patients"]
        if identity.key in known:
            return known[identity.key]
        members: dict[str, list[Identity]] = {}
        for key, pseudonym in known.items():
            members.setdefault(pseudonym, []).append(identity_of_key(key))
        agreeing = [name for name, others in members.items() if all(map(identity.agrees, others))]
        known[identity.key] = agreeing[0] if len(agreeing) == 1 else self._new(identity, set(members))
        return known[identity.key]

    def names(self, identities: Iterable[Identity]) -> dict[Identity, str]:
        """Pseudonyms of many patients, whatever the order they come in."""
        complete = sorted(set(identities), key=lambda one: (not one.issuer, not one.birth, one))
        return {identity: self.patient(identity) for identity in complete}

    def _new(self, identity: Identity, taken: set[str]) -> str:
        text, length = f"{identity.issuer}|{identity.number}", 8
        while True:
            digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
            if f"p{digest[:length]}" not in taken:
                return f"p{digest[:length]}"
            # another patient of the same id, or two digests that begin alike
            if text != identity.key:
                text = identity.key
            else:
                length += 1

    def case(self, identity: Identity, study: str, series: str) -> str:
        """Pseudonym of a series, such as `p3f0a91c2_t1`, or `p3f0a91c2_t1_s2` for a study's second series.

        Call it in the order of the studies' dates.
        """
        patient = self.patient(identity)
        entry = self.content["series"].setdefault(series, {})
        if "case" not in entry:
            study_key = f"{patient}|{study}"
            studies: dict[str, str] = self.content["studies"]
            if study_key not in studies:
                studies[study_key] = f"{patient}_t{1 + sum(k.startswith(patient + '|') for k in studies)}"
            name = studies[study_key]
            taken = {e.get("case") for e in self.content["series"].values()}
            number = 2
            entry["case"] = name
            while entry["case"] in taken:
                entry["case"] = f"{name}_s{number}"
                number += 1
        return str(entry["case"])

    def describe(self, series: str, **facts: Any) -> None:
        """Keep facts that may identify (folder, description, ROI names) where only the table's owner sees them."""
        self.content["series"].setdefault(series, {}).update(facts)

    def file(self, path: Path) -> str:
        """Pseudonym of a file that belongs to no case, such as `file_3`; a path may hold a patient's name."""
        known: dict[str, str] = self.content["files"]
        return known.setdefault(str(path), f"file_{len(known) + 1}")

    def save(self) -> None:
        """Write the table, readable by its owner alone."""
        write_text(self.path, json.dumps(self.content, indent=4) + "\n", mode=0o600)
