"""A SEG with coded structures, read back by highdicom and by the project's own reader."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.seg import read_seg, segment_to_mask
from scripts.core.dicom.source import SourceSeries, read_source
from scripts.core.dicom.write_seg import Segment, write_seg

SHAPE = (20, 16, 6)
ORGAN = Segment("organ", "AnatomicalStructure", "Uterus")
TUMOR = Segment("tumor", "MorphologicallyAbnormalStructure", "Neoplasm")
BLADDER = Segment("bladder", "AnatomicalStructure", "UrinaryBladderStructure")


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[low:high, low - 1 : high, 1:5] = True
    return mask


@pytest.fixture(params=["axial", "oblique"])
def source(request: Any, dicom: Any, tmp_path: Path) -> SourceSeries:
    def edit(ds: Any, _: int) -> None:
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyTime = ds.StudyID = ""
        ds.ReferringPhysicianName = ""

    written = dicom.series(tmp_path / "mr", np.zeros(SHAPE, np.int16), dicom.affine(request.param), edit=edit)
    return read_source(written.files, "case")


@pytest.mark.parametrize("inner", [box(6, 9), box(11, 15)], ids=["overlapping", "apart"])
def test_segments_are_read_back(source: SourceSeries, tmp_path: Path, inner: np.ndarray) -> None:
    masks = [box(3, 10), inner, np.zeros(SHAPE, bool)]
    path = write_seg(tmp_path / "seg.dcm", source, iter(masks), [ORGAN, TUMOR, BLADDER], ("networks", "1"))
    found = read_seg(path)
    assert [roi.name for roi in found.rois] == ["organ", "tumor", "bladder"]
    assert found.series == {str(source.headers[0].SeriesInstanceUID)}
    for number, mask in enumerate(masks[:2], 1):
        back = segment_to_mask("case", path, number, source.affine, source.shape)
        np.testing.assert_array_equal(back.array, mask)


def test_structures_are_coded(source: SourceSeries, tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", source, [box(3, 10), box(6, 9)], [ORGAN, TUMOR], ("networks", "1"))
    seg = hd.seg.segread(path)
    organ, tumor = (seg.get_segment_description(number) for number in (1, 2))
    assert organ.segmented_property_type.value == "35039007"
    assert tumor.segmented_property_type.value == "108369006"
    assert {d.algorithm_type.value for d in (organ, tumor)} == {"AUTOMATIC"}
    assert seg.PatientID == source.headers[0].PatientID


def test_refusals(source: SourceSeries, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="none of the structures"):
        write_seg(tmp_path / "seg.dcm", source, [np.zeros(SHAPE, bool)], [ORGAN], ("networks", "1"))
    with pytest.raises(CaseError, match="another size"):
        write_seg(tmp_path / "seg.dcm", source, [np.ones((3, 3, 3), bool)], [ORGAN], ("networks", "1"))
    assert not (tmp_path / "seg.dcm").exists()
