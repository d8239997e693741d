"""`check`: every fault in a file that really has it, and the picture."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks.data import volumes
from scripts.core import reading
from scripts.core.datalist import Case
from scripts.core.look import colours, label_colors, slice_picture
from scripts.data.check.case import CheckedCase, examine
from scripts.data.check.check import check
from scripts.data.check.sheet import contact_sheet
from scripts.data.plan.plan import plan
from scripts.data.split.split import split

LABELS = {0: "background", 1: "organ", 2: "tumor"}
AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (LPS, 1 x 1 x 5 mm) and a label with a tumour inside an organ, clear of the border."""
    image = np.random.default_rng(seed).normal(100, 10, (32, 28, 12)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[8:20, 8:20, 3:9] = 1
    label[12:16, 12:16, 5:7] = 2
    return image, label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    entries = []
    for i in range(4):
        image, label = arrays(i)
        save(tmp_path / f"images/c{i}.nii.gz", image)
        save(tmp_path / f"labels/c{i}.nii.gz", label)
        entries.append(
            {
                "case": f"c{i}",
                "patient": f"p{i}",
                "image": f"images/c{i}.nii.gz",
                "label": f"labels/c{i}.nii.gz",
                "fold": i % 2,
            }
        )
    write(tmp_path / "datalist.json", entries)
    return tmp_path


def write(path: Path, training: list[dict[str, Any]], **more: Any) -> None:
    content = {"name": "set", "labels": {str(k): v for k, v in LABELS.items()}, "modality": "MRI", "training": training}
    path.write_text(json.dumps({**content, **more}))


def edit(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = folder / "datalist.json"
    training = json.loads(path.read_text())["training"]
    change(training)
    write(path, training)


def run(folder: Path, **options: Any) -> tuple[int, dict[str, dict[str, str]]]:
    status = check(datalist=str(folder / "datalist.json"), sheet=False, **options)
    with (folder / "check/check.csv").open() as stream:
        return status, {row["case"]: row for row in csv.DictReader(stream)}


def test_a_sound_cohort_may_train(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows = run(cohort)
    assert status == 0
    assert {row["verdict"] for row in rows.values()} == {"ok"}
    assert rows["c1"]["shape"] == "32 x 28 x 12"
    assert rows["c1"]["spacing mm"] == "1 x 1 x 5"
    assert rows["c1"]["field of view mm"] == "32 x 28 x 60"
    assert rows["c1"]["stored as"] == "LPS"
    assert float(rows["c1"]["tumor ml"]) == pytest.approx(4 * 4 * 2 * 5 / 1000)
    assert "Training may start" in capsys.readouterr().out


def truncate(folder: Path) -> None:
    path = folder / "images/c1.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def remove(folder: Path) -> None:
    (folder / "images/c1.nii.gz").unlink()


def empty_file(folder: Path) -> None:
    (folder / "labels/c1.nii.gz").write_bytes(b"")


def text_file(folder: Path) -> None:
    (folder / "images/c1.nii.gz").write_bytes(gzip.compress(b"not an image" * 100))


def four_d(folder: Path) -> None:
    save(folder / "images/c1.nii.gz", np.repeat(arrays(1)[0][..., None], 2, axis=3))


def nan(folder: Path) -> None:
    image = arrays(1)[0]
    image[0, 0, 0] = np.nan
    save(folder / "images/c1.nii.gz", image)


def constant(folder: Path) -> None:
    save(folder / "images/c1.nii.gz", np.full((32, 28, 12), 7, np.int16))


def other_shape(folder: Path) -> None:
    save(folder / "labels/c1.nii.gz", arrays(1)[1][:, :, 1:])


def other_grid(folder: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 3.0
    save(folder / "labels/c1.nii.gz", arrays(1)[1], moved)


def unknown_label(folder: Path) -> None:
    label = arrays(1)[1]
    label[10, 10, 5] = 9
    save(folder / "labels/c1.nii.gz", label)


def fraction_label(folder: Path) -> None:
    save(folder / "labels/c1.nii.gz", arrays(1)[1].astype(np.float32) * 0.5)


def empty_label(folder: Path) -> None:
    save(folder / "labels/c1.nii.gz", np.zeros((32, 28, 12), np.uint8))


def no_spacing(folder: Path) -> None:
    path = folder / "images/c1.nii.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:84] = np.float32(0).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (remove, "does not exist; correct its path"),
        (truncate, "cannot be read"),
        (empty_file, "is empty; export or copy it again"),
        (text_file, "not NIfTI"),
        (four_d, "is 4-D"),
        (nan, "1 voxels that are NaN or infinite"),
        (constant, "is constant"),
        (other_shape, "has shape (32, 28, 11)"),
        (other_grid, "different grids (apart by 3.00 mm); resample"),
        (unknown_label, "unknown label values [9]"),
        (fraction_label, "not whole numbers"),
        (empty_label, "the label is empty; draw it"),
        (no_spacing, "has spacing"),
    ],
)
def test_a_faulty_file_forbids_training_and_the_others_are_still_checked(
    cohort: Path, fault: Callable[[Path], None], words: str
) -> None:
    fault(cohort)
    status, rows = run(cohort)
    assert status == 1
    assert words in rows["c1"]["findings"]
    assert rows["c1"]["verdict"] == "error"
    assert "\n" not in rows["c1"]["findings"]
    assert [rows[name]["verdict"] for name in ("c0", "c2", "c3")] == ["ok"] * 3


def test_duplicate_in_two_folds_is_an_error_and_in_one_place_a_warning(cohort: Path) -> None:
    # the same voxels behind another compression level and another data type
    save(cohort / "images/c1.nii.gz", nib.load(cohort / "images/c0.nii.gz").get_fdata())
    status, rows = run(cohort)
    assert status == 1
    assert "same voxels as c0 (patient p0)" in rows["c1"]["findings"]
    edit(cohort, lambda training: [case.update(patient="p", fold=0) for case in training[:2]] and None)  # type: ignore[func-returns-value]
    status, rows = run(cohort)
    assert status == 0
    assert rows["c1"]["verdict"] == "warning"


def test_patient_in_two_folds(cohort: Path) -> None:
    edit(cohort, lambda training: training[1].update(patient="p0"))
    status, rows = run(cohort)
    assert status == 1
    assert "patient p0 is in fold 0 and fold 1; write folds with" in rows["c0"]["findings"]


def test_patient_in_training_and_held_out(cohort: Path) -> None:
    training = json.loads((cohort / "datalist.json").read_text())["training"]
    held_out = {**training[3], "patient": "p0"}
    write(cohort / "datalist.json", training[:3], testing=[held_out])
    status, rows = run(cohort)
    assert status == 1
    assert "fold 0 and held out" in rows["c3"]["findings"]


def test_name_used_twice(cohort: Path) -> None:
    edit(cohort, lambda training: training[1].update(case="c0"))
    assert run(cohort)[0] == 1


@pytest.mark.parametrize(
    ("axis", "index", "face"),
    [
        (0, 0, "right"),
        (0, -1, "left"),
        (1, 0, "anterior"),
        (1, -1, "posterior"),
        (2, 0, "inferior"),
        (2, -1, "superior"),
    ],
)
@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, 1), (1, -1, -1)])
def test_cut_off_names_the_anatomical_border(
    tmp_path: Path, axis: int, index: int, face: str, signs: tuple[int, int, int]
) -> None:
    image, label = arrays(0)
    np.moveaxis(label, axis, 0)[index, 5:7, 5:7] = 1
    # the same anatomy stored with other axis directions
    flips = tuple(slice(None, None, 1 if s == r else -1) for s, r in zip(signs, (-1, -1, 1), strict=True))
    affine = np.diag([*(np.array(signs) * (1, 1, 5.0)), 1.0])
    save(tmp_path / "i.nii.gz", image[flips], affine)
    save(tmp_path / "l.nii.gz", label[flips], affine)
    case = Case("c", {"image": "i.nii.gz", "label": "l.nii.gz"}, "p", folder=tmp_path)
    found = examine(case, "training", LABELS).findings
    cut = next(finding for finding in found if finding.rule == "cut off")
    assert f"organ: at the {face} border" in cut.sentence
    assert cut.severity == "warning"


