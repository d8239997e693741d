from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks import check_cases, read_datalist
from scripts.__main__ import main
from scripts.data.dicom.import_dicom import import_dicom
from scripts.data.phantom.canvas import Protocol
from scripts.data.phantom.mr import make_mr_case

X, Y, Z = np.mgrid[:24, :18, :10]
IMAGE = (X * 7 + Y * 3 + Z).astype(np.int16)
ORGAN = ((X - 12) / 8) ** 2 + ((Y - 9) / 6) ** 2 + ((Z - 5) / 3.4) ** 2 < 1
TUMOUR = ((X - 12) / 4) ** 2 + ((Y - 9) / 3) ** 2 + ((Z - 5) / 2.4) ** 2 < 1
LABELS = {"organ": "uterus", "tumor": "GTV"}
CYAN, MAGENTA = (0, 235, 235), (255, 0, 255)


def rois(dicom: Any, affine: np.ndarray, names: tuple[str, str] = ("Uterus", "gtv_T")) -> list[Any]:
    return [(1, names[0], MAGENTA, dicom.outlines(ORGAN, affine)), (2, names[1], CYAN, dicom.outlines(TUMOUR, affine))]


def labelled(
    dicom: Any, folder: Path, patient: str = "P1", date: str = "20200101", view: str = "sagittal", **more: Any
) -> Any:
    series = dicom.series(
        folder / "T2", IMAGE, dicom.affine(view), patient={"PatientID": patient, "StudyDate": date}, **more
    )
    dicom.rtstruct(folder / "RT" / "s.dcm", series, rois(dicom, series.affine))
    return series


def report(output: Path) -> list[dict[str, str]]:
    with (output / "import_report.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def voxels(path: str) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj)


def test_tree_becomes_a_datalist_that_passes_the_check(dicom: Any, tmp_path: Path) -> None:
    tree, output = tmp_path / "export", tmp_path / "mr"
    labelled(dicom, tree / "b" / "late", "P1", "20200301")
    first = labelled(dicom, tree / "a" / "early", "P1", "20200101")
    labelled(dicom, tree / "c", "P2")
    # what an export also holds
    dicom.series(tree / "pet", IMAGE, modality="PT", patient={"PatientID": "P1"})
    dicom.series(tree / "scout", IMAGE, description="3-plane LOCALIZER", patient={"PatientID": "P1"})
    dicom.series(tree / "short", IMAGE[:, :, :3], patient={"PatientID": "P1"})
    dicom.series(tree / "dwi", IMAGE, description="DWI", patient={"PatientID": "P1"})
    dicom.series(tree / "undrawn", IMAGE, patient={"PatientID": "P2"})
    (tree / "copy.dcm").write_bytes(first.files[0].read_bytes())
    (tree / "notes.txt").write_text("not DICOM")
    labels = "{organ: 'uterus|cervix', tumor: '^GTV'}"
    assert (
        main(["import_dicom", str(tree), str(output), "--labels", labels, "--description", "T2", "--workers", "2"]) == 0
    )
    content = json.loads((output / "datalist.json").read_text())
    assert content["labels"] == {"0": "background", "1": "organ", "2": "tumor"}
    assert (content["name"], content["modality"]) == ("mr", "MR")
    cases = read_datalist(output / "datalist.json")
    assert len(cases) == 3
    assert sorted(c["case"].split("_", 1)[1] for c in cases) == ["t1", "t1", "t2"]
    assert {c["case"].split("_")[0] == c["patient"] for c in cases} == {True}
    assert check_cases(cases, labels=[0, 1, 2], workers=1) == []
    for case in cases:
        np.testing.assert_array_equal(voxels(case["image"]), IMAGE)
        np.testing.assert_array_equal(voxels(case["label"]), ORGAN.astype(int) + (ORGAN & TUMOUR))
    rows = report(output)
    assert [r["outcome"] for r in rows].count("imported") == 3
    found = " ".join(r["finding"] + r["notes"] for r in rows)
    for words in (
        "PET",
        "scout",
        "fewer than 8 slices",
        "--description",
        "no RTSTRUCT or SEG refers to it",
        "1 duplicate",
    ):
        assert words in found
    early = json.loads((tmp_path / "mr_pseudonyms.json").read_text())["series"][first.uid]
    assert early["case"].endswith("_t1")


@pytest.mark.parametrize(
    "spec", [{"organ": "#1", "tumor": "#2"}, {"organ": "rgb(255,0,255)", "tumor": "rgb(0,235,235)"}]
)
def test_two_rois_of_one_name_are_told_apart(dicom: Any, tmp_path: Path, spec: dict[str, str]) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE, dicom.affine("sagittal"))
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine, ("Contour", "Contour")))
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), spec, workers=1) == 0
    (case,) = read_datalist(tmp_path / "o" / "datalist.json")
    np.testing.assert_array_equal(voxels(case["label"]), ORGAN.astype(int) + (ORGAN & TUMOUR))


