"""What cannot be used is one sentence, exit status 2, and leaves nothing behind."""

from typing import Any

import numpy as np
import pytest

from scripts.__main__ import main
from tests.scripts.experiments.dose.conftest import save, slope


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--predictions", "nowhere"], "--predictions: folder nowhere does not exist"),
        (["--prescription", "0"], "--prescription: 0.0 is not above 0"),
        (["--fractions", "-2"], "--fractions: -2 is not above 0"),
        (["--external_dose", "45"], "--external_dose: its number of fractions is missing"),
        (["--external_dose", "-1", "--external_fractions", "2"], "a number is negative or 0"),
        (["--course_fractions", "0"], "a number is negative or 0"),
        (["--measures", "D2cc"], "measure 'D2cc': there is none of this name"),
        (["--constraints", "nowhere.json"], "the file does not exist"),
        (["--section", "training"], "has no case with a label and a dose"),
        (["--classes", "uterus"], "'uterus' is no class"),
    ],
)
def test_options(cohort: Any, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["dose", str(cohort.datalist), str(cohort.folder / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (cohort.folder / "out").exists()


@pytest.mark.parametrize(
    ("dose", "said"),
    [
        (slope() - 20, "negative, not finite or zero everywhere"),
        (slope() * np.nan, "negative, not finite or zero everywhere"),
        (slope() * 0, "negative, not finite or zero everywhere"),
        (None, "does not exist"),
    ],
)
def test_doses(cohort: Any, capsys: pytest.CaptureFixture[str], dose: np.ndarray | None, said: str) -> None:
    cohort.edit(lambda content: content.update(testing=content["testing"][:1]))
    file = cohort.folder / "doses/a1.nii.gz"
    file.unlink() if dose is None else save(file, dose)
    assert main(["dose", str(cohort.datalist), str(cohort.folder / "out")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", [0, -1, 2.5, "two", True])
def test_fractions_of_a_case(cohort: Any, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    cohort.edit(lambda content: content.update(testing=[{**content["testing"][0], "fractions": value}]))
    assert main(["dose", str(cohort.datalist), str(cohort.folder / "out")]) == 2
    assert "its fractions are" in capsys.readouterr().err
