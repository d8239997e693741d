"""The study file: its paths, its defaults, its order of trainings. What is refused is in test_errors.py."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from scripts.experiments.study.definition import SCHEMA, Primary, read_study

STUDY = {
    "name": "s",
    "datalist": "d.json",
    "stages": {
        "pre": {"bundle": "gynbtnet_pretrain", "datalist": "p/d.json", "fold": 0},
        "fine": {"bundle": "gynbtnet_finetune", "pretrained_from": "pre", "fold": 0},
    },
    "arms": {
        "a": {"bundle": "gynbtnet_brachytherapy", "pretrained_from": "fine", "small": {"iterations": 1}},
        "b": {"bundle": "gynbtnet_brachytherapy", "configs": ["own.json", "unet.json"], "overrides": {"seed": 1}},
        "c": {"bundle": "organ_pocketnet"},
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "s.json").write_text(json.dumps(STUDY))
    return tmp_path / "s.json"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_paths_and_defaults(file: Path) -> None:
    study = read_study(str(file))
    assert study.datalist == file.parent / "d.json"
    assert study.stages["pre"].datalist == file.parent / "p/d.json"
    assert study.arms["a"].bundle.name == "gynbtnet_brachytherapy"
    # its own files lie beside the study, the bundle's in the bundle
    assert study.arms["b"].configs == [str(file.parent / "own.json"), "unet.json"]
    assert study.pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert study.primary == Primary("dsc", "", "out_of_fold", "p_permutation_by_patient")
    assert read_study(str(file), "/elsewhere").datalist == Path("/elsewhere/d.json")


def test_a_datalist_behind_a_link_is_named_by_where_it_lies(file: Path) -> None:
    (file.parent / "disk").mkdir()
    (file.parent / "link").symlink_to("disk")
    assert read_study(str(file), str(file.parent / "link")).datalist == file.parent / "disk" / "d.json"


def test_a_trial_run_adds_small_values_last(file: Path) -> None:
    arms = read_study(str(file), small=True).arms
    assert arms["b"].configs[-1] == "small.json"
    assert arms["a"].overrides == {"iterations": 1}
    assert read_study(str(file)).arms["a"].overrides == {}


def test_what_others_start_from_comes_first(file: Path) -> None:
    levels = [[arm.name for arm in level] for level in read_study(str(file)).levels()]
    assert levels == [["pre", "b", "c"], ["fine"], ["a"]]


def test_the_study_of_applicators_has_a_training_set_for_each_arm() -> None:
    study = read_study(str(SCHEMA.parents[1] / "studies" / "applicator.json"), "/data", small=True)
    lists = {name: arm.datalist.parent.name for name, arm in study.arms.items()}
    assert lists == {f"{share}-percent": f"applicator_{share}" for share in (0, 10, 30, 100)}
    assert study.sets == ["testing", "applicator", "metal_artefacts"]
    assert all((arm.bundle / "configs" / one).is_file() for arm in study.arms.values() for one in arm.configs)


@pytest.mark.parametrize("name", ["pocketnet_paper", "gynbtnet_paper"])
def test_the_papers_are_studies(name: str) -> None:
    study = read_study(str(SCHEMA.parents[1] / "studies" / f"{name}.json"), "/data", small=True)
    assert len(study.levels()) == (2 if name == "pocketnet_paper" else 3)
    assert all((arm.bundle / "configs" / one).is_file() for arm in study.arms.values() for one in arm.configs)