def test_warnings_allow_training_unless_strict(cohort: Path) -> None:
    image, label = arrays(1)
    label[28:30, 2:4, 0:1] = 2  # a tumour apart from the organ, at the inferior border
    save(cohort / "labels/c1.nii.gz", label)
    status, rows = run(cohort)
    assert status == 0
    assert "0.02 ml of tumour lie apart from the organ" in rows["c1"]["findings"]
    assert "tumor: at the inferior border" in rows["c1"]["findings"]
    assert run(cohort, strict=True)[0] == 1
    label[0:2, 12:14, 5:7] = 1
    save(cohort / "labels/c1.nii.gz", label)
    told = run(cohort)[1]["c1"]["findings"]
    assert re.search(r"organ: at the (left|right) border and tumor: at the inferior border of the image", told)
    label[label == 2] = 1
    save(cohort / "labels/c1.nii.gz", label)
    assert "no voxel of tumor; check that it is truly absent" in run(cohort)[1]["c1"]["findings"]
    save(cohort / "images/c1.nii.gz", image, np.diag([-3.0, -1, 5, 1]))
    save(cohort / "labels/c1.nii.gz", label, np.diag([-3.0, -1, 5, 1]))
    findings = run(cohort)[1]["c1"]["findings"]
    assert "spacing is unlike the others': 3 mm left-right (median 1)" in findings
    assert "field of view is unlike the others'" in findings


