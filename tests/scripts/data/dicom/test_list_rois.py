from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.__main__ import main
from scripts.core.dicom.rtstruct import Roi
from scripts.data.dicom.labels import parse_labels
from scripts.data.dicom.list_rois import Measured, list_rois, listing

X, Y, Z = np.mgrid[:24, :18, :10]
ORGAN = (abs(X - 12) < 8) & (abs(Y - 9) < 6) & (abs(Z - 5) < 4)
TUMOUR = ORGAN & (X > 12) & (Z > 4)
BESIDE = (abs(X - 4) < 3) & (abs(Y - 9) < 6) & (abs(Z - 5) < 4)


@pytest.fixture(scope="module")
def export(dicom: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for i, (organ, tumour) in enumerate(
        [("Uterus + Cervix", "GTV"), ("uterus + cervix", "gtv"), ("Uterus + Cervix", "PTV_GTV+10mm")]
    ):
        series = dicom.series(folder / f"{i}/i", X.astype(np.int16), patient={"PatientID": f"P{i // 2}"})
        rois = [
            (1, organ, None, dicom.outlines(ORGAN, series.affine)),
            (2, tumour, None, dicom.outlines(TUMOUR, series.affine)),
            (3, "beside", None, dicom.outlines(BESIDE, series.affine)),
            (4, "nothing", None, []),
        ]
        dicom.rtstruct(folder / f"{i}/s.dcm", series, rois)
    return folder


def test_names_counts_volumes_and_overlaps(export: Path, capsys: Any) -> None:
    assert main(["list_rois", str(export), "--workers", "1"]) == 0
    voxel = 1.5 * 1.0 * 4.0 / 1000
    organ, tumour, beside = (f"{mask.sum() * voxel:.3g}" for mask in (ORGAN, TUMOUR, BESIDE))
    share = f"{(BESIDE & ORGAN).sum() / BESIDE.sum():.0%}"
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown[:7] == [
        "ROI structure sets patients ml, median (range) of it in larger ROIs",
        shown[1],
        f"Uterus + Cervix 3 of 3 2 {organ} ({organ} to {organ})",
        f"beside 3 of 3 2 {beside} ({beside} to {beside}) {share} Uterus + Cervix",
        f"GTV 2 of 3 1 {tumour} ({tumour} to {tumour}) 100% Uterus + Cervix",
        f"PTV_GTV+10mm 1 of 3 1 {tumour} ({tumour} to {tumour}) 100% Uterus + Cervix",
        "nothing 3 of 3 2 0 (0 to 0)",
    ]


def test_the_proposal_takes_the_usual_names_and_nothing_else(export: Path, capsys: Any) -> None:
    list_rois(str(export), workers=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--labels")]
    option, text = shlex.split(line)
    rules = parse_labels(text)
    assert (option, [rule.name for rule in rules]) == ("--labels", ["Uterus_Cervix", "beside", "GTV"])
    taken = [
        [name for name in ("UTERUS + CERVIX", "gtv", "PTV_GTV+10mm", "beside") if rule.matches(Roi(1, name))]
        for rule in rules
    ]
    assert taken == [["UTERUS + CERVIX"], ["beside"], ["gtv"]]


def test_rois_of_one_name_are_told_apart_by_colour_else_by_number(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    series = dicom.series(tmp_path / "i", X.astype(np.int16))
    outer, inner = dicom.outlines(ORGAN, series.affine), dicom.outlines(TUMOUR, series.affine)
    cyan, magenta = (0, 235, 235), (255, 0, 255)
    dicom.rtstruct(tmp_path / "s.dcm", series, [(1, "C", magenta, outer), (2, "C", cyan, inner)])
    list_rois(str(tmp_path), workers=1)
    text = capsys.readouterr().out
    assert "100% C rgb(255,0,255)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("--labels")]
    assert shlex.split(line)[1] == '{"C": "rgb(255,0,255)", "C_2": "rgb(0,235,235)"}'
    dicom.rtstruct(tmp_path / "s.dcm", series, [(1, "", None, outer), (2, "", None, inner)])
    list_rois(str(tmp_path), workers=1)
    assert '{"roi": "#1", "roi_2": "#2"}' in capsys.readouterr().out


def test_what_cannot_be_measured_is_listed_and_told(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    series = dicom.series(tmp_path / "i", X.astype(np.int16), edit=lambda ds, z: z != 4)
    dicom.rtstruct(tmp_path / "s.dcm", series, [(1, "Uterus", None, dicom.outlines(ORGAN, series.affine))])
    orphan = dicom.series(tmp_path.parent / "elsewhere", X.astype(np.int16))
    dicom.rtstruct(tmp_path / "orphan.dcm", orphan, [(1, "Cervix", None, [])])
    assert list_rois(str(tmp_path), workers=1) == 0
    text = capsys.readouterr().out
    assert "1 structure sets without volumes: 1 slices are missing inside it" in text
    assert "Uterus" in text
    assert "1 structure sets cannot be read, or their series is not in the folder." in text
    assert "--labels" not in text


def test_an_export_without_rois() -> None:
    assert listing([]) == "no ROI was found"
    assert "no ROI" in listing([Measured("p", {})])