def test_later_label_wins_whatever_the_order_of_rois(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine)[::-1])
    import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), {"tumor": "gtv", "organ": "uterus"}, workers=1)
    (row,) = report(tmp_path / "o")
    assert row["outcome"] == "imported"
    assert row["notes"] == "label 'tumor' has no voxels in the label map"


def test_structure_set_is_found_by_images_or_frame_of_reference(dicom: Any, tmp_path: Path) -> None:
    for reference in ("images", "frame"):
        series = dicom.series(tmp_path / reference / "i", IMAGE)
        dicom.rtstruct(tmp_path / reference / "s.dcm", series, rois(dicom, series.affine), reference=reference)
        assert import_dicom(str(tmp_path / reference), str(tmp_path / "o"), LABELS, workers=1) == 0
    assert "frame of reference alone" in report(tmp_path / "o")[0]["notes"]
    dicom.series(tmp_path / "frame" / "j", IMAGE, frame=series.frame)
    assert import_dicom(str(tmp_path / "frame"), str(tmp_path / "o"), LABELS, workers=1) == 1


def test_a_series_cut_at_its_end_is_told_through_its_contours(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine), reference="images")
    series.files[0].unlink()
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, workers=1) == 0
    assert report(tmp_path / "o")[0]["notes"] == "1 images that its contours were drawn on are not in the folder"


def test_structure_set_can_be_chosen(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    for label in ("reader1", "reader2"):
        dicom.rtstruct(tmp_path / "e" / f"{label}.dcm", series, rois(dicom, series.affine), label=label)
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, workers=1) == 1
    assert "label 'organ' is in 2 structure sets" in report(tmp_path / "o")[0]["finding"]
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, structure_set="reader2", workers=1) == 0


def test_one_bad_case_is_refused_and_the_rest_goes_on(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    tree = tmp_path / "e"
    labelled(dicom, tree / "good", "P1")
    labelled(dicom, tree / "gap", "P2", edit=lambda ds, z: z != 4)
    series = dicom.series(tree / "noroi", IMAGE, patient={"PatientID": "P3"})
    dicom.rtstruct(tree / "noroi" / "s.dcm", series, rois(dicom, series.affine, ("Uterus", "rectum")))
    orphan = dicom.series(tmp_path / "elsewhere", IMAGE)
    dicom.rtstruct(tree / "orphan.dcm", orphan, rois(dicom, orphan.affine))
    series = dicom.series(tree / "tilted", IMAGE, patient={"PatientID": "P4"})
    dicom.rtstruct(tree / "tilted" / "s.dcm", series, rois(dicom, dicom.affine("sagittal")))
    clash = labelled(
        dicom, tree / "clash", "P5", edit=lambda ds, z: setattr(ds, "SOPInstanceUID", "1.2.3") if z < 2 else None
    )
    (tree / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\x10\0UI\xff\xff1.2")
    (tree / "more.zip").write_bytes(b"PK")
    damaged = labelled(dicom, tree / "cut", "P6")
    damaged.files[3].write_bytes(damaged.files[3].read_bytes()[:-300])
    dicom.series(tree / "flat", np.zeros_like(IMAGE), study=clash.study)
    assert import_dicom(str(tree), str(tmp_path / "o"), LABELS, workers=1) == 0
    rows = report(tmp_path / "o")
    assert [r["outcome"] for r in rows].count("imported") == 1
    refusals = {r["finding"]: r["remedy"] for r in rows if r["outcome"] == "refused"}
    for words in (
        "1 slices are missing",
        "no ROI matches label 'tumor'",
        "drawn on a series that is not in the folder",
        "contours",
        "share one SOPInstanceUID",
        "cannot be read as DICOM",
        "archive was not opened",
        "pixels of an",
    ):
        assert any(words in finding for finding in refusals), words
    assert all(refusals.values())
    assert "1 cases of 1 patients imported, 8 refused" in capsys.readouterr().out


def test_missing_labels_can_be_allowed(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e", IMAGE)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine, ("Uterus", "rectum")))
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, workers=1) == 1
    assert not (tmp_path / "o" / "datalist.json").exists()
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, allow_missing=True, workers=1) == 0


def test_unlabelled_series_of_one_modality(dicom: Any, tmp_path: Path) -> None:
    def hounsfield(ds: Any, z: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024

    dicom.series(tmp_path / "e" / "ct", IMAGE, modality="CT", edit=hounsfield)
    dicom.series(tmp_path / "e" / "mr", IMAGE)
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), modality="CT", workers=1) == 0
    (case,) = read_datalist(tmp_path / "o" / "datalist.json")
    assert "label" not in case
    np.testing.assert_array_equal(voxels(case["image"]), IMAGE - 1024)


