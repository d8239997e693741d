from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.data.dicom.scan import Series, Tree, scan_tree
from scripts.data.dicom.structures import belonging, read_structures

IMAGE = np.zeros((6, 5, 4), np.int16)
SQUARE = np.array([[0, 25, 34], [3, 25, 34], [3, 28, 34], [0, 28, 34]], dtype=float)


def images(tree: Tree) -> list[Series]:
    return [series for series in tree.series.values() if series["Modality"] == "MR"]


@pytest.mark.parametrize("reference", ["series", "images", "frame"])
def test_a_structure_set_belongs_to_the_series_that_it_names(dicom: Any, tmp_path: Path, reference: str) -> None:
    mine = dicom.series(tmp_path / "mine", IMAGE)
    dicom.series(tmp_path / "other", IMAGE)
    dicom.rtstruct(tmp_path / "s.dcm", mine, [(2, "GTV", None, [SQUARE])], reference=reference)
    tree = scan_tree(tmp_path)
    structures = read_structures(tree, "", 1)
    found = {s.uid: belonging(s, structures, images(tree), tree) for s in images(tree)}
    drawn, notes = found.pop(mine.uid)
    assert [[roi.name for roi in one.rois] for one in drawn] == [["GTV"]]
    assert drawn[0].rois[0].contours == []
    assert list(found.values()) == [([], [])]
    assert any("frame of reference alone" in note for note in notes) == (reference == "frame")


def test_a_frame_of_reference_that_two_series_share_names_neither(dicom: Any, tmp_path: Path) -> None:
    one = dicom.series(tmp_path / "a", IMAGE)
    dicom.series(tmp_path / "b", IMAGE, frame=one.frame)
    dicom.rtstruct(tmp_path / "s.dcm", one, [(2, "GTV", None, [SQUARE])], reference="frame")
    tree = scan_tree(tmp_path)
    structures = read_structures(tree, "", 1)
    assert [belonging(s, structures, images(tree), tree) for s in images(tree)] == [([], []), ([], [])]


def test_faults_say_what_to_do_and_a_pattern_chooses(dicom: Any, tmp_path: Path) -> None:
    one = dicom.series(tmp_path / "e" / "i", IMAGE)
    orphan = dicom.series(tmp_path / "elsewhere", IMAGE)
    roi = [(1, "GTV", None, [SQUARE])]
    dicom.rtstruct(tmp_path / "e" / "1.dcm", one, roi, label="reader one")
    dicom.rtstruct(tmp_path / "e" / "2.dcm", orphan, roi, label="reader two")
    tree = scan_tree(tmp_path / "e")
    faults = {s.header.file.name: s.fault for s in read_structures(tree, "", 1)}
    assert faults == {"1.dcm": "", "2.dcm": "it was drawn on a series that is not in the folder"}
    assert [s.header.file.name for s in read_structures(tree, "READER TWO", 1)] == ["2.dcm"]
    for file in ("1.dcm", "2.dcm"):
        (tmp_path / "e" / file).write_bytes(b"gone")
    assert {s.remedy for s in read_structures(tree, "", 1)} <= {"export it again", "export that series with it", ""}
