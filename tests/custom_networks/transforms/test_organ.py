import logging

import pytest

from custom_networks import CaseError, TakeOrgand, check_organ_source

CASES = [{"case": "a", "label": "a_label", "organ": "a_organ"}, {"case": "b", "label": "b_label"}]


def test_the_organ_comes_from_where_it_is_said():
    assert TakeOrgand("file")(CASES[0])["organ"] == "a_organ"
    assert TakeOrgand("label")(CASES[0])["organ"] == "a_label"
    assert TakeOrgand("none")(CASES[1]) == CASES[1]
    assert CASES[0]["organ"] == "a_organ", "the datalist's entry is left as it is"
    with pytest.raises(CaseError, match="b: it names no organ; make out-of-fold masks"):
        TakeOrgand()(CASES[1])
    with pytest.raises(CaseError, match="b: it names no label"):
        TakeOrgand("label")({"case": "b"})
    with pytest.raises(CaseError, match="'truth' is no source"):
        TakeOrgand("truth")


def test_the_count_is_told_before_training(caplog):
    with caplog.at_level(logging.INFO):
        check_organ_source(CASES, "label")
        assert "the true organ of the label in all 2 cases" in caplog.text
        assert "1 organ masks of the datalist are left aside" in caplog.text
        caplog.clear()
        check_organ_source(CASES[:1], "file")
        assert "all 1 cases" in caplog.text
        assert caplog.records[0].levelno == logging.INFO
        caplog.clear()
        check_organ_source(CASES, "none")
        assert not caplog.text
    with pytest.raises(CaseError, match="b: it and 0 more of 2 cases name no organ"):
        check_organ_source(CASES, "file")
    with pytest.raises(CaseError, match="'truth' is no source"):
        check_organ_source(CASES, "truth")