def test_the_other_modality_is_told_with_the_option_that_takes_it(dicom: Any, tmp_path: Path, capsys: Any) -> None:
    labelled(dicom, tmp_path / "e" / "mr", "P1")
    dicom.series(tmp_path / "e" / "ct", IMAGE, modality="CT", patient={"PatientID": "P1"})
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), labels=LABELS, workers=1) == 0
    assert "it is CT (--modality CT takes it), not MR" in capsys.readouterr().out


def test_second_import_keeps_names(dicom: Any, tmp_path: Path) -> None:
    labelled(dicom, tmp_path / "e" / "a", "P1")
    import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, workers=1)
    before = read_datalist(tmp_path / "o" / "datalist.json")[0]["case"]
    labelled(dicom, tmp_path / "e" / "0", "P0")
    import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), LABELS, workers=1)
    assert before in {c["case"] for c in read_datalist(tmp_path / "o" / "datalist.json")}


PLANTED = {
    "PatientName": "PLANTED^JANE",
    "PatientID": "PLANTED-4711",
    "PatientBirthDate": "19390712",
    "StudyDate": "19870605",
    "StudyTime": "121314",
    "AccessionNumber": "PLANTED-ACC-99",
    "StudyID": "PLANTED-STUDY",
    "SeriesDate": "19870606",
    "ReferringPhysicianName": "PLANTED^DOCTOR",
    "InstitutionName": "PLANTED CLINIC",
    "PatientAddress": "PLANTED STREET 5",
    "OtherPatientNames": "PLANTED^OTHER",
    "StudyDescription": "PLANTED study",
    "PatientComments": "PLANTED comment",
    "IssuerOfPatientID": "PLANTED-ISSUER",
}
MARKS = [b"PLANTED", b"planted", b"4711", b"19390712", b"19870605", b"19870606", b"121314", b"ACC-99", b"JANE"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nothing_that_identifies_a_patient_leaves_the_table(
    dicom: Any, tmp_path: Path, capfd: Any, caplog: Any, recwarn: Any, workers: str
) -> None:
    tree, output = tmp_path / "e", tmp_path / "o"
    folder = tree / "PLANTED_JANE" / "19870605"
    names = ("PLANTED Uterus JANE", "gtv PLANTED 4711")

    def spoil(ds: Any, z: int) -> bool:
        # values that pydicom warns of and repeats
        ds.StudyDate, ds.FrameOfReferenceUID = "PLANTED-19390712", "PLANTED not a uid"
        return z != 4

    good = dicom.series(folder / "good", IMAGE, patient=PLANTED, description="T2 PLANTED")
    dicom.rtstruct(folder / "good" / "PLANTED.dcm", good, rois(dicom, good.affine, names))
    gap = dicom.series(folder / "gap", IMAGE, patient=PLANTED, edit=spoil)
    dicom.rtstruct(folder / "gap" / "s.dcm", gap, rois(dicom, gap.affine, names), reference="images")
    miss = dicom.series(folder / "miss", IMAGE, patient=PLANTED)
    dicom.rtstruct(folder / "miss" / "s.dcm", miss, rois(dicom, miss.affine, ("PLANTED", "JANE")))
    for name, number in (("PLANTED^JANE", "PLANTED-4711"), ("ANON", "ANON"), ("PLANTED^JANE", "PLANTED-4712")):
        # mixed kernels, an id that stands for all, two ids of one person
        patient = {**PLANTED, "PatientName": name, "PatientID": number}
        kernel = lambda ds, z: setattr(ds, "ConvolutionKernel", f"PLANTED {z % 2}")  # noqa: E731
        mixed = dicom.series(folder / f"mixed{number}", np.repeat(IMAGE, 2, 2), patient=patient, edit=kernel)
        dicom.rtstruct(folder / f"mixed{number}.dcm", mixed, rois(dicom, mixed.affine, names))
    orphan = dicom.series(tmp_path / "x", IMAGE, patient=PLANTED)
    dicom.rtstruct(folder / "orphan" / "PLANTED.dcm", orphan, rois(dicom, orphan.affine, names))
    (folder / "PLANTED_broken.dcm").write_bytes(b"\0" * 128 + b"DICMPLANTED^JANE")
    (folder / "PLANTED.zip").write_bytes(b"PK")
    assert "PLANTED" in caplog.text
    caplog.clear()
    recwarn.clear()
    caplog.set_level(0)
    status = main(["import_dicom", str(tree), str(output), "--labels", str(LABELS), "--workers", workers])
    screen = capfd.readouterr()
    assert status == 0
    assert "5 cases of 2 patients imported, 7 refused" in screen.out
    told = [
        screen.out.encode(),
        screen.err.encode(),
        caplog.text.encode(),
        "".join(str(w.message) for w in recwarn).encode(),
    ]
    files = [p for p in output.rglob("*") if p.is_file()]
    # images, labels, datalist, report, the record of the run, lock files
    assert len(files) == 15
    for file in files:
        told.append(str(file.relative_to(tmp_path)).encode())
        told.append(file.read_bytes())
        if file.suffix == ".gz":
            told.append(gzip.decompress(file.read_bytes()))
    uids = [str(uid).encode() for s in (good, gap, miss, orphan) for uid in (s.uid, s.study, s.frame, *s.sops)]
    for text in told:
        assert not [mark for mark in MARKS + uids if mark in text]
    table = tmp_path / "o_pseudonyms.json"
    assert table.stat().st_mode & 0o777 == 0o600
    assert b"PLANTED-4711" in table.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".o_pseudonyms.json.lock", "e", "o", "o_pseudonyms.json", "x"]


