"""SHA256SUMS tells every kind of change, and the same files give the same zip."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from scripts.core.files import sha256
from scripts.sharing.package.sums import SUMS, files_of, write_sums, wrong_sums, zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    (place / "models").mkdir(parents=True)
    (place / "models/model.pt").write_bytes(b"weights" * 100)
    (place / "README.md").write_text("read")
    (place / "__pycache__").mkdir()
    (place / "__pycache__/x.pyc").write_bytes(b"x")
    write_sums(place)
    return place


def test_what_is_listed(folder: Path) -> None:
    assert files_of(folder) == ["README.md", "models/model.pt"]
    assert wrong_sums(folder) == []
    assert sha256(folder / "README.md") in (folder / SUMS).read_text()


def test_sha256sum_agrees(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True, capture_output=True)


def test_every_kind_of_change_is_told(folder: Path) -> None:
    (folder / "README.md").write_text("changed")
    (folder / "models/model.pt").unlink()
    (folder / "new.txt").write_text("")
    assert wrong_sums(folder) == [
        "models/model.pt is missing",
        f"new.txt is not in {SUMS}",
        "README.md is other than it was",
    ]
    (folder / SUMS).unlink()
    assert wrong_sums(folder) == [f"README.md is not in {SUMS}", f"new.txt is not in {SUMS}"]


def test_the_zip_is_the_same_each_time_and_leaves_large_files_as_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.sharing.package.sums.STORED_FROM", 500)
    one, two = (zipped(folder, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        kinds = {info.filename: info.compress_type for info in archive.infolist()}
        assert archive.read("bundle/models/model.pt") == b"weights" * 100
    assert kinds == {
        "bundle/README.md": zipfile.ZIP_DEFLATED,
        "bundle/models/model.pt": zipfile.ZIP_STORED,
        f"bundle/{SUMS}": zipfile.ZIP_DEFLATED,
    }
