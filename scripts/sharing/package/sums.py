"""SHA256SUMS of a folder, as `sha256sum -c` reads it, and its zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

from scripts.core.files import sha256, write_text

SUMS = "SHA256SUMS"
# weights hardly get smaller, which is worth no time where they are large
STORED_FROM = 25 * 2**20
# of every entry, so that the same files give the same zip
DATE = (2000, 1, 1, 0, 0, 0)


def files_of(folder: Path) -> list[str]:
    """Paths of the files in a folder, but for SHA256SUMS and what Python writes while it runs them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [name for name in (path.relative_to(folder).as_posix() for path in paths) if name != SUMS]


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS."""
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in files_of(folder)))


def wrong_sums(folder: Path) -> list[str]:
    """What SHA256SUMS does not agree with, in words; empty where it does."""
    lines = (folder / SUMS).read_text("utf-8").splitlines() if (folder / SUMS).is_file() else []
    told = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    there = set(files_of(folder))
    wrong = [f"{name} is missing" for name in told if name not in there]
    wrong += [f"{name} is not in {SUMS}" for name in sorted(there) if name not in told]
    return wrong + [
        f"{name} is other than it was" for name in sorted(there & set(told)) if sha256(folder / name) != told[name]
    ]


def zipped(folder: Path, archive: Path) -> Path:
    """Pack a folder, under its own name.

    Returns:
        The zip.
    """
    with zipfile.ZipFile(archive, "w") as packed:
        for name in [*files_of(folder), SUMS]:
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", DATE)
            large = (folder / name).stat().st_size >= STORED_FROM
            entry.compress_type = zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as stream, packed.open(entry, "w", force_zip64=True) as into:
                while block := stream.read(2**20):
                    into.write(block)
    return archive
