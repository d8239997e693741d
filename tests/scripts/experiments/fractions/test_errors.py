"""What cannot be used is one sentence, exit status 2, and leaves nothing behind."""

from typing import Any

import numpy as np
import pytest

from scripts.__main__ import main
from tests.scripts.experiments.fractions.conftest import grid, save, sphere


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--least_dsc", "1.5"], "--least_dsc: 1.5 is no DSC"),
        (["--most_volume_change", "0"], "--most_volume_change: 0.0 is not above 0"),
        (["--predictions", "nowhere"], "--predictions: folder nowhere does not exist"),
        (["--external_dose", "45"], "--external_dose: its number of fractions is missing"),
        (["--measures", "D2cc"], "measure 'D2cc': there is none of this name"),
        (["--section", "training"], "no case of its section 'training' has a fraction"),
        (["--classes", "uterus"], "'uterus' is no class"),
    ],
)
def test_options(cohort: Any, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["fractions", str(cohort.datalist), str(cohort.folder / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (cohort.folder / "out").exists()


def only(cohort: Any, **more: Any) -> None:
    """Leave patient b's one case."""
    cohort.edit(lambda content: content.update(testing=[{**content["testing"][0], **more}]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"fraction": 0}, "b1: its fraction is 0"),
        ({"label": None}, "b1: it has no label"),
        ({"fractions": 1.5}, "b1: its fractions are 1.5"),
        ({"image": "images/none.nii.gz"}, "none.nii.gz"),
        ({"dose": "doses/none.nii.gz"}, "none.nii.gz"),
    ],
)
def test_not_one_case(cohort: Any, capsys: pytest.CaptureFixture[str], more: dict[str, Any], said: str) -> None:
    only(cohort, **more)
    assert main(["fractions", str(cohort.datalist), str(cohort.folder / "out")]) == 2
    text = capsys.readouterr().err
    assert "no case can be used" in text
    assert said in text
    assert not (cohort.folder / "out").exists()


@pytest.mark.parametrize(
    ("affine", "value", "said"), [(grid(3.0), 1, "different grids"), (grid(origin=(-30.0, -28.0, -26.0)), 7, "7")]
)
def test_labels_that_do_not_fit(
    cohort: Any, capsys: pytest.CaptureFixture[str], affine: np.ndarray, value: int, said: str
) -> None:
    only(cohort)
    save(cohort.folder / "data/labels/b1.nii.gz", sphere(grid(), (0, 0, 0)) * np.uint8(value), affine)
    assert main(["fractions", str(cohort.datalist), str(cohort.folder / "out")]) == 2
    text = capsys.readouterr().err
    assert "b1: label" in text
    assert said in text
