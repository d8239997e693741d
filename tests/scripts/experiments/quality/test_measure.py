"""Signs and DSC of a datalist's cases."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.core.datalist import Datalist
from scripts.core.predictions import made_by
from scripts.experiments.quality.measure import measure_signs, usual_places, with_usual


def test_what_is_known_of_a_case(cohort: Any) -> None:
    content, folder = Datalist.read(cohort.datalist), cohort.folder / "pred"
    found, failed = measure_signs(content.training, folder, {"box": [1]}, "MR", made_by(folder), 1)
    assert (len(found), failed) == (40, [])
    one = found[0]
    assert one.case.name == "c00"
    assert one.signs[0].entropy > 0.4
    assert one.dsc["box"] < 0.3
    places, failed = usual_places(content.training, {"box": [1]}, 1)
    assert (places["c00"], failed) == (one.truth, [])
    # far away and small
    (sign,) = with_usual(found, content, places)["c00"]
    assert sign.volume_z < -1
    assert sign.position_z > 2


def test_a_case_without_a_prediction_is_named(cohort: Any) -> None:
    content, folder = Datalist.read(cohort.datalist), cohort.folder / "pred"
    (folder / "c07.nii.gz").unlink()
    found, (error,) = measure_signs(content.training, folder, {"box": [1]}, "MR", made_by(folder), 2)
    assert len(found) == 39
    with pytest.raises(type(error), match="c07: it has no prediction"):
        raise error