def test_organ_mask_of_its_own_is_checked_too(cohort: Path) -> None:
    save(cohort / "organ.nii.gz", np.zeros((5, 5, 5), np.uint8))
    edit(cohort, lambda training: training[1].update(organ="organ.nii.gz"))
    assert "organ" in run(cohort)[1]["c1"]["findings"]


def as_ct(folder: Path, minimum: float, voxels: int) -> None:
    """Make the cohort one of CT, whose case c2 has so many voxels of `minimum`."""
    for i in range(4):
        image = arrays(i)[0]
        image.flat[:200] = -1000
        if i == 2:
            image.flat[:voxels] = minimum
        save(folder / f"images/c{i}.nii.gz", image)
    path = folder / "datalist.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modality": "CT"}))


def test_ct_that_is_not_in_hounsfield_units(cohort: Path) -> None:
    path = cohort / "datalist.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modality": "CT"}))
    assert "not in Hounsfield units" in run(cohort)[1]["c2"]["findings"]


@pytest.mark.parametrize("minimum", [-32768, -3024, -1025])
def test_padding_of_a_ct_is_told(cohort: Path, minimum: float) -> None:
    as_ct(cohort, minimum, 1075)
    status, rows = run(cohort)
    assert status == 0
    assert f"padding: 10 % of its voxels are below -1024 HU, the lowest {minimum}: " in rows["c2"]["findings"]
    assert rows["c2"]["verdict"] == "warning"
    assert {rows[name]["findings"] for name in ("c0", "c1", "c3")} == {""}


def test_air_of_a_ct_is_not_padding(cohort: Path) -> None:
    as_ct(cohort, -1024, 1075)
    assert run(cohort)[1]["c2"]["findings"] == ""


def test_padding_of_an_mr_is_told(cohort: Path) -> None:
    image = arrays(1)[0]
    image[0, :5] = -32768
    save(cohort / "images/c1.nii.gz", image)
    assert "its darkest voxel is -32768 and its brightest 13" in run(cohort)[1]["c1"]["findings"]
    save(cohort / "images/c1.nii.gz", (arrays(1)[0] - 100) / 10)  # normalised already
    assert run(cohort)[1]["c1"]["findings"] == ""


@pytest.mark.parametrize(("shift", "verdict"), [(0.5, "error"), (0.11, "error"), (0.05, "ok")])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_label_on_a_grid_a_part_of_a_voxel_apart(cohort: Path, axis: int, shift: float, verdict: str) -> None:
    moved = AFFINE.copy()
    moved[axis, 3] += shift  # of the smallest spacing, 1 mm
    save(cohort / "labels/c1.nii.gz", arrays(1)[1], moved)
    row = run(cohort)[1]["c1"]
    assert row["verdict"] == verdict
    assert (f"lie on different grids (apart by {shift:.2f} mm)" in row["findings"]) == (verdict == "error")


