"""`import_nifti`: pairing, patients, formats, and a data set that grows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from custom_networks import CaseError, read_volume
from scripts.__main__ import main
from scripts.data.cohorts.import_nifti import import_nifti, label_names, patient_of, wildcards

AFFINE = np.array([[0.0, 0, 4, 10], [0.9, 0, 0, -20], [0, -0.8, 0, 5], [0, 0, 0, 1]])
SHAPE = (10, 12, 8)
PAIRED: dict[str, Any] = {
    "images": "*/t2*",
    "label_maps": "*/seg*",
    "labels": "{organ: 1, tumor: 2}",
    "patient": "(P[0-9]+)_",
    "workers": 1,
}


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.float32)


def label() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 2:8, 2:6] = 1
    array[4:6, 4:6, 3:5] = 2
    return array


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """As NIfTI by nibabel, as anything else by ITK, on the same grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(array, affine), path)
        return
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    volume = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    volume.SetSpacing(spacing.tolist())
    volume.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    volume.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(volume, str(path))


def hospital(folder: Path, suffix: str = ".nii.gz") -> Path:
    for i, name in enumerate(("P1_a", "P1_b", "P2_a")):
        save(folder / name / f"t2{suffix}", image(i))
        save(folder / name / f"seg{suffix}", label())
    return folder


def datalist(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "datalist.json").read_text()))


def outcomes(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "import_report.csv").open() as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_images_and_labels_are_paired_and_keep_their_voxels(tmp_path: Path, suffix: str) -> None:
    source = hospital(tmp_path / "in", suffix)
    options = {**PAIRED, "images": f"*/t2{suffix}", "label_maps": f"*/seg{suffix}"}
    assert import_nifti(str(source), str(tmp_path / "out"), **options) == 0
    content = datalist(tmp_path / "out")
    assert content["labels"] == {"0": "background", "1": "organ", "2": "tumor"}
    assert content["modality"] == "MR"
    assert [(case["case"], case["patient"]) for case in content["training"]] == [
        ("P1_a", "P1"),
        ("P1_b", "P1"),
        ("P2_a", "P2"),
    ]
    for i, case in enumerate(content["training"]):
        for key, expected in (("image", image(i)), ("label", label())):
            voxels, affine = read_volume(tmp_path / "out" / case[key], "a")
            np.testing.assert_array_equal(voxels, expected)
            np.testing.assert_allclose(affine, AFFINE, atol=1e-5)


def test_a_folder_alone_gives_unlabelled_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "in/a/one.nii.gz", image(0))
    save(tmp_path / "in/two.mha", image(1))
    (tmp_path / "in/notes.txt").write_text("x")
    assert import_nifti(str(tmp_path / "in"), str(tmp_path / "out"), patients="each", modality="CT", workers=1) == 0
    content = datalist(tmp_path / "out")
    assert [(c["case"], c["patient"], c.get("label")) for c in content["training"]] == [
        ("a_one", "a_one", None),
        ("two", "two", None),
    ]
    assert content["modality"] == "CT"
    assert capsys.readouterr().out.splitlines() == [
        "left out: files that are neither NIfTI nor NRRD nor MetaImage: 1 .txt.",
        f"2 cases of 2 patients imported, 0 refused; details in {tmp_path}/out/import_report.csv",
    ]


def test_what_cannot_be_used_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = hospital(tmp_path / "in")
    (source / "P1_b/t2.nii.gz").write_bytes(b"x" * 400)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    save(source / "P3_a/t2.nii.gz", image(3))
    save(source / "P3_a/seg.nii.gz", label(), moved)
    save(source / "P4_a/t2.nii.gz", image(4))
    save(source / "P4_a/seg.nii.gz", label() * 3)
    save(source / "P5_a/t2.nii.gz", image(5))
    save(source / "unknown/t2.nii.gz", image(6))
    save(source / "unknown/seg.nii.gz", label())
    save(source / "P7_a/t2.nii.gz", image(7))
    save(source / "P7_a/seg.nrrd", label().astype(np.float32) / 2)
    (source / "P8_a").mkdir()
    (source / "P8_a/t2.png").write_bytes(b"x")
    assert import_nifti(str(source), str(tmp_path / "out"), **PAIRED) == 0
    found = outcomes(tmp_path / "out")
    words = {
        "P1_b": "cannot be read",
        "P3_a": "different grids (apart by 2.00 mm)",
        "P4_a": "unknown label values [3, 6]",
        "P5_a": "no label map belongs to P5_a/t2.nii.gz",
        "unknown": "--patient finds nothing in unknown/t2.nii.gz",
        "P7_a": "holds values that are not whole numbers",
        "P8_a_.png": "t2.png is neither NIfTI nor NRRD nor MetaImage",
    }
    for case, text in words.items():
        assert found[case]["outcome"] == "refused"
        assert text in found[case]["finding"]
    assert [case["case"] for case in datalist(tmp_path / "out")["training"]] == ["P1_a", "P2_a"]
    # nothing of a refused case lies in the data set
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["P1_a.nii.gz", "P2_a.nii.gz"]