NAUGHTY = [
    "../../../etc/x GTV",
    "GTV'\"; rm -rf /; $(x) `y`",
    "GTV\0GTV",
    "GTV" * 100,
    'GTV\n\r\t,;"',
    "=GTV()",
    "GTVüß漢字",
    "",
]


@pytest.mark.parametrize("name", NAUGHTY)
def test_roi_names_do_no_harm(dicom: Any, tmp_path: Path, name: str) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    encode = (lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 192")) if not name.isascii() else None
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine, ("Uterus", name)), edit=encode)
    spec = {"organ": "uterus", "tumor": "GTV" if name else "#2"}
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "deep" / "o"), spec, workers=1) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"e", "deep"}
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"o", "o_pseudonyms.json", ".o_pseudonyms.json.lock"}
    assert len(report(tmp_path / "deep" / "o")) == 1


def test_structure_sets_without_images_are_told(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "x", IMAGE)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine))
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), workers=1) == 1
    assert report(tmp_path / "o")[0]["finding"] == "the folder holds structure sets but no images"


def test_segments_of_a_seg_become_labels(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE, dicom.affine("sagittal"))
    stack = np.stack([ORGAN, TUMOUR], -1).transpose(2, 1, 0, 3).astype(np.uint8)
    dicom.seg(series.files, stack, tmp_path / "e" / "seg.dcm")
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), {"organ": "uterus", "tumor": "#2"}, workers=1) == 0
    (case,) = read_datalist(tmp_path / "o" / "datalist.json")
    np.testing.assert_array_equal(voxels(case["label"]), ORGAN.astype(int) + (ORGAN & TUMOUR))


