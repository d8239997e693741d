"""How many fractions a plan has, where it says one number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rtplan import Plan, read_rtplan, write_rtplan
from scripts.core.dicom.source import read_source
from tests.rtdose_files import rtplan


@pytest.mark.parametrize(("groups", "expected"), [((4,), 4), ((None,), None), ((0,), None), ((2, 2), None), ((), None)])
def test_fractions(tmp_path: Path, groups: Sequence[int | None], expected: int | None) -> None:
    assert read_rtplan(rtplan(tmp_path / "p.dcm", "1.2.7", groups), "c") == Plan("1.2.7", expected)


def test_our_own_plan_is_read_back(dicom: Any, tmp_path: Path) -> None:
    source = read_source(dicom.series(tmp_path / "ct", np.zeros((8, 8, 4), np.int16)).files, "c")
    written = write_rtplan(tmp_path / "p.dcm", source, 3, "PHANTOM", "synthetic")
    assert read_rtplan(tmp_path / "p.dcm", "c") == written
    assert written.fractions == 3


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    file = rtplan(tmp_path / "p.dcm")
    file.write_bytes(b"\x08\x00\x05")
    with pytest.raises(CaseError, match="its RTPLAN cannot be read"):
        read_rtplan(file, "c")
