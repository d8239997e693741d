"""A release of the small tumour bundle, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.core.files import sha256
from scripts.experiments.quality.file import Quality
from scripts.sharing.package.package import package

SUMMARY = """class,metric,n,mean,sd,median,cases,missed
organ,dsc,4,0.8123456,0.05,0.8,4,0
organ,hd95_mm,4,7.25,1.5,7.0,4,0
tumor,dsc,4,0.55,0.2,0.6,4,1
tumor,hd95_mm,3,12.04,3.0,12.0,4,1
tumor,asd_mm,0,,,,4,1
"""


@pytest.fixture(scope="session")
def source(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with the shipped configurations: only its weights know that it is small."""
    folder = tmp_path_factory.mktemp("source") / "tumor_pocketnet"
    shutil.copytree(Path(__file__).parents[4] / "bundles/tumor_pocketnet", folder)
    shutil.copytree(small_bundle / "models", folder / "models", dirs_exist_ok=True)
    # the scan of these tests is as small as the weights
    shutil.copy(small_bundle / "configs/metadata.json", folder / "configs")
    return folder


@pytest.fixture(scope="session")
def release(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zip of a release with a report."""
    work = tmp_path_factory.mktemp("release")
    (work / "report").mkdir()
    (work / "report/summary.csv").write_text(SUMMARY)
    weights = (sha256(source / "models/model.pt"),)
    quality = Quality(weights, 1, "", "training", "MR", {"organ": [1, 2], "tumor": [2]}, {}, {}, {"tumor": "too few"})
    quality.write(work / "quality.json")
    options = {
        "version": "0.2.0",
        "quality": str(work / "quality.json"),
        "changes": "first weights",
        "report": str(work / "report"),
    }
    assert package(str(source), str(source / "models/model.pt"), str(work / "made"), **options) == 0
    return work / "made/tumor_pocketnet_v0.2.0.zip"


@pytest.fixture
def unpacked(release: Path, tmp_path: Path) -> Path:
    """The release in an empty folder."""
    shutil.unpack_archive(release, tmp_path / "empty")
    return tmp_path / "empty/tumor_pocketnet"