def test_rois_that_match_twice_are_told(dicom: Any, tmp_path: Path) -> None:
    series = dicom.series(tmp_path / "e" / "i", IMAGE)
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, rois(dicom, series.affine, ("cervix", "cervix tumour")))
    spec = {"organ": "cervix", "tumor": "tumour"}
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), spec, workers=1) == 0
    notes = report(tmp_path / "o")[0]["notes"]
    assert (
        notes == "label 'organ' is the union of 2 ROIs; 1 ROIs match 'organ' and 'tumor'; the latter has their voxels"
    )


def test_real_export_equals_the_independent_voxelisation(samples: Path, tmp_path: Path) -> None:
    assert import_dicom(str(samples / "rtstruct"), str(tmp_path / "o"), {"tumor": "GTV_Mass"}, workers=1) == 0
    found = {voxels(c["label"]).sum(): c for c in read_datalist(tmp_path / "o" / "datalist.json")}
    assert len(found) == 2
    for name in ("sts_002", "sts_003"):
        label = voxels(str(samples / "sts_t1" / "labels" / f"{name}.nii.gz"))
        case = found[int(label.sum())]
        np.testing.assert_array_equal(voxels(case["label"]), label)
        np.testing.assert_array_equal(
            voxels(case["image"]), voxels(str(samples / "sts_t1" / "images" / f"{name}.nii.gz"))
        )


@pytest.mark.parametrize("seed", [3, 8])
def test_phantom_as_dicom_reads_back(dicom: Any, tmp_path: Path, seed: int) -> None:
    """Sagittal, not square, organ as a ring round the tumour, both ROIs of one name, told apart by colour."""
    case = make_mr_case(seed, protocol=Protocol("sagittal", spacing=1.4, thickness=5.0))
    image, label = case.image[:, 8:-12], case.label[:, 8:-12]
    shift = np.eye(4)
    shift[1, 3] = 8
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.affine @ shift
    series = dicom.series(tmp_path / "e" / "i", image, affine)
    drawn = [
        (4, "Contour", CYAN, dicom.outlines(label == 2, affine)),
        (5, "Contour", MAGENTA, dicom.outlines(label == 1, affine)),
    ]
    dicom.rtstruct(tmp_path / "e" / "s.dcm", series, drawn)
    spec = {"organ": "rgb(255,0,255)", "tumor": "rgb(0,235,235)"}
    assert import_dicom(str(tmp_path / "e"), str(tmp_path / "o"), spec, workers=1) == 0
    (entry,) = read_datalist(tmp_path / "o" / "datalist.json")
    expected = nib.as_closest_canonical(nib.Nifti1Image(label, case.affine @ shift))
    found = nib.as_closest_canonical(nib.load(entry["label"]))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
    for value in (1, 2):
        a, b = np.asanyarray(found.dataobj) == value, np.asanyarray(expected.dataobj) == value
        assert b.any(axis=(1, 2)).sum() >= 2
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.98


def test_the_manifest_of_an_import_names_nobody(dicom: Any, tmp_path: Path, capfd: Any) -> None:
    """Folder, labels and patterns of the command line, and what a refusal says, may hold what DICOM holds."""
    tree, out = tmp_path / "PLANTED_JANE" / "19870605", tmp_path / "o"
    series = dicom.series(tree / "good", IMAGE, patient=PLANTED, description="T2 PLANTED")
    dicom.rtstruct(tree / "good" / "PLANTED.dcm", series, rois(dicom, series.affine, ("PLANTED Uterus", "gtv 4711")))
    words = ["import_dicom", str(tree), str(out), "--labels", "{organ: 'PLANTED uterus', tumor: 'gtv 4711'}"]
    assert main([*words, "--description", "PLANTED", "--workers", "1"]) == 0
    content = (out / "run.json").read_bytes()
    assert json.loads(content)["options"]["labels"] == "not recorded"
    assert not [mark for mark in MARKS if mark in content]
    (out / "run.json").unlink()
    assert main([*words, "--structure_set", "PLANTED JANE (", "--workers", "1"]) == 2
    capfd.readouterr()
    assert not [mark for mark in MARKS if mark in (out / "run.json").read_bytes()]
