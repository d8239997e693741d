"""The README's way from a DICOM export to out-of-fold results, command by command, on a tiny export."""

import importlib.util
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from monai.bundle import run

from scripts.experiments.training import fold as fold_module

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("scripts_main_of_readme", ROOT / "scripts/__main__.py")
scripts_main = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripts_main)
TINY = {
    "epochs": 1,
    "features": 4,
    "num_workers": 0,
    "tracker": "none",
    "val_interval": 1,
    "device": "cpu",
    "batch_size": 4,
}


def commands() -> list[list[str]]:
    block = re.search(r"## Own data\n\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL).group(1)
    return [shlex.split(line) for line in block.splitlines() if line.startswith("python -m scripts")]


def test_the_page_shows_the_same_commands():
    page = re.findall(r"^\$ (python -m scripts .*)$", (ROOT / "docs/own_data.md").read_text(), flags=re.MULTILINE)
    shown = [shlex.split(line) for line in page]
    # the ways in that the README leaves to the page
    aside = [words[3] for words in shown if words[3] in {"list_rois", "import_nifti"}]
    shown = [words for words in shown if words[3] not in aside]
    assert aside == ["list_rois", "import_nifti"]
    assert shown[:4] == commands()[:4]
    assert [words[3] for words in shown[4:]] == ["preprocess"]


def here(bundle, configs, overrides, processes=1, log=None, held=()):
    """As bundle_run.run_bundle, in this process: importing MONAI twenty times over takes minutes."""
    before = Path.cwd()
    os.chdir(bundle)
    try:
        run(config_file=list(configs), logging_file="configs/logging.conf", **overrides)
    finally:
        os.chdir(before)


@pytest.fixture
def export(dicom, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    shape = (40, 36, 10)
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) * (1.5, 1.0, 4.0)
    for i in range(7):
        centre = points.reshape(-1, 3).mean(0) + rng.uniform(-3, 3, 3)
        distance = np.linalg.norm(points - centre, axis=-1)
        organ, tumor = distance < 12, distance < 6
        image = (100 + 150 * organ + 150 * tumor + rng.normal(0, 10, shape)).astype(np.int16)
        patient = {"PatientName": f"Test^Patient{i}", "PatientID": f"ID{i}"}
        series = dicom.series(tmp_path / f"export/{i}/mr", image, patient=patient)
        rois = [
            (1, "Uterus + Cervix", None, dicom.outlines(organ, series.affine)),
            (2, "Tumour", None, dicom.outlines(tumor, series.affine)),
        ]
        dicom.rtstruct(tmp_path / f"export/{i}/rs.dcm", series, rois)
    return tmp_path / "export"


def test_own_data(export, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fold_module, "run_bundle", here)
    verbs = []
    for words in commands():
        assert words[:3] == ["python", "-m", "scripts"]
        places = [str(export) if word == "EXPORT" else word for word in words[3:]]
        line = [str(ROOT / word) if word.startswith("bundles/") else word for word in places]
        if line[0] == "crossval":
            line += ["--overrides", str(TINY)]
        assert scripts_main.main(line) == 0, (line, capsys.readouterr())
        verbs.append(line[0])
    assert verbs == ["import_dicom", "split", "check", "plan", "crossval", "crossval", "evaluate"]
    prepare = shlex.split(
        re.search(
            r"^\$ python -m scripts (preprocess .*)$", (ROOT / "docs/own_data.md").read_text(), flags=re.MULTILINE
        ).group(1)
    )
    assert scripts_main.main([str(ROOT / word) if word.startswith("bundles/") else word for word in prepare]) == 0
    assert (tmp_path / "prepared/prepared.json").is_file()
    table = pd.read_csv(tmp_path / "runs/tumor/report/cases.csv")
    assert set(table["class"]) == {"organ", "tumor"}
    assert table["case"].nunique() == 5  # seven patients, two of them held out
    assert not any(b"Test^Patient" in f.read_bytes() for f in (tmp_path / "data").rglob("*") if f.is_file())
