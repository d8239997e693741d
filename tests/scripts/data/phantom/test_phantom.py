"""The cohort writer: files, datalist, folds, bad input."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError, check_cases, fold_split, read_datalist
from scripts.__main__ import main
from scripts.data.phantom.phantom import cohort, phantom, with_applicators

SMALL = ["--matrix", "64", "--slices", "16"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    arguments = ["phantom", "--modality", "mr", "--cases", "7", "--seed", "3", "--test", "2", "--output", str(folder)]
    assert main([*arguments, *SMALL, "--workers", "1"]) == 0
    return folder


def test_command_writes_a_checked_cohort(written: Path) -> None:
    training = read_datalist(written / "datalist.json")
    testing = read_datalist(written / "datalist.json", section="testing")
    assert (len(training), len(testing)) == (5, 2)
    assert check_cases(training + testing, labels=(0, 1, 2)) == []
    content = json.loads((written / "datalist.json").read_text())
    assert content["labels"] == {"0": "background", "1": "organ", "2": "tumor"}
    assert not Path(content["training"][0]["image"]).is_absolute()
    for fold in sorted({case["fold"] for case in training}):
        fold_split(training, fold)
    assert "fold" not in testing[0]


def test_headers_hold_one_geometry(written: Path) -> None:
    for case in read_datalist(written / "datalist.json"):
        image, label = nib.load(case["image"]), nib.load(case["label"])
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        for part in (image, label):
            sform, code = part.get_sform(coded=True)
            qform, qcode = part.get_qform(coded=True)
            assert code == qcode == 1
            np.testing.assert_allclose(sform, qform, atol=1e-3)
        np.testing.assert_array_equal(image.affine, label.affine)


def test_a_datalist_of_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    options = {"output": str(tmp_path), "matrix": 32, "slices": 8, "time_points": 1, "workers": 1}
    own = {"name": "study", "training": [{"case": "a", "patient": "p", "image": "a.nii.gz"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(own))
    with pytest.raises(CaseError, match=r"datalist\.json is there already and is of another data set; pass another"):
        phantom(cases=2, **options)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "datalist.json").read_text()) == own
    assert [path.name for path in tmp_path.iterdir()] == ["datalist.json"]
    (tmp_path / "datalist.json").unlink()
    phantom(cases=2, **options)  # type: ignore[arg-type]
    for other in ({"cases": 3}, {"cases": 2, "seed": 1}, {"cases": 2, "modality": "ct"}):
        with pytest.raises(CaseError, match="of another data set"):
            phantom(**options, **other)  # type: ignore[arg-type]


def test_the_same_cohort_again_keeps_the_folds_that_it_was_given(tmp_path: Path) -> None:
    options = {"output": str(tmp_path), "matrix": 32, "slices": 8, "time_points": 1, "workers": 1, "cases": 3}
    phantom(**options)  # type: ignore[arg-type]
    content = json.loads((tmp_path / "datalist.json").read_text())
    content["testing"] = [content["training"].pop()]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    phantom(**options)  # type: ignore[arg-type]
    again = json.loads((tmp_path / "datalist.json").read_text())
    assert [case["case"] for case in again["testing"]] == [case["case"] for case in content["testing"]]


def test_processes_change_nothing(written: Path, tmp_path: Path) -> None:
    phantom(cases=8, seed=3, output=str(tmp_path / "two"), matrix=32, slices=12, workers=2)
    phantom(cases=8, seed=3, output=str(tmp_path / "one"), matrix=32, slices=12, workers=1)
    for path in sorted((tmp_path / "one").rglob("*.nii.gz")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert np.array_equal(np.asarray(nib.load(path).dataobj), np.asarray(nib.load(other).dataobj)), path.name


@pytest.mark.parametrize(("cases", "test"), [(1, 0), (2, 0), (4, 1), (9, 3), (40, 8), (101, 17)])
def test_folds_are_grouped_by_patient(cases: int, test: int) -> None:
    visits = cohort(cases, seed=5, test=test)
    assert len(visits) == cases == len({v.case for v in visits})
    assert sum(v.testing for v in visits) == test
    assert not {v.patient for v in visits if v.testing} & {v.patient for v in visits if not v.testing}
    folds: dict[int, set[int]] = {}
    for v in visits:
        if not v.testing:
            folds.setdefault(v.patient, set()).add(v.fold)
    assert all(len(f) == 1 for f in folds.values())
    used = Counter(next(iter(f)) for f in folds.values())
    assert sorted(used) == list(range(min(5, cases - test)))
    assert max(used.values()) - min(used.values()) <= 1
    for earlier, later in pairwise(visits):
        assert later.patient > earlier.patient or later.visit == earlier.visit + 1


def test_time_points_of_one_patient_occur() -> None:
    number = Counter(v.patient for v in cohort(60, seed=0))
    assert set(number.values()) == {1, 2, 3}
    assert set(Counter(v.patient for v in cohort(20, seed=0, time_points=1)).values()) == {1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modality": "pet"}, "modality"),
        ({"cases": 0}, "cases"),
        ({"cases": 2, "test": 2}, "test"),
        ({"plane": "coronal"}, "plane"),
        ({"spacing": -1}, "spacing"),
        ({"tumor_mm": (3, 40)}, "tumor_mm"),
        ({"tumor_mm": 20}, "tumor_mm"),
        ({"slices": 0}, "slices"),
        ({"labelled": "perhaps"}, "labelled"),
        ({"modality": "ct", "applicator": 1.5}, "applicator is 1.5"),
        ({"modality": "ct", "metal_artefacts": "all"}, "metal_artefacts is 'all'"),
        ({"modality": "mr", "applicator": 0.5}, "only the CT"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=words) as caught:
        phantom(**{"cases": 2, "output": str(tmp_path), **options})  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_bad_options_exit_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "--modality", "pet", "--output", str(tmp_path)]) == 2
    assert "choose one of" in capsys.readouterr().err


def test_shares_of_applicators_are_exact_and_nested() -> None:
    visits = cohort(50, seed=4, test=10)
    before: dict[bool, set[str]] = {False: set(), True: set()}
    for share in (0.0, 0.1, 0.3, 1.0):
        shared = with_applicators(visits, 4, share, 0.5)
        assert [(v.case, v.fold, v.testing) for v in shared] == [(v.case, v.fold, v.testing) for v in visits]
        for testing, total in ((False, 40), (True, 10)):
            side = [v for v in shared if v.testing == testing]
            those = {v.case for v in side if v.inserted["applicator"]}
            streaked = {v.case for v in side if v.inserted["metal_artefacts"]}
            assert len(those) == round(share * total)
            assert len(streaked) == round(0.5 * len(those))
            assert before[testing] | streaked <= those
            before[testing] = those
        assert shared == with_applicators(visits, 4, share, 0.5)


def test_the_datalist_says_who_has_an_applicator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--cases",
        "4",
        "--seed",
        "2",
        "--time_points",
        "1",
        "--matrix",
        "48",
        "--slices",
        "30",
        "--workers",
        "1",
    ]
    command = ["phantom", "--modality", "ct", "--output", str(tmp_path), *options, "--applicator", "0.5"]
    assert main([*command, "--metal_artefacts", "0.5"]) == 0
    cases = json.loads((tmp_path / "datalist.json").read_text())["training"]
    assert Counter((case["applicator"], case["metal_artefacts"]) for case in cases) == {
        (True, True): 1,
        (True, False): 1,
        (False, False): 2,
    }
    for case in cases:
        image = np.asarray(nib.load(tmp_path / case["image"]).dataobj)
        assert (image.max() > 2500) == case["applicator"]
    # what is there is not relabelled
    assert main([*command, "--metal_artefacts", "1"]) == 2
    assert "of another data set" in capsys.readouterr().err
