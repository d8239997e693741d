"""The datalist: MONAI's layout plus a `patient` per case. Its types and its only reader; docs/datalist.md specifies it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from custom_networks.errors import CaseError

PATH_KEYS = ("image", "label", "organ", "pred", "dose")
SECTIONS = ("training", "testing")
Patients = Literal["named", "each"]
# what is wrong, and the remedy
NO_PATIENT = (
    "it names no patient, and images of one patient must not be in training and in validation",
    'give every case a "patient", or say that each is a patient of its own: '
    "`python -m scripts split DATALIST --patients each`",
)


@dataclass(frozen=True)
class Case:
    """One image with what belongs to it.

    Args:
        name: of the case; text, unique within a datalist.
        files: `image` and, where they exist, `label`, `organ`, `pred` and `dose`: paths as written in the datalist.
        patient: whose image it is; empty where the datalist does not say and `Datalist.read` was told not to ask.
        fold: of cross-validation, from 0; None where there is none.
        more: entries that this project does not know; they are written back.
        folder: where relative paths start.
    """

    name: str
    files: Mapping[str, str]
    patient: str = ""
    fold: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    @staticmethod
    def of(entry: Mapping[str, Any], folder: str | Path = "", patients: Patients | None = "named") -> Case:
        """A case from an entry of a datalist.

        Args:
            entry: `image` and what else docs/datalist.md lists.
            folder: where relative paths start.
            patients: see `Datalist.read`.

        Raises:
            CaseError: the entry is not as docs/datalist.md says.
        """
        (case,) = _section([dict(entry)], "cases")
        return _case(case, _names([case]), Path(folder), "cases", patients)

    def file(self, key: str) -> str | None:
        """Path of a file against the datalist's folder, or None where the case has none."""
        return str(self.folder / self.files[key]) if self.files.get(key) else None

    @property
    def image(self) -> str:
        """Path of the image."""
        return str(self.folder / self.files["image"])

    @property
    def label(self) -> str | None:
        """Path of the label map, or None."""
        return self.file("label")

    def moved(self, folder: Path) -> Case:
        """The same case for a datalist in another folder: relative paths are written anew, absolute ones stay."""
        if os.path.abspath(folder) == os.path.abspath(self.folder):
            return replace(self, folder=folder)
        files = {
            key: path if Path(path).is_absolute() else Path(os.path.relpath(self.folder / path, folder)).as_posix()
            for key, path in self.files.items()
        }
        return replace(self, files=files, folder=folder)

    def entry(self) -> dict[str, Any]:
        """The case as MONAI's transforms take it: a dict with the paths of `file`."""
        return {**self.written(), **{key: str(self.folder / path) for key, path in self.files.items()}}

    def written(self) -> dict[str, Any]:
        """The case as a datalist holds it: a dict with paths relative to the datalist's folder."""
        known = {"case": self.name, "patient": self.patient or None, **self.files, "fold": self.fold}
        return {**{key: value for key, value in known.items() if value is not None}, **self.more}