def test_faults_of_image_and_label_are_told_together(cohort: Path) -> None:
    constant(cohort)
    unknown_label(cohort)
    findings = run(cohort)[1]["c1"]["findings"]
    assert "is constant" in findings
    assert "unknown label values [9]" in findings


def test_every_file_is_read_once(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was counted is known to `split` and `plan`, which read nothing then."""
    opened: list[str] = []
    original = volumes.read_volume

    def counted(path: Any, *more: Any) -> Any:
        opened.append(Path(path).name)
        return original(path, *more)

    for module, name in ((volumes, "read_volume"), (reading, "read_volume")):
        monkeypatch.setattr(module, name, counted)
    assert run(cohort)[0] == 0
    assert len(opened) == 8
    split(datalist=str(cohort / "datalist.json"), folds=2, test=0)
    bundle = Path(__file__).parents[4] / "bundles/organ_pocketnet"
    plan(datalist=str(cohort / "datalist.json"), bundle=str(bundle), output=str(cohort / "plan.json"))
    assert len(opened) == 8


def test_picture_is_radiological_and_coloured() -> None:
    image, label = arrays(0)
    image[:, :, :] = 0
    image[20:, :8, :] = 100  # the patient's left, anterior
    picture, aspect = slice_picture(image, label, (1.0, 1.0, 5.0), LABELS)
    assert aspect == 1.0
    rows, columns = picture.shape[:2]
    bright = np.argwhere((picture == 255).all(axis=2))
    assert bright[:, 0].max() < rows / 2
    assert bright[:, 1].min() > columns / 2
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert {label_colors(LABELS)[1], label_colors(LABELS)[2]} <= colors
    assert label_colors(LABELS) == {1: (0x3D, 0x8B, 0xFF), 2: (0xFF, 0xD5, 0x00)}


def test_sagittal_series_are_shown_sagittally_with_the_head_up() -> None:
    image = np.zeros((6, 30, 40), np.float32)
    image[:, :, 30:] = 50
    picture, aspect = slice_picture(image, None, (5.0, 1.0, 0.5), LABELS)
    assert picture.shape == (40, 30, 3)
    assert aspect == 0.5
    assert picture[0, 15, 0] > picture[-1, 15, 0]


def test_legend_of_many_labels_takes_several_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save_figure = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save_figure(figure, *a, **k)))
    names = ["background", *(f"gluteus_medius_{i:02}" for i in range(12))]
    contact_sheet([CheckedCase("c0", "p0", "fold 0")], dict(enumerate(names)), tmp_path / "sheet.png", "t")
    figure = drawn[0]
    box = figure.legends[0].get_window_extent()
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= min(axis.get_window_extent().y0 for axis in figure.axes)


def test_brachytherapy_labels_have_the_colours_of_the_evaluation() -> None:
    names = ["hr-ctv", "bladder", "rectum", "uterus", "sigmoid", "organ", "tumor"]
    for name, color in zip(names, label_colors(dict(enumerate(names, 1))).values(), strict=True):
        wanted = colours(names)[name]
        assert color == tuple(int(wanted[i : i + 2], 16) for i in (1, 3, 5))


def test_contact_sheet_has_pages_and_survives_odd_names(cohort: Path) -> None:
    truncate(cohort)
    edit(cohort, lambda training: training[2].update(case="$x_{\x01 " + "n" * 300))
    training = json.loads((cohort / "datalist.json").read_text())["training"]
    more = [{**training[0], "case": f"copy{i}"} for i in range(46)]
    write(cohort / "datalist.json", training + more)
    assert check(datalist=str(cohort / "datalist.json"), output=str(cohort / "out")) == 1
    names = sorted(path.name for path in (cohort / "out").iterdir())
    assert names == ["check.csv", "contact_sheet.png", "contact_sheet_2.png"]
    assert (cohort / "out/contact_sheet.png").stat().st_size > 20_000
