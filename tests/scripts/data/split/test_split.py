"""`split`: grouping by patient, balance, stability, errors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist
from scripts.data.split.balance import assign
from scripts.data.split.split import existing_places, split


def cohort(folder: Path, sizes: dict[str, list[int]]) -> Path:
    """A labelled data set; `sizes` gives per patient the number of organ voxels (1 ml each) of every case."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    entries = []
    for patient, voxels in sizes.items():
        for i, count in enumerate(voxels):
            label = np.zeros((10, 10, 10), np.uint8)
            label.flat[:count] = 1
            label.flat[: count // 5 if count > 250 else 0] = 2
            name = f"{patient}_t{i}"
            nib.save(nib.Nifti1Image(label, np.diag([10.0, 10, 10, 1])), folder / f"labels/{name}.nii.gz")
            entries.append(
                {"case": name, "patient": patient, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
            )
    path = folder / "datalist.json"
    labels = {"0": "background", "1": "organ", "2": "tumor"}
    path.write_text(json.dumps({"name": "t", "labels": labels, "modality": "MRI", "training": entries, "note": "kept"}))
    return path


def places(path: Path) -> dict[str, int | None]:
    content = json.loads(path.read_text())
    found: dict[str, set[Any]] = {}
    for case in content["training"]:
        found.setdefault(case["patient"], set()).add(case["fold"])
    for case in content["testing"]:
        assert "fold" not in case
        found.setdefault(case["patient"], set()).add(None)
    assert all(len(at) == 1 for at in found.values())
    return {patient: at.pop() for patient, at in found.items()}


def sizes(n: int, start: int = 0) -> dict[str, list[int]]:
    generator = np.random.default_rng(start)
    return {f"p{start + i:03d}": generator.integers(50, 500, size=1 + i % 3).tolist() for i in range(n)}


def test_patients_are_grouped_and_places_have_their_share(tmp_path: Path) -> None:
    path = cohort(tmp_path, sizes(40))
    split(datalist=str(path), folds=5, test=0.2, seed=0)
    at = places(path)
    assert sorted(set(at.values()), key=str) == [0, 1, 2, 3, 4, None]
    counts = [list(at.values()).count(place) for place in (None, 0, 1, 2, 3, 4)]
    assert counts[0] == 8
    assert max(counts[1:]) - min(counts[1:]) <= 1
    assert json.loads(path.read_text())["note"] == "kept"


def test_label_volume_is_balanced_better_than_by_chance(tmp_path: Path) -> None:
    amounts = np.random.default_rng(1).lognormal(3, 1, size=(60, 1))
    shares = dict.fromkeys(range(5), 0.2)
    table = np.hstack([np.ones_like(amounts), amounts])

    def spread(at: list[int]) -> float:
        sums = [amounts[np.array(at) == fold].sum() for fold in range(5)]
        return float((max(sums) - min(sums)) / np.mean(sums))

    ours = spread(assign(table, shares, {}, 0))
    by_chance = [spread(np.random.default_rng(s).permutation(np.arange(60) % 5).tolist()) for s in range(20)]
    assert ours < 0.02 < min(by_chance)


def write_labels(folder: Path, contents: list[dict[int, int]], widths: list[float] | None = None) -> Path:
    """One patient per entry, with so many voxels of each label value, 10 x 10 mm and `widths` (10) mm wide."""
    path = cohort(folder, {f"p{i:02d}": [1] for i in range(len(contents))})
    for i, voxels in enumerate(contents):
        label = np.zeros(1000, np.uint8)
        for value, count in sorted(voxels.items()):
            label[np.flatnonzero(label == 0)[:count]] = value
        nifti = nib.Nifti1Image(label.reshape(10, 10, 10), np.diag([widths[i] if widths else 10.0, 10, 10, 1]))
        nib.save(nifti, folder / f"labels/p{i:02d}_t0.nii.gz")
    return path


def table(printed: str) -> list[dict[str, str]]:
    """Lines of the printed table by column; names hold single spaces, columns are two apart."""
    lines = [re.split(r" {2,}", line.strip()) for line in printed.split("\n\n", maxsplit=1)[0].splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_presence_is_balanced_where_volume_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten patients have one voxel of tumour, one has 900 ml: by volume alone the ten could lie anywhere."""
    contents = [{1: 50, 2: 1} for _ in range(10)] + [{1: 50} for _ in range(9)] + [{1: 50, 2: 900}]
    split(datalist=str(write_labels(tmp_path, contents)), folds=4, test=0)
    with_tumor = [int(row["with tumor"]) for row in table(capsys.readouterr().out)]
    assert sum(with_tumor) == 11
    assert max(with_tumor) - min(with_tumor) <= 1


def test_volume_is_balanced_where_all_are_present(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_labels(tmp_path, [{1: 10}] * 8 + [{1: 110}] * 8)
    split(datalist=str(path), folds=4, test=0)
    assert [float(row["organ ml"]) for row in table(capsys.readouterr().out)] == [240.0] * 4


def test_volume_is_millilitres_not_voxels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_labels(tmp_path, [{1: 100}] * 16, [10.0] * 8 + [30.0] * 8)
    split(datalist=str(path), folds=4, test=0)
    assert [float(row["organ ml"]) for row in table(capsys.readouterr().out)] == [800.0] * 4


def test_the_held_out_set_stays_where_none_is_asked_for(tmp_path: Path) -> None:
    """`--test 0` asks for no new held-out patients; those who were held out are not trained on now."""
    path = cohort(tmp_path, sizes(20))
    split(datalist=str(path))
    before = places(path)
    held_out = {patient for patient, place in before.items() if place is None}
    content = json.loads(path.read_text())
    extra = json.loads(cohort(tmp_path, sizes(10, 100)).read_text())["training"]
    path.write_text(json.dumps({**content, "training": content["training"] + extra}))
    split(datalist=str(path), test=0)
    after = places(path)
    assert {patient for patient, place in after.items() if place is None} == held_out
    assert {patient: after[patient] for patient in before} == before


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_labels(tmp_path, [{1: 100, 2: 20}, {1: 100, 2: 20}, {1: 100}, {1: 100}])
    split(datalist=str(path), folds=2, test=0)
    expected = f"""place   patients  cases  organ ml  with organ  tumor ml  with tumor
------  --------  -----  --------  ----------  --------  ----------
fold 0         2      2       200           2        20           1
fold 1         2      2       200           2        20           1

0 patients kept their place, 4 were placed: {path}
"""
    assert capsys.readouterr().out == expected
    split(datalist=str(path), folds=2, test=0)
    assert f"4 patients kept their place, 0 were placed: {path}" in capsys.readouterr().out


def test_same_seed_same_split_and_reset_with_another_seed_differs(tmp_path: Path) -> None:
    first, second = cohort(tmp_path / "a", sizes(30)), cohort(tmp_path / "b", sizes(30))
    split(datalist=str(first), seed=4)
    split(datalist=str(second), seed=4)
    assert places(first) == places(second)
    split(datalist=str(second), seed=5, reset=True)
    assert places(first) != places(second)


def test_added_patients_move_nobody_and_follow_their_own_patient(tmp_path: Path) -> None:
    path = cohort(tmp_path, sizes(25))
    split(datalist=str(path))
    before = places(path)
    held_out = next(patient for patient, place in before.items() if place is None)
    content = json.loads(path.read_text())
    extra = json.loads(cohort(tmp_path, {**sizes(5, 100), held_out: [60, 70, 80, 90]}).read_text())["training"]
    content["training"] += [case for case in extra if case["case"] not in {c["case"] for c in content["testing"]}]
    path.write_text(json.dumps(content))
    split(datalist=str(path))
    after = places(path)
    assert {patient: after[patient] for patient in before} == before
    assert len(after) == 30


def test_previous_keeps_folds_of_a_datalist_that_was_imported_again(tmp_path: Path) -> None:
    old = cohort(tmp_path / "old", sizes(20))
    split(datalist=str(old), seed=7)
    new = cohort(tmp_path / "new", {**sizes(20), **sizes(4, 50)})
    split(datalist=str(new), previous=str(old), seed=1)
    assert {p: places(new)[p] for p in places(old)} == places(old)


def test_output_in_another_folder_points_to_the_same_files(tmp_path: Path) -> None:
    path = cohort(tmp_path / "set", sizes(12))
    split(datalist=str(path), output=str(tmp_path / "splits/one.json"))
    entry = json.loads((tmp_path / "splits/one.json").read_text())["training"][0]
    assert (tmp_path / "splits" / entry["label"]).is_file()
    assert "fold" not in json.loads(path.read_text())["training"][0]


def test_unlabelled_data_and_no_held_out_set(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    cases = [{"case": f"c{i}", "patient": f"p{i // 2}", "image": f"c{i}.nii.gz"} for i in range(20)]
    path.write_text(json.dumps({"name": "u", "training": cases}))
    split(datalist=str(path), test=0)
    assert sorted(places(path).values(), key=str) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_leak_in_the_existing_folds_is_refused() -> None:
    case = Case("a", {"image": "x"}, "p", 0)
    with pytest.raises(CaseError, match=r"patient p: .* in fold 0 and fold 1; pass --reset"):
        existing_places(Datalist(training=[case, replace(case, fold=1)]), 2, "d.json")
    with pytest.raises(CaseError, match="held-out set and fold 0"):
        existing_places(Datalist(training=[case], testing=[case]), 2, "d.json")
    with pytest.raises(CaseError, match=r"pass --folds 1 to keep them"):
        existing_places(Datalist(training=[case]), 5, "d.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "cannot be made"),
        ({"test": 1.0}, "cannot be made"),
        ({"folds": 9}, "cannot fill 10 places"),
    ],
)
def test_impossible_requests(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        split(datalist=str(cohort(tmp_path, sizes(6))), **options)


def test_a_missing_label_leaves_the_datalist_untouched(tmp_path: Path) -> None:
    path = cohort(tmp_path, sizes(10))
    before = path.read_bytes()
    (tmp_path / "labels/p003_t0.nii.gz").unlink()
    with pytest.raises(CaseError, match="p003_t0: label"):
        split(datalist=str(path))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".partial*"))