@dataclass(frozen=True)
class Datalist:
    """A data set: what it is called, what its labels mean, and its cases.

    Args:
        name: of the data set.
        modality: `MR`, `CT` or whatever the file says; empty where it says nothing.
        labels: label value to name, 0 included; empty for unlabelled data.
        training: cases to train on and to validate on, by fold.
        testing: the held-out set.
        more: entries that this project does not know, such as `regions`; they are written back.
    """

    name: str = ""
    modality: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    training: Sequence[Case] = ()
    testing: Sequence[Case] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cases(self) -> list[Case]:
        """Cases of both sections."""
        return [*self.training, *self.testing]

    def section(self, name: str) -> list[Case]:
        """Cases of `training` or `testing`.

        Raises:
            CaseError: there is no such section.
        """
        if name not in SECTIONS:
            raise CaseError(f"section {name!r}", "a datalist has none of this name", f"choose {' or '.join(SECTIONS)}")
        return list(self.training if name == "training" else self.testing)

    @staticmethod
    def read(path: str | Path, dataset_dir: str | Path | None = None, patients: Patients | None = "named") -> Datalist:
        """Read a datalist of this project, of MONAI, of the Medical Decathlon or of nnU-Net.

        Args:
            path: the JSON file.
            dataset_dir: folder that relative paths start from; default the file's own.
            patients: `named`: every case must name its patient; `each`: one that does not is a patient of its own;
                None: nobody asks, for what does not depend on patients.

        Returns:
            The datalist; it holds a case at least.

        Raises:
            CaseError: the file is missing or not a datalist, or a case is not as docs/datalist.md says.
        """
        file = Path(path)
        where = f"datalist {file}"
        content = read_json(file, where, "pass the datalist that `python -m scripts` wrote")
        if not isinstance(content, dict) or not any(isinstance(content.get(key), list) for key in (*SECTIONS, "test")):
            raise CaseError(where, "it has no list named 'training'", "write it as docs/datalist.md says")
        folder = file.parent if dataset_dir is None else Path(dataset_dir)
        known = {"name", "modality", "labels", *SECTIONS}
        # the Medical Decathlon calls its held-out images `test`
        if "testing" not in content and "test" in content:
            content["testing"] = content.pop("test")
        sections = [_section(content.get(key), f"{where}, '{key}'") for key in SECTIONS]
        names = _names([entry for entries in sections for entry in entries])
        training, testing = (
            [_case(entry, names, folder, f"{where}, '{key}'", patients) for entry in entries]
            for key, entries in zip(SECTIONS, sections, strict=True)
        )
        if not training and not testing:
            raise CaseError(where, "it has no case", "import some with `python -m scripts import_dicom`")
        return Datalist(
            name=str(content.get("name") or ""),
            modality=_modality(content),
            labels=read_labels(content.get("labels"), where),
            training=training,
            testing=testing,
            more={key: value for key, value in content.items() if key not in known},
        )

    def moved(self, folder: str | Path) -> Datalist:
        """The same datalist for another folder, see `Case.moved`."""
        place = Path(folder)
        return replace(
            self,
            training=[case.moved(place) for case in self.training],
            testing=[case.moved(place) for case in self.testing],
        )

    def written(self) -> dict[str, Any]:
        """The content of the JSON file."""
        labels = {str(value): self.labels[value] for value in sorted(self.labels)}
        head = {"name": self.name, "labels": labels, "modality": self.modality}
        return {
            **{key: value for key, value in head.items() if value},
            **self.more,
            "training": [case.written() for case in self.training],
            "testing": [case.written() for case in self.testing],
        }

    def digest(self) -> str:
        """SHA-256 of the content, independent of the folder, the layout of the file and the order of keys."""
        text = json.dumps(self.written(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: str | Path, where: str, remedy: str) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        where: what the file is, for the message.
        remedy: what to do where it is missing.

    Returns:
        Its content.

    Raises:
        CaseError: the file is missing, is not JSON, is nested too deep, or names a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CaseError(where, "the file does not exist", remedy) from error
    except (OSError, ValueError) as error:
        raise CaseError(where, f"it cannot be read ({error})", "write it again as UTF-8") from error
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise CaseError(
            where, "it is not valid JSON (nested too deep)", "correct the file or write it again"
        ) from error
    except ValueError as error:
        raise CaseError(where, f"it is not valid JSON ({error})", "correct the file or write it again") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = next((key for key, count in Counter(key for key, _ in pairs).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return dict(pairs)


def image_stem(path: str | PurePath) -> str:
    """File name without its suffix, other dots kept: what MONAI's SaveImaged names a prediction after."""
    return PurePath(PurePath(path).name.removesuffix(".gz")).stem


def case_name(case: Mapping[str, Any]) -> str:
    """Name of an entry that MONAI holds: its `case`, else its image's file name without suffix."""
    return str(case.get("case") or image_stem(str(case.get("image", "unnamed"))))


def safe_name(name: str) -> str:
    """A file name for a case that cannot leave its folder; different names give different ones.

    ASCII letters, digits, `-`, `_` and dots that do not come first stay; every other byte becomes `%XX`. A name of more
    than 200 characters is cut and told apart by a digest.

    Args:
        name: of a case, whatever characters it has.

    Returns:
        The file name without suffix.
    """
    text = name.encode("utf-8", "surrogatepass")
    plain = re.sub(rb"[^A-Za-z0-9._-]|^\.", lambda byte: b"%%%02X" % byte.group()[0], text).decode()
    return plain if 0 < len(plain) <= 200 else f"{plain[:180]}%~{hashlib.sha256(text).hexdigest()[:16]}"


def _section(entries: object, where: str) -> list[dict[str, Any]]:
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise CaseError(where, "it is not a list of cases", "write it as docs/datalist.md says")
    found = []
    for i, entry in enumerate(entries):
        # MONAI and the Medical Decathlon write held-out images as bare paths
        case = {"image": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, dict) else {}
        for key in PATH_KEYS:
            if isinstance(case.get(key), list) and len(case[key]) == 1:
                case[key] = case[key][0]
        image = case.get("image")
        if isinstance(image, list) and len(image) > 1:
            raise CaseError(f"{where} entry {i}", f"it has {len(image)} images", "the bundles take one image per case")
        if not isinstance(image, str) or not image:
            raise CaseError(f"{where} entry {i}", "it names no image file", 'give it an "image" path')
        found.append(case)
    return found


def _names(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Image to name for entries without `case`: the file's stem, with as many folders as tell it from the others'."""
    images = [str(entry["image"]) for entry in entries if entry.get("case") in (None, "")]
    names = {image: image_stem(image) for image in images}
    for depth in range(1, 8):
        counts = Counter(names.values())
        if len(counts) == len(names):
            break
        for image, name in names.items():
            if counts[name] > 1:
                names[image] = "/".join([*PurePath(image).parent.parts[-depth:], image_stem(image)])
    return names


def _case(
    entry: Mapping[str, Any], names: Mapping[str, str], folder: Path, where: str, patients: Patients | None
) -> Case:
    for key in ("case", "patient"):
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise CaseError(where, f"'{key}' of {entry['image']} is neither text nor a number", "give it a plain name")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise CaseError(where, f"'{key}' of {entry['image']} is no text ({value!r})", "give it a plain name")
    name = names[entry["image"]] if entry.get("case") in (None, "") else str(entry["case"])
    files = {}
    for key in PATH_KEYS:
        path = entry.get(key)
        if path is None or path == "":
            continue
        if not isinstance(path, str):
            raise CaseError(where, f"the {key} of {name!r} is not a path", "give one file path per key")
        if "\0" in path:
            raise CaseError(where, f"the {key} path of {name!r} holds a NUL character", "correct the path")
        files[key] = path
    fold = entry.get("fold")
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise CaseError(where, f"fold {fold!r} of {name!r} is not a whole number from 0", "correct or remove it")
    patient = str("" if entry.get("patient") is None else entry["patient"])
    if not patient and patients == "named":
        raise CaseError(f"{where} case {name!r}", *NO_PATIENT)
    if not patient and patients == "each":
        patient = name
    known = {"case", "patient", "fold", *PATH_KEYS}
    return Case(name, files, patient, fold, {key: v for key, v in entry.items() if key not in known}, folder)


def read_labels(labels: object, where: str) -> dict[int, str]:
    """Value to name, from `{"1": "organ"}` (MONAI, Medical Decathlon) or `{"organ": 1}` (nnU-Net).

    Args:
        labels: the entry of a JSON file, or None where it has none.
        where: the file, for the message.

    Raises:
        CaseError: it is no such map, or a name or value stands in it twice.
    """
    if labels is None:
        return {}
    pairs: list[tuple[object, object]] = []
    if isinstance(labels, Mapping):
        numbered = all(re.fullmatch("[0-9]{1,9}", str(key)) for key in labels)
        pairs = [(key, text) if numbered else (text, key) for key, text in labels.items()]
    good = isinstance(labels, Mapping) and all(
        re.fullmatch("[0-9]{1,9}", str(value)) and isinstance(text, str | int) for value, text in pairs
    )
    found = {int(str(value)): str(text) for value, text in pairs} if good else {}
    if not good or len(found) < len(pairs) or len(set(found.values())) < len(found):
        raise CaseError(
            where,
            "'labels' is not a map of whole numbers to different names",
            'write it as {"0": "background", "1": "organ"}, and labels that consist of several under "regions"',
        )
    return dict(sorted(found.items()))


def _modality(content: Mapping[str, Any]) -> str:
    """`MR` or `CT` where it is one of them; the Decathlon and nnU-Net write `{"0": "MRI"}`."""
    value = content.get("modality") or content.get("channel_names") or ""
    if isinstance(value, Mapping):
        value = ",".join(str(text) for text in value.values())
    text = str(value)
    return {"MRI": "MR", "MR": "MR", "CT": "CT"}.get(text.upper(), text)


def distinct_names(cases: Sequence[Case], where: str) -> None:
    """Refuse two cases with one name.

    Raises:
        CaseError: names the case.
    """
    twice = next((name for name, count in Counter(case.name for case in cases).items() if count > 1), None)
    if twice is not None:
        raise CaseError(twice, f"two cases of {where} have this name", "give each case its own name")
