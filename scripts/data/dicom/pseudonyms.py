"""The pseudonym table: the only file that links pseudonyms to patients. Mode 0600, kept apart from the data set."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

from custom_networks.errors import CaseError
from scripts.core.files import write_text


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

    def patient(self, identity: str) -> str:
        """Pseudonym of a patient, such as `p3f0a91c2`."""
        known: dict[str, str] = self.content["patients"]
        if identity not in known:
            digest = hmac.new(self._key, identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
            length = 8
            while f"p{digest[:length]}" in known.values():
                length += 1
            known[identity] = f"p{digest[:length]}"
        return known[identity]

    def case(self, identity: str, study: str, series: str) -> str:
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
