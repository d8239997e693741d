"""The verb: label map and series in, RTSTRUCT and SEG out, the same structures read back by import_dicom's reader."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rasterise import contours_to_mask
from scripts.core.dicom.rtstruct import read_rtstruct
from scripts.core.dicom.seg import read_seg, segment_to_mask
from scripts.core.dicom.source import read_source
from scripts.core.files import write_nifti
from scripts.sharing.contours.contours import contours, label_names, write_contours
from scripts.sharing.contours.place import RAS_TO_LPS, on_series

SHAPE = (30, 26, 8)
TUMOR_BUNDLE = str(Path(__file__).parents[4] / "bundles/tumor_pocketnet")


def label_map() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[5:25, 4:22, 1:7] = 1
    found[9:14, 8:15, 2:5] = 2
    return found


@pytest.fixture
def series(dicom: Any, tmp_path: Path) -> Any:
    def edit(ds: Any, _: int) -> None:
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyTime = ds.StudyID = ""
        ds.ReferringPhysicianName = ""

    return dicom.series(tmp_path / "mr", np.zeros(SHAPE, np.int16), dicom.affine("sagittal"), edit=edit)


@pytest.fixture
def nifti(series: Any, tmp_path: Path) -> Path:
    """As `import_dicom` and the bundles leave it: closest to RAS."""
    image = nib.Nifti1Image(label_map(), RAS_TO_LPS @ series.affine)
    turned = nib.as_closest_canonical(image)
    return write_nifti(tmp_path / "label.nii.gz", np.asarray(turned.dataobj), turned.affine)


def test_both_formats_hold_the_label_map(series: Any, nifti: Path, tmp_path: Path, capsys: Any) -> None:
    assert contours(str(nifti), str(tmp_path / "mr"), str(tmp_path / "out"), bundle=TUMOR_BUNDLE) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out/rtstruct.dcm"), str(tmp_path / "out/seg.dcm")]
    source = read_source(series.files, "case")
    organ, tumor = label_map() > 0, label_map() == 2
    structures = read_rtstruct(tmp_path / "out/rtstruct.dcm")
    assert [roi.name for roi in structures.rois] == ["Organ_Gyn", "GTVp"]
    for roi, mask in zip(structures.rois, (organ, tumor), strict=True):
        found = contours_to_mask("case", roi.contours, source.affine, source.shape)
        np.testing.assert_array_equal(found.array, mask)
    seg = tmp_path / "out/seg.dcm"
    assert [roi.name for roi in read_seg(seg).rois] == ["organ", "tumor"]
    for number, mask in enumerate((organ, tumor), 1):
        np.testing.assert_array_equal(segment_to_mask("c", seg, number, source.affine, source.shape).array, mask)


def test_nothing_of_the_patient_is_printed(dicom: Any, tmp_path: Path, capfd: Any, recwarn: Any) -> None:
    """Libraries warn about odd names and repeat them."""

    def edit(ds: Any, _: int) -> None:
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyTime = ""
        ds.StudyID, ds.ReferringPhysicianName = "a study id beyond sixteen", "Doktor Nachname"

    patient = {"PatientName": "Onlyone Component", "PatientID": "4711"}
    written = dicom.series(tmp_path / "mr", np.zeros(SHAPE, np.int16), patient=patient, edit=edit)
    nifti = write_nifti(tmp_path / "label.nii.gz", label_map(), RAS_TO_LPS @ written.affine)
    contours(str(nifti), str(tmp_path / "mr"), str(tmp_path / "out"), bundle=TUMOR_BUNDLE)
    out, err = capfd.readouterr()
    said = out + err + " ".join(str(w.message) for w in recwarn)
    assert not [word for word in ("Onlyone", "4711", "beyond", "Nachname") if word in said]


def test_nothing_found_is_an_rtstruct_without_contours_and_no_seg(series: Any, tmp_path: Path) -> None:
    source = read_source(series.files, "case")
    nothing = np.zeros(source.shape, np.int32)
    assert write_contours(tmp_path / "out", nothing, source, {1: "bladder"}) == [tmp_path / "out/rtstruct.dcm"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["rtstruct.dcm"]


def test_names_and_formats_are_the_users(series: Any, nifti: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"tumor": "GTV_T2"}')
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"0": "background", "1": "Niere", "2": "tumor"}}))
    out = tmp_path / "out"
    contours(
        str(nifti),
        str(tmp_path / "mr"),
        str(out),
        labels=str(tmp_path / "labels.json"),
        formats=["rtstruct"],
        names=str(tmp_path / "names.json"),
    )
    assert [roi.name for roi in read_rtstruct(out / "rtstruct.dcm").rois] == ["Niere", "GTV_T2"]
    assert [p.name for p in out.iterdir()] == ["rtstruct.dcm"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("plastimatch"), reason="plastimatch is not installed")
@pytest.mark.parametrize("view", ["axial", "sagittal", "oblique"])
def test_plastimatch_reads_the_same_voxels(view: str, dicom: Any, tmp_path: Path) -> None:
    """An independent reader; it fills holes, so the shape has none."""
    written = dicom.series(tmp_path / "ct", np.zeros(SHAPE, np.int16), dicom.affine(view), modality="CT")
    nifti = write_nifti(tmp_path / "label.nii.gz", label_map(), RAS_TO_LPS @ written.affine)
    contours(str(nifti), str(tmp_path / "ct"), str(tmp_path), bundle=TUMOR_BUNDLE, formats=["rtstruct"])
    command = ["plastimatch", "convert", "--input", str(tmp_path / "rtstruct.dcm"), "--prefix-format", "nii.gz"]
    command += ["--referenced-ct", str(tmp_path / "ct"), "--output-prefix", str(tmp_path / "read")]
    subprocess.run(command, check=True, capture_output=True)
    for name, mask in (("Organ_Gyn", label_map() > 0), ("GTVp", label_map() == 2)):
        image: Any = nib.load(tmp_path / f"read/{name}.nii.gz")
        back = on_series("case", np.asarray(image.dataobj), image.affine, read_source(written.files, "case")) > 0
        assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) >= 0.97


@pytest.mark.parametrize(
    "text", ['{"labels": {"0": "background", "1": "organ"}}', '{"labels": {"organ": 1, "background": 0}}']
)
def test_names_are_those_of_a_datalist_however_it_writes_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text("\ufeff" + text, encoding="utf-8")
    assert label_names(None, str(tmp_path / "labels.json")) == {0: "background", 1: "organ"}


def test_refusals(series: Any, nifti: Path, dicom: Any, tmp_path: Path) -> None:
    folder, out = str(tmp_path / "mr"), str(tmp_path / "out")
    with pytest.raises(CaseError, match="--bundle or --labels"):
        contours(str(nifti), folder, out)
    with pytest.raises(CaseError, match="dxf is not known"):
        contours(str(nifti), folder, out, bundle=TUMOR_BUNDLE, formats=["dxf"])
    (tmp_path / "labels.json").write_text('{"labels": {"1": "organ"}}')
    with pytest.raises(CaseError, match=r"holds \[2\]"):
        contours(str(nifti), folder, out, labels=str(tmp_path / "labels.json"))
    with pytest.raises(CaseError, match="no image series"):
        contours(str(nifti), str(tmp_path / "nowhere"), out, bundle=TUMOR_BUNDLE)
    with pytest.raises(CaseError, match=r"metadata\.json: the file does not exist"):
        contours(str(nifti), folder, out, bundle=str(tmp_path))
    for text, said in (
        ('{"training": []}', "no names of labels"),
        ('{"labels": {"1": "a", "2": "a"}}', "different names"),
    ):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(CaseError, match=said):
            contours(str(nifti), folder, out, labels=str(tmp_path / "labels.json"))
    second = dicom.series(tmp_path / "mr/b", np.zeros(SHAPE, np.int16))
    with pytest.raises(CaseError, match="2 image series"):
        contours(str(nifti), folder, out, bundle=TUMOR_BUNDLE)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CaseError, match="outside the series"):
        contours(str(nifti), folder, out, bundle=TUMOR_BUNDLE, series_uid=second.uid)
