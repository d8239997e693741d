from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImaged, SaveImaged

from custom_networks import distinct_cases, fold_split, inference_cases, read_datalist
from custom_networks.errors import CaseError
from scripts.__main__ import main
from scripts.core.datalist import Case
from scripts.core.files import write_nifti
from scripts.core.predictions import find_prediction
from scripts.data.cohorts.import_cohort import import_cohort
from scripts.data.cohorts.nifti_sets import place_file
from scripts.data.cohorts.sets import COHORTS, hold_out
from scripts.data.cohorts.totalsegmentator import CLASSES_V1, ONLY_V2

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.5, -1.5, 1.5, 1.0])


def read(path: Path | str) -> Any:
    return nib.load(path)


def voxels(path: Path | str) -> np.ndarray:
    return np.asanyarray(read(path).dataobj)


def report(output: Path) -> list[dict[str, str]]:
    with (output / "import_report.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def subject(root: Path, name: str, masks: dict[str, np.ndarray], absent: Sequence[str] = ()) -> Path:
    write_nifti(root / name / "ct.nii.gz", noise(), AFFINE)
    empty = np.zeros(SHAPE, np.uint8)
    for label in CLASSES_V1:
        if label not in absent:
            write_nifti(root / name / "segmentations" / f"{label}.nii.gz", masks.get(label, empty), AFFINE)
    return root / name


def box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[start:stop, start:stop, 2:5] = 1
    return mask


def test_totalsegmentator_merges_104_classes_in_version_1_order(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "download" / "Totalsegmentator_dataset"
    subject(root, "s0000", {"spleen": box(0, 4), "kidney_right": box(3, 6), "urinary_bladder": box(7, 9)})
    subject(root, "s0001", {"face": box(1, 3)}, absent=["aorta"])
    write_nifti(subject(root, "s0002", {}) / "segmentations" / "liver.nii.gz", np.ones((12, 10, 7), np.uint8), AFFINE)
    for name in ONLY_V2:
        write_nifti(root / "s0003" / "segmentations" / f"{name}.nii.gz", box(1, 2), AFFINE)
    write_nifti(root / "s0003" / "ct.nii.gz", noise(), AFFINE)
    (subject(root, "s0004", {}) / "segmentations" / "rib_left_1.nii.gz").write_bytes(b"\x1f\x8bno")
    output = tmp_path / "o"
    assert main(["import_cohort", "totalsegmentator", str(tmp_path / "download"), str(output), "--workers", "2"]) == 0
    content = json.loads((output / "datalist.json").read_text())
    assert len(content["labels"]) == 105
    assert (content["labels"]["1"], content["labels"]["104"]) == ("spleen", "urinary_bladder")
    (case,) = read_datalist(output / "datalist.json")
    label = voxels(case["label"])
    expected = np.zeros(SHAPE, int)
    for value, mask in ((1, box(0, 4)), (2, box(3, 6)), (104, box(7, 9))):
        expected[mask > 0] = value
    np.testing.assert_array_equal(label, expected)
    np.testing.assert_array_equal(voxels(case["image"]), noise())
    np.testing.assert_allclose(read(case["label"]).affine, AFFINE)
    rows = {r["case"]: r for r in report(output)}
    assert (
        rows["s0000"]["notes"]
        == "3 voxels belong to several classes and got the later one (for example kidney_right over spleen)"
    )
    assert rows["s0001"]["finding"] == "1 of 104 masks are missing (aorta)"
    assert "liver lies on another grid" in rows["s0002"]["finding"]
    assert "version 2" in rows["s0003"]["finding"]
    assert "cannot be read" in rows["s0004"]["finding"]
    assert "found 1 of the paper's 1204 scans" in capsys.readouterr().out
    assert import_cohort("totalsegmentator", str(root), str(output), allow_missing=True, workers=1) == 0
    assert {c["case"] for c in read_datalist(output / "datalist.json")} == {"s0000", "s0001"}


def test_totalsegmentator_order_is_that_of_a_real_case(samples: Path) -> None:
    names = json.loads((samples / "cases" / "ct_abdpelvis_totalseg" / "class_map_104.json").read_text())
    assert [names[str(value)] for value in range(1, 105)] == list(CLASSES_V1)


def test_totalsegmentator_splits(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "d"
    for number in range(10):
        folder = root / f"s{number:04d}"
        write_nifti(folder / "ct.nii.gz", noise(number), AFFINE)
        write_nifti(folder / "segmentations" / "liver.nii.gz", box(2, 6), AFFINE)
    run = {"allow_missing": True, "workers": 1}
    import_cohort("totalsegmentator", str(root), str(tmp_path / "a"), **run)
    train, val = fold_split(read_datalist(tmp_path / "a" / "datalist.json"), 0)
    assert (len(train), len(val)) == (8, 2)
    import_cohort("totalsegmentator", str(root), str(tmp_path / "b"), seed=1, **run)
    other = fold_split(read_datalist(tmp_path / "b" / "datalist.json"), 0)[1]
    assert {c["case"] for c in other} != {c["case"] for c in val}
    assert main(["import_cohort", "totalsegmentator", str(root), str(tmp_path / "c"), "--official_split"]) == 2
    assert "meta.csv is not in the folder" in capsys.readouterr().err
    splits = ["train"] * 6 + ["val", "test", "test"]
    lines = [
        "image_id;age;gender;institute;study_type;split",
        *(f"s{i:04d};50;f;A;ct;{s}" for i, s in enumerate(splits)),
    ]
    (root / "meta.csv").write_text("\ufeff" + "\n".join(lines) + "\n")
    import_cohort("totalsegmentator", str(root), str(tmp_path / "c"), official_split=True, **run)
    train, val = fold_split(read_datalist(tmp_path / "c" / "datalist.json"), 0)
    assert ([c["case"] for c in train], [c["case"] for c in val]) == ([f"s{i:04d}" for i in range(6)], ["s0006"])
    assert [c["case"] for c in read_datalist(tmp_path / "c" / "datalist.json", section="testing")] == ["s0007", "s0008"]
    assert {r["case"]: r["finding"] for r in report(tmp_path / "c")}["s0009"] == "meta.csv does not name it"
    (root / "meta.csv").write_text("image_id,age\ns0000,4\n")
    assert main(["import_cohort", "totalsegmentator", str(root), str(tmp_path / "c"), "--official_split"]) == 2


NIFTI = {
    "flare22": (
        [
            "FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz",
            "FLARE22_UnlabeledCase1001-2000/Case_01999_0000.nii.gz",
            "FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz",
        ],
        ["flare22_0001", "flare22_1999"],
        "1998 scans are not in the folder: 2-1998, 2000",
    ),
    "ribfrac": (
        [
            "Part1/RibFrac1-image.nii.gz",
            "Part1/RibFrac1-label.nii.gz",
            "Part2/RibFrac301-image.nii.gz",
            "ribfrac-val-images/RibFrac421-image.nii.gz",
            "ribfrac-test-images/RibFrac501-image.nii.gz",
        ],
        ["ribfrac_001", "ribfrac_301", "ribfrac_421"],
        "1 scans, because the paper's set ends at 500",
    ),
    "covid19": (
        [
            "volume-covid19-A-0000.nii.gz",
            "volume-covid19-A-0003_01.29.nii.gz",
            "volume-covid19-A-0003_02.05.nii.gz",
            "copy/volume-covid19-A-0000.nii.gz",
            "volume-covid19-A-0003_seg.nii.gz",
        ],
        ["covid19_0000_t1", "covid19_0003_t1", "covid19_0003_t2"],
        "1 files, because a file of the same name",
    ),
}


@pytest.mark.parametrize("cohort", NIFTI)
@pytest.mark.parametrize("copy", [False, True])
def test_sets_of_one_nifti_per_scan(tmp_path: Path, capsys: Any, cohort: str, copy: bool) -> None:
    files, cases, told = NIFTI[cohort]
    for number, file in enumerate(files):
        write_nifti(tmp_path / "d" / file, noise(number), AFFINE)
    assert import_cohort(cohort, str(tmp_path / "d"), str(tmp_path / "o"), copy=copy, workers=1) == 0
    found = read_datalist(tmp_path / "o" / "datalist.json")
    assert [c["case"] for c in found] == cases
    assert not [c for c in found if "label" in c]
    for case in found:
        assert case["image"] == str(tmp_path / "o" / "images" / f"{case['case']}.nii.gz")
        assert Path(case["image"]).is_symlink() != copy
        assert voxels(case["image"]).shape == SHAPE
        assert Path(case["image"]).resolve().is_relative_to(tmp_path / ("o" if copy else "d"))
    assert any(told in row["finding"] for row in report(tmp_path / "o"))
    expected = f"{cohort}: found {len(cases)} of the paper's {COHORTS[cohort].count} scans"
    assert expected in capsys.readouterr().out
    assert "labels" not in json.loads((tmp_path / "o" / "datalist.json").read_text())


def test_predictions_of_totalsegmentator_are_named_by_case(tmp_path: Path) -> None:
    root, output = tmp_path / "d", tmp_path / "o"
    for number in range(3):
        write_nifti(root / f"s{number:04d}" / "ct.nii.gz", noise(number), AFFINE)
        write_nifti(root / f"s{number:04d}" / "segmentations" / "liver.nii.gz", box(2, 6), AFFINE)
    for _ in range(2):  # a second import finds what the first has made
        assert import_cohort("totalsegmentator", str(root), str(output), allow_missing=True, workers=1) == 0
    cases = distinct_cases(read_datalist(output / "datalist.json"))
    assert [Path(c["image"]).name for c in cases] == ["s0000.nii.gz", "s0001.nii.gz", "s0002.nii.gz"]
    assert [c["image"] for c in inference_cases(output / "images")] == [c["image"] for c in cases]
    # as the bundles' evaluate.json saves, and as `evaluate` looks for it
    save = SaveImaged("image", output_dir=tmp_path / "p", output_postfix="pred", separate_folder=False, print_log=False)
    for number, case in enumerate(cases):
        save(LoadImaged("image", ensure_channel_first=True)(case))
        prediction = find_prediction(tmp_path / "p", Case.of(case))
        assert prediction == tmp_path / "p" / f"{case['case']}_pred.nii.gz"
        np.testing.assert_array_equal(voxels(prediction), noise(number))


def test_images_are_neither_lost_nor_linked_where_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_nifti(tmp_path / "images" / "a.nii.gz", noise(), AFFINE)
    assert place_file("images", "a", file, tmp_path, copy=False) == "images/a.nii.gz"
    assert not file.is_symlink()
    np.testing.assert_array_equal(voxels(file), noise())

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(
        CaseError, match=r"b: .*images takes no symbolic links \(Operation not permitted\); pass --copy"
    ):
        place_file("images", "b", file, tmp_path, copy=False)
    assert place_file("images", "b", file, tmp_path, copy=True) == "images/b.nii.gz"


def test_bad_nifti_files_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    write_nifti(folder / "RibFrac1-image.nii.gz", noise(), AFFINE)
    (folder / "RibFrac2-image.nii.gz").write_bytes(b"")
    (folder / "RibFrac3-image.nii.gz").write_bytes(b"<html>not found</html>")
    write_nifti(folder / "RibFrac4-image.nii.gz", noise()[..., None], AFFINE)
    write_nifti(folder / "RibFrac5-image.nii.gz", noise(), AFFINE)
    flat = read(folder / "RibFrac5-image.nii.gz")
    flat.header["pixdim"][1:4], flat.header["sform_code"], flat.header["qform_code"] = 0, 1, 0
    flat.header["srow_x"] = flat.header["srow_y"] = 0
    header = flat.header
    nib.save(nib.Nifti1Image(noise(), None, header), folder / "RibFrac5-image.nii.gz")
    assert import_cohort("ribfrac", str(folder), str(tmp_path / "o"), workers=1) == 0
    rows = {r["case"]: r["finding"] for r in report(tmp_path / "o")}
    assert rows["ribfrac_001"] == ""
    for number, words in ((2, "empty"), (3, "cannot be read"), (4, "shape"), (5, "no usable geometry")):
        assert words in rows[f"ribfrac_00{number}"]


def tcia(dicom: Any, root: Path, patient: str, scans: int, modality: str = "CT", **more: Any) -> list[Any]:
    """The layout of a TCIA download: collection / patient / study / series."""
    image = np.random.default_rng(1).integers(-1000, 1000, (8, 7, 17)).astype(np.int16)
    return [
        dicom.series(
            root / patient / f"01-0{n}-2001-NA-study" / f"{n}.000000-body-1",
            image,
            modality=modality,
            patient={"PatientID": patient, "StudyDate": f"2001010{n}"},
            **more,
        )
        for n in range(1, scans + 1)
    ]


@pytest.mark.parametrize("cohort", ["hnscc", "acrin6664"])
def test_tcia_ct_sets_keep_patients_together(dicom: Any, tmp_path: Path, capsys: Any, cohort: str) -> None:
    root = tmp_path / "manifest-1" / "COLLECTION"
    for number in range(7):
        tcia(dicom, root, f"01-000{number}", 2)
    tcia(dicom, root / "PET", "01-0000", 1, "PT")
    assert import_cohort(cohort, str(tmp_path / "manifest-1"), str(tmp_path / "o"), workers=1) == 0
    cases = read_datalist(tmp_path / "o" / "datalist.json")
    train, val = fold_split(cases, 0)
    assert (len(train), len(val)) == (12, 2)
    assert len({c["patient"] for c in val}) == 1
    assert f"found 14 of the paper's {COHORTS[cohort].count} scans" in capsys.readouterr().out
    # everybody who imports the public set gets the same names and the same split
    assert import_cohort(cohort, str(tmp_path / "manifest-1"), str(tmp_path / "p"), workers=1) == 0
    assert [c["case"] for c in fold_split(read_datalist(tmp_path / "p" / "datalist.json"), 0)[1]] == [
        c["case"] for c in val
    ]


def ccth(dicom: Any, root: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    x, y, z = np.mgrid[:40, :30, :12]
    organ = ((x - 20) / 14) ** 2 + ((y - 15) / 9) ** 2 + ((z - 6) / 4.3) ** 2 < 1
    tumour = ((x - 17) / 6) ** 2 + ((y - 14) / 5) ** 2 + ((z - 6) / 2.4) ** 2 < 1
    image = (200 + 300 * organ + 200 * tumour + x).astype(np.int16)
    for patient, times in (("CCTH-A01", 3), ("CCTH-B02", 1)):
        for time in range(1, times + 1):
            more = {"patient": {"PatientID": patient, "StudyDate": f"2005030{time}"}}
            folder = root / patient / f"03-0{time}-2005-NA-MRI"
            series = dicom.series(folder / "5.0-T2 SAG", image, dicom.affine("sagittal", (1.2, 1.5, 5)), **more)
            dicom.series(folder / "6.0-DWI", image, dicom.affine("axial"), description="DWI", **more)
            dicom.series(folder / "7.0-CT", image, modality="CT", **more)
            contours = [
                (1, "Contour 1", (0, 235, 235), dicom.outlines(tumour, series.affine)),
                (2, "Contour 1", (255, 0, 255), dicom.outlines(organ, series.affine)),
            ]
            dicom.rtstruct(folder / "9.0-RTSTRUCT" / "1-1.dcm", series, contours)
    return organ, tumour, series


def test_ccth_tells_rois_apart_by_colour_and_keeps_sagittal(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    organ, tumour, _ = ccth(dicom, tmp_path / "d" / "CCTH")
    assert import_cohort("ccth", str(tmp_path / "d"), str(tmp_path / "o"), workers=1) == 0
    content = json.loads((tmp_path / "o" / "datalist.json").read_text())
    assert (content["training"], content["modality"]) == ([], "MR")
    assert content["labels"] == {"0": "background", "1": "organ", "2": "tumor"}
    cases = read_datalist(tmp_path / "o" / "datalist.json", section="testing")
    assert sorted(c["case"].split("_")[1] for c in cases) == ["t1", "t1", "t2", "t3"]
    for case in cases:
        np.testing.assert_array_equal(voxels(case["label"]), organ.astype(int) + (organ & tumour))
        assert nib.aff2axcodes(read(case["label"]).affine) == ("P", "I", "R")
    assert "found 4 of the paper's 18 cases" in capsys.readouterr().out


def test_ccth_axial_parity_keeps_position_and_volume(dicom: Any, tmp_path: Path) -> None:
    organ, _, series = ccth(dicom, tmp_path / "d" / "CCTH")
    assert import_cohort("ccth", str(tmp_path / "d"), str(tmp_path / "o"), axial=True, workers=2) == 0
    case = read_datalist(tmp_path / "o" / "datalist.json", section="testing")[0]
    image, label = read(case["image"]), read(case["label"])
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), (0.469, 0.469, 5), atol=1e-4)
    np.testing.assert_allclose(image.affine, label.affine)
    assert image.shape == label.shape
    found = voxels(case["label"]) > 0
    volume = found.sum() * np.prod(nib.affines.voxel_sizes(image.affine))
    assert volume == pytest.approx(organ.sum() * 1.2 * 1.5 * 5, rel=0.05)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine
    centre = nib.affines.apply_affine(image.affine, np.argwhere(found).mean(axis=0))
    np.testing.assert_allclose(centre, nib.affines.apply_affine(to_ras, np.argwhere(organ).mean(axis=0)), atol=0.8)
    # the image moved with its label
    assert voxels(case["image"])[found].mean() > 480 > voxels(case["image"])[~found].mean()


def test_hold_out_keeps_its_choice_when_cases_are_added() -> None:
    cases: list[dict[str, Any]] = [{"case": f"c{i}", "patient": f"p{i}"} for i in range(200)]
    hold_out(cases, 0.15, 0)
    held = {c["case"] for c in cases if c["fold"] == 0}
    assert len(held) == 30
    more: list[dict[str, Any]] = [{"case": f"c{i}", "patient": f"p{i}"} for i in range(210)]
    hold_out(more, 0.15, 0)
    assert len(held - {c["case"] for c in more if c["fold"] == 0}) <= 3


def test_options_are_checked(tmp_path: Path, capsys: Any) -> None:
    for arguments, words in [
        (["nothing", str(tmp_path)], "choose one of ccth"),
        (["ribfrac", str(tmp_path / "none")], "is not a folder"),
        (["ribfrac", str(tmp_path)], "holds no scan of this data set"),
        (["totalsegmentator", str(tmp_path)], "holds no scan of this data set"),
        (["hnscc", str(tmp_path)], "holds no DICOM"),
        (["hnscc", str(tmp_path), "--axial"], "applies to ccth alone"),
        (["ccth", str(tmp_path), "--official_split"], "applies to totalsegmentator alone"),
    ]:
        assert (
            main(
                ["import_cohort", *arguments, str(tmp_path / "o")]
                if len(arguments) == 2
                else ["import_cohort", *arguments[:2], str(tmp_path / "o"), *arguments[2:]]
            )
            == 2
        )
        assert words in capsys.readouterr().err
