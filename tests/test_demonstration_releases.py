"""The releases in git: what they say is true, and what the README tells a newcomer gives contours of a phantom."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import read_settings
from scripts.data.phantom.phantom import phantom
from scripts.sharing.package.package import package
from scripts.sharing.package.sums import wrong_sums
from scripts.sharing.package.verify import check_texts
from scripts.sharing.segment.segment import segment

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000
# most bytes, and the least DSC on one phantom that nothing was trained or chosen on
LIMITS = {
    "organ_pocketnet": (4 * MB, {"organ": 0.7}),
    "tumor_pocketnet": (4 * MB, {"organ": 0.7, "tumor": 0.5}),
    "gynbtnet_brachytherapy": (10 * MB, {"HR-CTV": 0.5, "bladder": 0.5, "rectum": 0.5, "uterus": 0.5, "sigmoid": 0.2}),
}
TABLE = re.compile(
    r"^\| \[(\w+)_v([\d.]+)\.zip\]\(\1_v\2\.zip\) \| [^|]+ \| ([^|]+) \| [^|]+ \| `(\w{64})` \|$", re.MULTILINE
)
ROWS = {
    name: (version, dsc, digest)
    for name, version, dsc, digest in TABLE.findall((ROOT / "releases/README.md").read_text())
}

spec = importlib.util.spec_from_file_location("scripts_main_of_releases", ROOT / "scripts/__main__.py")
assert spec is not None
assert spec.loader is not None
scripts_main = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripts_main)


def archive(name: str) -> Path:
    return ROOT / "releases" / f"{name}_v{ROWS[name][0]}.zip"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    for name in LIMITS:
        shutil.unpack_archive(archive(name), folder)
    return folder


def test_the_readme_names_every_release() -> None:
    assert set(ROWS) == set(LIMITS)
    assert {path.name for path in (ROOT / "releases").glob("*.zip")} == {archive(name).name for name in ROWS}


@pytest.mark.parametrize("name", LIMITS)
def test_what_a_release_says(name: str, unpacked: Path) -> None:
    file, folder = archive(name), unpacked / name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == ROWS[name][2]
    assert file.stat().st_size < LIMITS[name][0]
    assert wrong_sums(folder) == []
    check_texts(folder)
    meta = json.loads((folder / "configs/metadata.json").read_text())
    assert meta["synthetic"] is True
    assert "synthetic images alone" in meta["description"]
    assert read_settings(folder / "models/model.pt")["synthetic"] is True
    readme = (folder / "docs/README.md").read_text()
    assert "trained on synthetic images alone" in readme
    assert "synthetic" in (folder / "docs/data_license.txt").read_text()
    # the figures are those of the report that is in it
    for structure, mean, sd in re.findall(r"([\w-]+) ([\d.]+) ± ([\d.]+)", ROWS[name][1]):
        # rounded once there and once here
        metric = f"dsc_{structure.lower().replace('-', '_')}"
        assert meta["eval_metrics"][metric] == pytest.approx(float(mean), abs=6e-4)
        assert re.search(rf"^\| {structure} \| \d+ \| \d+ \| {mean} ± {sd} \|", readme, re.MULTILINE)
    assert len(ROWS[name][1].split(",")) == len(LIMITS[name][1])


def dice(folder: Path, label: Path, name: str) -> dict[str, float]:
    found, truth = (np.asarray(nib.load(path).dataobj).astype(int) for path in (folder / "label.nii.gz", label))
    of = {structure: [value] for value, structure in enumerate(LIMITS[name][1], 1)}
    if "organ" in of:  # with its tumour
        of["organ"] = [1, 2]
    masks = {structure: (np.isin(found, values), np.isin(truth, values)) for structure, values in of.items()}
    return {structure: float(2 * (a & b).sum() / (a.sum() + b.sum())) for structure, (a, b) in masks.items()}


def test_the_readme_shows_contours_of_a_phantom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The two commands as they stand, with the tumour release, on a phantom that it has not seen."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "releases").symlink_to(ROOT / "releases")
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:50])
    lines = re.findall(r"^python -m scripts ((?:phantom|segment) .*?)(?:\s+#.*)?$", first_screen, flags=re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["phantom", "segment"]
    for line in lines:
        assert scripts_main.main(shlex.split(line)) == 0
    said = "".join(capfd.readouterr())
    assert "trained on synthetic images alone: they are of no use for patients" in said
    assert "INFO" not in said
    (label,) = (tmp_path / "phantom/labels").iterdir()
    (folder,) = (path for path in (tmp_path / "contours").iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {"label.nii.gz", "preview.png"}
    assert json.loads((tmp_path / "contours/run.json").read_text())["synthetic_weights"] is True
    measured = dice(folder, label, "tumor_pocketnet")
    assert all(measured[structure] > floor for structure, floor in LIMITS["tumor_pocketnet"][1].items()), measured


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_a_release_finds_every_structure(name: str, tmp_path: Path) -> None:
    ct = name == "gynbtnet_brachytherapy"
    # a cohort of its own: a seed that the training did not have
    more = {"matrix": 192, "thickness": 3.0} if ct else {"matrix": 240, "tumor_mm": (25, 60)}
    phantom("ct" if ct else "mr", 1, 41, str(tmp_path / "data"), time_points=1, **more)
    assert segment(str(tmp_path / "data/images"), str(tmp_path / "out"), str(archive(name))) == 0
    (label,), (folder,) = (tmp_path / "data/labels").iterdir(), (p for p in (tmp_path / "out").iterdir() if p.is_dir())
    if name == "organ_pocketnet":
        image = nib.load(folder / "label.nii.gz")
        assert set(np.unique(np.asarray(image.dataobj))) == {0, 1}
    measured = dice(folder, label, name)
    assert all(measured[structure] > floor for structure, floor in LIMITS[name][1].items()), measured


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_a_release_passes_its_check(name: str) -> None:
    assert package(check=str(archive(name))) == 0
