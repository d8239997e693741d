"""What was run: `run.json` of a verb, and what a result was made from, so that it is only reused for the same.

`record` is wired into `python -m scripts`: a verb needs nothing for its `run.json`. A verb that keeps a result for a
later call binds it to what it was made from:

    made_from = inputs(cases, settings={"epochs": 20}, files=[config], code=True)
    if not bound(folder / "inputs.json", made_from, f"fold {fold}"):  # raises CaseError where something else was meant
        …                                                             # make the result
        bind(folder / "inputs.json", made_from)                       # last, once it is complete
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import custom_networks
from custom_networks import CaseError
from custom_networks.data.datalist import Case, read_json
from scripts.core.files import write_text
from scripts.core.memory import peak_bytes

RUN = "run.json"
PACKAGES = ("custom-networks", "monai", "torch", "numpy", "nibabel", "SimpleITK", "pydicom", "highdicom")
# files above this size that carry no checksum are told apart by size, time and their ends
READ_WHOLE = 2**28
# digests as they are stored; each is of one thing that a sentence can name
Inputs = dict[str, dict[str, str]]


def inputs(
    cases: Iterable[Case] = (),
    settings: Mapping[str, Any] | None = None,
    files: Sequence[str | Path] = (),
    code: bool = True,
) -> Inputs:
    """What a result is made from, as digests by name.

    Args:
        cases: with the contents of their files; where they lie does not matter, patient and fold do.
        settings: values by name, such as options and overrides; anything that JSON can hold.
        files: configuration and other files, by content.
        code: the source of `custom_networks` counts too.

    Returns:
        For `bound` and `bind`.

    Raises:
        CaseError: a file is missing.
    """
    found: Inputs = {"case": {}, "setting": {}, "file": {}}
    for case in cases:
        parts = [case.patient, str(case.fold)]
        parts += [
            f"{key} {file_digest(str(case.folder / path), case.name)}" for key, path in sorted(case.files.items())
        ]
        found["case"][case.name] = _short("\n".join(parts))
    for name, value in (settings or {}).items():
        found["setting"][name] = json.dumps(value, sort_keys=True, default=str)
    for file in files:
        found["file"][Path(file).name] = file_digest(str(file), str(file))
    if code:
        found["code"] = {"custom_networks": code_digest()}
    return found


def bind(path: str | Path, made_from: Inputs) -> None:
    """Note what a result was made from; to be called once it is complete."""
    write_text(path, json.dumps(made_from, indent=4, ensure_ascii=False) + "\n")


def bound(path: str | Path, made_from: Inputs, what: str) -> bool:
    """Whether a result is there that was made from the same.

    Args:
        path: the file that `bind` wrote beside the result.
        made_from: what it would be made from now.
        what: the result, for the message.

    Returns:
        False where there is no such file.

    Raises:
        CaseError: it was made from something else; the sentence names what differs.
    """
    if not Path(path).exists():
        return False
    before: Inputs = read_json(path, f"{what}: {path}", "delete the result")
    differences = differing(before, made_from)
    if differences:
        raise CaseError(
            what,
            f"{Path(path).parent} holds a result of other inputs ({'; '.join(differences)})",
            "pass another --output, or delete the result to make it anew",
        )
    return True


def differing(before: Inputs, now: Inputs) -> list[str]:
    """What differs between two inputs, in words: `setting epochs was 10, is 20`, `case p1_t1 is other than it was`."""
    words = []
    for kind in dict.fromkeys([*before, *now]):
        old, new = before.get(kind, {}), now.get(kind, {})
        for name in dict.fromkeys([*old, *new]):
            if name not in new:
                words.append(f"{kind} {name} is gone")
            elif name not in old:
                words.append(f"{kind} {name} is new")
            elif old[name] != new[name]:
                values = f"was {old[name]}, is {new[name]}" if kind == "setting" else "is other than it was"
                words.append(f"{kind} {name} {values}")
    return words if len(words) <= 4 else [*words[:3], f"and {len(words) - 3} more"]


def file_digest(path: str, case: str) -> str:
    """Digest of a file's content, the same wherever it lies; read once for each size and time.

    A `.gz` ends with the checksum of its content, so that its two ends tell it apart.

    Raises:
        CaseError: the file is missing.
    """
    try:
        stat = Path(path).stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise CaseError(case, f"{path} cannot be read ({error})", "correct its path or restore the file") from error


@lru_cache(maxsize=100_000)
def _digest(path: str, size: int, time_ns: int) -> str:
    with open(path, "rb") as stream:
        if size <= READ_WHOLE and not path.endswith(".gz"):
            return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
        ends = stream.read(4096)
        stream.seek(max(0, size - 4096))
        ends += stream.read(4096)
    return _short(f"{size} {'' if path.endswith('.gz') else time_ns} {hashlib.sha256(ends).hexdigest()}")


@cache
def code_digest() -> str:
    """Digest of the source of `custom_networks`, which is what networks, losses and transforms are made of."""
    folder = Path(custom_networks.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:32]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@contextmanager
def record(
    folder: Path, verb: str, options: Mapping[str, Any], private: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any]]:
    """Write `run.json` when the block ends, whether well or not.

    Args:
        folder: of the output; nothing is written where it does not exist in the end.
        verb: what is run.
        options: with their values.
        private: options whose values may name a patient or a path of the hospital; what they were is not written, and
            neither is the text of warnings.

    Yields:
        A dict for what the verb has to say itself; it ends in the same file.
    """
    own: dict[str, Any] = {}
    heard: list[str] = []
    shown = warnings.showwarning

    def hear(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        heard.append(f"{category.__name__}: {' '.join(str(message).split())}")
        shown(message, category, *rest, **more)

    begin, clock, error, refused = datetime.now(UTC), time.perf_counter(), "", False
    warnings.showwarning = hear
    try:
        yield own
    except BaseException as raised:
        error = type(raised).__name__ if private else f"{type(raised).__name__}: {raised}"
        refused = isinstance(raised, CaseError)
        raise
    finally:
        warnings.showwarning = shown
        known = {name: "not recorded" if name in private and value else value for name, value in options.items()}
        content = {
            "verb": verb,
            "options": known,
            "inputs": {
                name: file_digest(str(value), name)
                for name, value in known.items()
                if isinstance(value, str | Path) and str(value) and Path(str(value)).is_file()
            },
            "versions": versions(),
            "started": begin.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 2),
            "peak_memory_mib": round(peak_bytes() / 2**20),
            "error": error,
            "warnings": [f"{len(heard)} not recorded"] if private and heard else list(dict.fromkeys(heard)),
            **own,
        }
        # what is there was made by the run before, which a refused one leaves as it was
        if folder.is_dir() and not (refused and (folder / RUN).exists()):
            write_text(folder / RUN, json.dumps(content, indent=4, ensure_ascii=False, default=str) + "\n")


def versions() -> dict[str, str]:
    """Versions of this project, Python and the packages that results depend on, and the commit where there is one."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = git_commit()
    return {**found, "commit": commit} if commit else found


@cache
def git_commit() -> str:
    """Commit of the repository that this package lies in, with `+` where files differ from it; else empty."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        commit, status = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
