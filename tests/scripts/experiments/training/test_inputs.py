from pathlib import Path

import pytest

from custom_networks import CaseError, read_datalist
from scripts.core.manifest import differing
from scripts.experiments.training.inputs import setting_inputs, training_inputs


def test_places_do_not_count_and_settings_do(organ, tmp_path):
    def of(**more):
        return setting_inputs(Path(organ), ["configs/train.json"], more)

    assert of(num_workers=0, output_dir="x", fold=3) == of()
    assert of(spacing=[1, 1, 3]) != of()
    for name, text in (("a.pt", b"1"), ("b.pt", b"2"), ("c.pt", b"1")):
        (tmp_path / name).write_bytes(text)
    a, b, c = (of(organ_weights=str(tmp_path / name)) for name in ("a.pt", "b.pt", "c.pt"))
    assert a == c
    assert a != b
    with pytest.raises(CaseError, match="cannot be read"):
        of(pretrained=str(tmp_path / "absent.pt"))


def test_a_case_is_what_training_reads_of_it(datalist):
    cases = read_datalist(datalist)
    before = training_inputs(cases, {"lr": 1})
    assert set(before["code"]) == {"custom_networks", "torch", "monai"}
    # an earlier prediction is no part of it, patient and fold are
    assert training_inputs([{**case, "pred": "nowhere"} for case in cases], {"lr": 1}) == before
    for change in ({"fold": 5}, {"patient": "x"}, {"label": cases[1]["label"]}):
        now = training_inputs([{**cases[0], **change}, *cases[1:]], {"lr": 2})
        assert differing(before, now) == ["case case 0 is other than it was", "setting lr was 1, is 2"]