def test_a_data_set_grows_and_keeps_its_places(tmp_path: Path) -> None:
    source, output = hospital(tmp_path / "in"), tmp_path / "out"
    import_nifti(str(source), str(output), **PAIRED)
    content = datalist(output)
    for case in content["training"]:
        case["fold"] = {"P1": 3, "P2": 0}[case["patient"]]
    (output / "datalist.json").write_text(json.dumps(content))
    more = tmp_path / "more"
    save(more / "P2_b/t2.nii.gz", image(8))
    save(more / "P2_b/seg.nii.gz", label())
    save(more / "P9_a/t2.nii.gz", image(9))
    save(more / "P9_a/seg.nii.gz", label())
    import_nifti(str(more), str(output), **PAIRED, held_out=True)
    content = datalist(output)
    assert {c["case"]: c["fold"] for c in content["training"]} == {"P1_a": 3, "P1_b": 3, "P2_a": 0, "P2_b": 0}
    assert [c["case"] for c in content["testing"]] == ["P9_a"]
    with pytest.raises(CaseError, match="its labels are"):
        import_nifti(str(more), str(output), **{**PAIRED, "labels": "{uterus: 1, tumor: 2}"})
    assert datalist(output) == content


def test_files_that_lie_in_the_data_set_are_left_as_they_are(tmp_path: Path) -> None:
    save(tmp_path / "images/a.nii.gz", image(0))
    before = (tmp_path / "images/a.nii.gz").read_bytes()
    for copy in (False, True):
        assert (
            import_nifti(str(tmp_path), str(tmp_path), images="images/*.nii.gz", patients="each", copy=copy, workers=1)
            == 0
        )
        assert not (tmp_path / "images/a.nii.gz").is_symlink()
        assert (tmp_path / "images/a.nii.gz").read_bytes() == before


def test_links_or_copies(tmp_path: Path) -> None:
    source = hospital(tmp_path / "in")
    import_nifti(str(source), str(tmp_path / "a"), **PAIRED)
    import_nifti(str(source), str(tmp_path / "b"), **PAIRED, copy=True)
    assert (tmp_path / "a/labels/P1_a.nii.gz").is_symlink()
    assert not (tmp_path / "b/labels/P1_a.nii.gz").is_symlink()
    assert (tmp_path / "b/labels/P1_a.nii.gz").read_bytes() == (source / "P1_a/seg.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patient": ""}, "nothing says which images are of one patient; pass --patient"),
        ({"patient": "("}, "is not a regular expression"),
        ({"patients": "all"}, "there is no --patients all"),
        ({"modality": "PET"}, "with --modality PET"),
        ({"labels": ""}, "--label_maps and --labels belong together"),
        ({"label_maps": "labels/*"}, "have not the same number of wildcards"),
        ({"images": "*/adc*"}, r"holds no \*/adc\*"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        import_nifti(str(hospital(tmp_path / "in")), str(tmp_path / "out"), **{**PAIRED, **options})
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_told_apart_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "in/a/b.nii.gz", image(0))
    save(tmp_path / "in/a_b.nii.gz", image(1))
    assert import_nifti(str(tmp_path / "in"), str(tmp_path / "out"), patients="each", workers=1) == 1
    assert "is not the only image called a_b" in (tmp_path / "out/import_report.csv").read_text()


def test_the_command_line(tmp_path: Path) -> None:
    source = hospital(tmp_path / "in")
    command = ["import_nifti", str(source), str(tmp_path / "out"), "--images", "*/t2.nii.gz", "--patient", "(P[0-9]+)_"]
    assert main([*command, "--label_maps", "*/seg.nii.gz", "--labels", "{organ: 1, organ: 2}"]) == 2
    assert main([*command, "--label_maps", "*/seg.nii.gz", "--labels", "{organ: 1, tumor: 2}"]) == 0
    assert len(datalist(tmp_path / "out")["training"]) == 3


def test_label_names() -> None:
    assert label_names("{organ: 1, tumor: 2}") == {0: "background", 1: "organ", 2: "tumor"}
    assert label_names("{'HR-CTV': 1, \"bladder\": 4}") == {0: "background", 1: "HR-CTV", 4: "bladder"}
    assert label_names("") == {}
    for text in ("{organ: 1, Organ: 2}", "{organ: 1, tumor: 1}", "{organ: one}", "{organ: -1}", "organ"):
        with pytest.raises(CaseError, match=r"^--labels: "):
            label_names(text)


def test_wildcards_stay_within_a_folder() -> None:
    assert wildcards("*/t2_?.nii").fullmatch("P1/t2_a.nii").groups() == ("P1", "a")  # type: ignore[union-attr]
    assert wildcards("*.nii").fullmatch("a/b.nii") is None
    assert wildcards("**/x.nii").fullmatch("a/b/x.nii").groups() == ("a/b/",)  # type: ignore[union-attr]
    assert wildcards("**/x.nii").fullmatch("x.nii") is not None
    assert wildcards("a.nii").fullmatch("aXnii") is None


def test_the_patient_is_the_named_group_the_first_or_all() -> None:
    import re

    assert patient_of("s1/P7_x", re.compile(r"(?P<visit>s\d)/(?P<patient>P\d)")) == "P7"
    assert patient_of("s1/P7_x", re.compile(r"(P\d)_(x)")) == "P7"
    assert patient_of("s1/P7_x", re.compile(r"P\d")) == "P7"
    assert patient_of("s1/P7_x", re.compile(r"Q(\d)")) == ""
