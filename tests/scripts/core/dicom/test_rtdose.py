"""RTDOSE in every form that real systems write, and the ones that must not become a dose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from custom_networks.errors import CaseError
from scripts.core.dicom.rtdose import Dose, check_frame, read_rtdose, whole_dose
from tests.rtdose_files import SCALING, plan_reference, rtdose, stored_dose

FRAMES = 5
OBLIQUE = (0.96, 0.28, 0, -0.2688, 0.9216, -0.28)


def in_place(dose: Dose, index: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(dose.affine @ [*index, 1])[:3]


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("implicit", [True, False])
def test_values_are_exact_to_the_stored_number(tmp_path: Path, bits: int, implicit: bool) -> None:
    stored = stored_dose(bits)
    dose = read_rtdose(rtdose(tmp_path / "d.dcm", stored, bits=bits, implicit=implicit), "c")
    np.testing.assert_array_equal(dose.array, stored.astype(np.float64) * SCALING)
    np.testing.assert_allclose(in_place(dose, (2, 3, 4)), [-10 + 2 * 2.5, 20 + 3 * 2.0, 30 + 4 * 3.0])
    assert (dose.frame, dose.summation, dose.plan, dose.notes) == ("1.2.3", "PLAN", "1.2.7", [])
    np.testing.assert_allclose(dose.ras[:3, 3], [10, -20, 30])


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), OBLIQUE])
@pytest.mark.parametrize("sign", [1, -1])
def test_relative_offsets_run_along_the_normal(tmp_path: Path, orientation: tuple[float, ...], sign: int) -> None:
    stored = stored_dose()
    offsets = [sign * 3.0 * k for k in range(FRAMES)]
    dose = read_rtdose(rtdose(tmp_path / "d.dcm", stored, orientation=orientation, offsets=offsets), "c")
    normal = np.cross(orientation[:3], orientation[3:])
    for k in range(FRAMES):
        place = np.array([-10, 20, 30]) + offsets[k] * normal
        index = k if sign > 0 else FRAMES - 1 - k
        np.testing.assert_allclose(in_place(dose, (0, 0, index)), place, atol=1e-9)
        np.testing.assert_array_equal(dose.array[:, :, index], stored[:, :, k] * SCALING)
    assert np.linalg.det(dose.affine[:3, :3]) > 0


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_absolute_offsets_are_z(tmp_path: Path, orientation: tuple[float, ...], sign: int) -> None:
    stored = stored_dose()
    offsets = [30 + sign * 3.0 * k for k in range(FRAMES)]
    dose = read_rtdose(rtdose(tmp_path / "d.dcm", stored, orientation=orientation, offsets=offsets), "c")
    for k, z in enumerate(offsets):
        index = next(i for i in range(FRAMES) if abs(in_place(dose, (0, 0, i))[2] - z) < 1e-6)
        np.testing.assert_array_equal(dose.array[:, :, index], stored[:, :, k] * SCALING)


def test_frames_in_any_order_are_put_in_theirs(tmp_path: Path) -> None:
    stored = stored_dose()
    dose = read_rtdose(rtdose(tmp_path / "d.dcm", stored, offsets=[0, 6, 3, 12, 9]), "c")
    np.testing.assert_array_equal(dose.array, stored[:, :, [0, 2, 1, 4, 3]] * SCALING)


def test_compressed_pixels_are_read(tmp_path: Path) -> None:
    stored = stored_dose(16)
    file = rtdose(tmp_path / "d.dcm", stored, bits=16, implicit=False)
    ds = pydicom.dcmread(file)
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(file)
    np.testing.assert_array_equal(read_rtdose(file, "c").array, stored * SCALING)


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"DoseUnits": "RELATIVE"}, "DoseUnits RELATIVE, not GY"),
        ({"DoseUnits": None}, "DoseUnits missing"),
        ({"DoseType": "EFFECTIVE"}, "DoseType EFFECTIVE, not PHYSICAL"),
        ({"DoseType": "ERROR"}, "DoseType ERROR"),
        ({"DoseGridScaling": None}, "no positive DoseGridScaling"),
        ({"DoseGridScaling": 0}, "no positive DoseGridScaling"),
        ({"DoseGridScaling": -1}, "no positive DoseGridScaling"),
        ({"DoseSummationType": None}, "no DoseSummationType"),
        ({"FrameOfReferenceUID": None}, "no frame of reference"),
        ({"Modality": "CT"}, "is no RTDOSE"),
        ({"GridFrameOffsetVector": None}, "no GridFrameOffsetVector of 5"),
        ({"GridFrameOffsetVector": [0, 3, 6, 9]}, "no GridFrameOffsetVector of 5"),
        ({"GridFrameOffsetVector": [0, 3, 6, 9, 15]}, r"uneven frames \(3.00 to 6.00 mm"),
        ({"GridFrameOffsetVector": [0, 3, 3, 6, 9]}, "uneven frames"),
        ({"GridFrameOffsetVector": [17, 20, 23, 26, 29]}, "begin neither at 0 nor at the z"),
        (
            {"ImageOrientationPatient": list(OBLIQUE), "GridFrameOffsetVector": [30, 33, 36, 39, 42]},
            "begin neither at 0 nor at the z",
        ),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, -1, 0], "ImagePositionPatient": [0, 0, 0]},
            "z or as distances, which run against each other",
        ),
        ({"ImagePositionPatient": None}, "has no place: an image lacks a readable position"),
        ({"PixelSpacing": None}, "lacks a positive pixel spacing"),
        ({"PixelRepresentation": 1}, "negative dose"),
        ({"PixelData": b"\0" * (7 * 6 * 5 * 4)}, "zero everywhere"),
        ({"PixelData": b"\1" * (7 * 6 * 3 * 4)}, "cut off"),
        ({"NumberOfFrames": 1, "GridFrameOffsetVector": [0], "PixelData": b"\1" * (7 * 6 * 4)}, "a single plane"),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, edits: dict[str, Any], words: str) -> None:
    file = rtdose(tmp_path / "d.dcm", stored_dose(), **edits)
    with pytest.raises(CaseError, match=words) as caught:
        read_rtdose(file, "p001")
    text = str(caught.value)
    assert text.startswith("p001: ")
    assert "\n" not in text
    assert "A^B" not in text


@pytest.mark.parametrize("share", [0.2, 0.6, 0.999])
def test_a_file_that_is_cut_off_is_refused_wherever_the_cut_is(tmp_path: Path, share: float) -> None:
    file = rtdose(tmp_path / "d.dcm", stored_dose(shape=(30, 30, FRAMES)))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CaseError, match="RTDOSE"):
        read_rtdose(file, "c")


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    dose = read_rtdose(rtdose(tmp_path / "d.dcm", stored_dose()), "c")
    check_frame("c", dose, "1.2.3")
    with pytest.raises(CaseError, match="another frame of reference"):
        check_frame("c", dose, "1.2.4")


@pytest.fixture
def beam(tmp_path: Path) -> Callable[..., Dose]:
    def write(number: int | None, plan: str = "1.2.7", kind: str = "BEAM", bits: int = 16, **edits: Any) -> Dose:
        reference = [plan_reference(plan, number)]
        file = tmp_path / f"{number}.dcm"
        edits = {"DoseSummationType": kind, "ReferencedRTPlanSequence": reference, **edits}
        return read_rtdose(rtdose(file, stored_dose(bits), bits=bits, **edits), "c")

    return write


def test_beams_of_one_plan_are_added(beam: Callable[..., Dose]) -> None:
    one, two = beam(1), beam(2, bits=32)
    whole = whole_dose("c", [two, one])
    np.testing.assert_array_equal(whole.array, one.array + two.array)
    assert whole.notes == ["its dose is the sum of 2 RTDOSE of beams"]
    assert whole.summation == "BEAM"


def test_beams_are_not_added_to_the_dose_of_their_plan(beam: Callable[..., Dose]) -> None:
    plan = beam(None, kind="PLAN")
    whole = whole_dose("c", [beam(1), plan, beam(2)])
    np.testing.assert_array_equal(whole.array, plan.array)
    assert whole.notes == ["2 RTDOSE of parts of its plan were not added to that of the whole plan"]


def test_a_single_part_is_kept_as_what_it_is(beam: Callable[..., Dose]) -> None:
    assert whole_dose("c", [beam(1, kind="FRACTION")]).summation == "FRACTION"


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"number": 2, "plan": "1.2.8"}, "of several plans"),
        ({"number": 2, "kind": "FRACTION"}, r"several kinds \(BEAM, FRACTION\)"),
        ({"number": 1}, "which beams of a plan its RTDOSE are of is not said"),
        ({"number": None}, "which beams of a plan"),
        ({"number": 2, "position": (-10, 20, 31)}, "different grids"),
        ({"number": 2, "frame": "1.2.4"}, "several frames of reference"),
    ],
)
def test_parts_that_do_not_add_up_are_refused(beam: Callable[..., Dose], second: dict[str, Any], words: str) -> None:
    with pytest.raises(CaseError, match=words):
        whole_dose("c", [beam(1), beam(**second)])


def test_two_doses_of_a_whole_plan_are_refused(beam: Callable[..., Dose]) -> None:
    with pytest.raises(CaseError, match="2 RTDOSE that are each of a whole plan"):
        whole_dose("c", [beam(None, kind="PLAN"), beam(None, kind="PLAN")])
