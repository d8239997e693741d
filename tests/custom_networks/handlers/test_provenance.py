import json
import logging

import pytest
from ignite.engine import Engine

from custom_networks import CaseError, RecordTrainingCases, check_evaluation, check_unseen_cases
from custom_networks.handlers.provenance import RECORD

CASES = [{"case": "ann1", "patient": "ann"}, {"case": "ann2", "patient": "ann"}, {"image": "x/beth.nii.gz"}]


def record(folder, cases=CASES, parts=()):
    engine = Engine(lambda engine, batch: None)
    RecordTrainingCases(cases, [folder], parts).attach(engine)
    engine.run([0], max_epochs=1)
    return folder / "model.pt"


def test_patients_are_recognised_and_not_named(tmp_path):
    weights = record(tmp_path / "models")
    text = (tmp_path / "models" / RECORD).read_text()
    assert len(json.loads(text)["sets"][0]["patients"]) == 2
    assert "ann" not in text
    assert "beth" not in text
    check_unseen_cases([{"case": "ann1", "patient": "c"}], weights)
    # another image of the same patient counts, and a case without a patient is one of its own
    for case in ({"case": "ann3", "patient": "ann"}, {"case": "beth"}):
        with pytest.raises(CaseError, match="they were trained on 1 of the 2 cases to score"):
            check_unseen_cases([{"case": "z", "patient": "z"}, case], weights)


def test_the_record_is_there_before_the_first_step(tmp_path):
    def step(engine, batch):
        assert (tmp_path / RECORD).is_file()

    engine = Engine(step)
    RecordTrainingCases(CASES, [tmp_path]).attach(engine)
    engine.run([0], max_epochs=1)


def test_a_frozen_part_counts_too(tmp_path):
    organ = record(tmp_path / "organ", [{"case": "o", "patient": "o"}])
    tumor = record(tmp_path / "tumor", parts=[organ])
    with pytest.raises(CaseError, match="such as o9"):
        check_unseen_cases([{"case": "o9", "patient": "o"}], tumor)


def test_every_file_of_an_ensemble_is_asked(tmp_path):
    files = [record(tmp_path / str(i), [{"case": str(i)}]) for i in range(2)]
    with pytest.raises(CaseError, match=r"1/model\.pt: they were trained on"):
        check_unseen_cases([{"case": "1"}], files)
    check_unseen_cases([{"case": "2"}], files)


def test_weights_without_a_record_pass_with_a_word(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check_unseen_cases(CASES, tmp_path / "model.pt")
    assert "whether it saw these cases is unknown" in caplog.text


def test_what_is_refused(tmp_path):
    weights = record(tmp_path)
    with pytest.raises(CaseError, match="'test' is no section"):
        check_evaluation("test", CASES, weights)
    with pytest.raises(CaseError, match="section testing: it has no cases"):
        check_evaluation("testing", [], weights)
    with pytest.raises(CaseError, match="--allow_training_cases True"):
        check_evaluation("validation", CASES, weights)
    check_evaluation("validation", CASES, weights, allow_training_cases=True)
    (tmp_path / RECORD).write_text('{"sets": [{}]}')
    with pytest.raises(CaseError, match="it is damaged"):
        check_evaluation("validation", CASES, weights)
