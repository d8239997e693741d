"""ROI names: TG-263 where it has one, short, unique, replaceable by a site."""

import json
from pathlib import Path

import numpy as np
import pytest
import tg263
from pydicom.sr.codedict import codes

from custom_networks.errors import CaseError
from scripts.data.cohorts.totalsegmentator import CLASSES_V1
from scripts.sharing.contours.names import TABLE, RoiName, roi_names, structure_masks

BRACHYTHERAPY = {0: "background", 1: "HR-CTV", 2: "bladder", 3: "rectum", 4: "uterus", 5: "sigmoid"}
# TG-263 has no name for these; ours are listed in docs/contours.md
OURS = {
    *("Organ_Gyn", "Heart_Myocard", "face", "autochthon_L", "autochthon_R", "iliopsoas_L", "iliopsoas_R"),
    *(f"glut_{which}_{side}" for which in ("max", "med", "min") for side in "LR"),
}


def test_brachytherapy_has_the_names_of_tg263() -> None:
    names = roi_names(BRACHYTHERAPY)
    assert [name.roi for name in names.values()] == ["CTV^HR", "Bladder", "Rectum", "Uterus", "Colon_Sigmoid"]
    assert [name.kind for name in names.values()] == ["CTV", "ORGAN", "ORGAN", "ORGAN", "ORGAN"]


def test_every_shipped_name_is_in_tg263_or_told_to_be_ours() -> None:
    shipped = {entry["roi"] for entry in json.loads(TABLE.read_text()).values()}
    others = {name for name in shipped if not tg263.is_structure_name_allowed(name)}
    assert others == OURS
    page = (Path(__file__).parents[4] / "docs/contours.md").read_text()
    assert all(f"`{name}`" in page for name in others)


def test_all_104_classes_have_unique_short_names_and_codes() -> None:
    names = roi_names(dict(enumerate(CLASSES_V1, 1)))
    rois = [name.roi for name in names.values()]
    assert len({roi.casefold() for roi in rois}) == 104
    assert max(map(len, rois)) <= 16
    for name in names.values():
        assert name.code != "Tissue"
        assert getattr(codes.SCT, name.code).scheme_designator == "SCT"
        assert getattr(codes.SCT, name.category).scheme_designator == "SCT"


def test_unknown_labels_keep_their_names_cut_and_told_apart() -> None:
    names = roi_names({1: "my very long structure name", 2: "my very long structure other", 3: "Bläse/left"})
    assert [name.roi for name in names.values()] == ["my very long str", "my very long s_2", "Bl_se_left"]
    assert names[1] == RoiName("my very long str")


def test_a_site_replaces_names(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"hr-ctv": "HRCTV", "Bladder": {"roi": "Blase", "kind": "AVOIDANCE"}}', "utf-8-sig")
    names = roi_names(BRACHYTHERAPY, own)
    assert (names[1].roi, names[1].kind, names[1].code) == ("HRCTV", "CTV", "ClinicalTargetVolume")
    assert (names[2].roi, names[2].kind) == ("Blase", "AVOIDANCE")
    assert names[3].roi == "Rectum"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "not a map"),
        ("{", "cannot be read"),
        ('{"bladder": 3}', "neither a name"),
        ('{"bladder": {"name": "x"}}', "neither a name"),
        ('{"bladder": {"kind": "TUMOUR"}}', "RTROIInterpretedType"),
        ('{"bladder": "a name of seventeen"}', "unique name of 1 to 16"),
        ('{"bladder": "rectum"}', "unique name of 1 to 16"),
    ],
)
def test_bad_names_of_a_site(tmp_path: Path, content: str, words: str) -> None:
    own = tmp_path / "own.json"
    own.write_text(content)
    with pytest.raises(CaseError, match=words):
        roi_names(BRACHYTHERAPY, own)


def test_the_organ_includes_its_tumour() -> None:
    labels = {0: "background", 1: "organ", 2: "tumor"}
    placed = np.array([[[0, 1, 2, 2]]])
    masks = dict(structure_masks(placed, labels, roi_names(labels)))
    assert masks[1].ravel().tolist() == [False, True, True, True]
    assert masks[2].ravel().tolist() == [False, False, True, True]
