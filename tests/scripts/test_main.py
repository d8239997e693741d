import importlib
import importlib.util
import json
import runpy
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from scripts.benchmarks.benchmark import WHAT

spec = importlib.util.spec_from_file_location(
    "scripts_main", Path(__file__).resolve().parents[2] / "scripts/__main__.py"
)
scripts_main = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripts_main)


def test_every_verb_exists_and_is_documented():
    for verb, (module, text) in scripts_main.VERBS.items():
        function = getattr(importlib.import_module(module), verb)
        assert function.__doc__, verb
        assert text.endswith(".")


def test_no_option_of_a_verb_is_left_to_guessing():
    verbs = {verb: module for verb, (module, _) in scripts_main.VERBS.items()} | WHAT
    for verb, module in verbs.items():
        function = getattr(importlib.import_module(module), verb)
        guessed = [name for name, hint in get_type_hints(function).items() if hint is Any]
        assert not guessed, verb


def test_usage_and_unknown_verb(capsys):
    assert scripts_main.main(["--help"]) == 0
    assert "phantom" in capsys.readouterr().out
    assert scripts_main.main(["chek"]) == 2
    assert "did you mean check?" in capsys.readouterr().err
    assert scripts_main.main([]) == 2


def test_misspelt_option_is_refused_before_anything_runs(tmp_path, capsys):
    assert scripts_main.main(["phantom", "--cases", "1", "--ouput", str(tmp_path / "x")]) == 2
    assert "unknown option --ouput: the options are --modality" in (err := capsys.readouterr().err)
    assert err.endswith("; did you mean --output.\n")
    assert not (tmp_path / "x").exists()
    assert not Path("phantom").exists()


def test_bad_input_is_one_sentence(capsys):
    assert scripts_main.main(["split", "--datalist", "nowhere.json"]) == 2
    err = capsys.readouterr().err
    assert "nowhere.json" in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_exit_status_of_the_module(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts", "--help"])
    with pytest.raises(SystemExit) as info:
        runpy.run_module("scripts", run_name="__main__")
    assert info.value.code == 0


def test_verbs_stand_in_groups_and_versions_are_told(capsys):
    assert scripts_main.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in {*scripts_main.GROUPS, "other"}] == list(scripts_main.GROUPS)
    assert {verb for verbs in scripts_main.GROUPS.values() for verb in verbs} == set(scripts_main.VERBS)
    assert scripts_main.main(["--version"]) == 0
    assert "monai 1." in capsys.readouterr().out


def test_help_is_help_alone(capsys):
    for words in (["split", "--help"], ["split", "--", "--help"]):
        assert scripts_main.main(words) == 0
        out, err = capsys.readouterr()
        assert "--previous" in out
        assert err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["plan", "--datalist", "d.json", "--bundle", "b", "--memory_gb", "lots"],
            "option --memory_gb: 'lots' is not a number",
        ),
        (["split", "d.json", "--workers", "two"], "option --workers: 'two' is not a whole number"),
        (["split", "d.json", "--reset", "perhaps"], "option --reset: 'perhaps' is neither true nor false"),
        (["check", "d.json", "--patients", "some"], "option --patients: there is no 'some'; choose named, each"),
        (["check", "d.json", "o", "true", "true", "2", "named", "more"], "word 'more': there is no option left"),
    ],
)
def test_bad_words_are_one_sentence_and_status_2(capsys, words, said):
    assert scripts_main.main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_run_leaves_its_manifest_and_a_refusal_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["phantom", "--cases", "1", "--output", "2024_11", "--matrix", "24", "--slices", "4", "--labelled", "false"]
    assert scripts_main.main(words) == 0
    content = json.loads((tmp_path / "2024_11/run.json").read_text())
    assert content["verb"] == "phantom"
    assert content["options"]["matrix"] == 24
    assert not (tmp_path / "2024_11/labels").exists()
    assert scripts_main.main(["phantom", "--modality", "us", "--output", "other"]) == 2
    assert not (tmp_path / "other").exists()


def test_what_an_import_was_told_is_not_in_its_manifest(tmp_path, monkeypatch):
    seen = {}

    def verb(dicom_dir: str, output_dir: str, workers: int = 2) -> None:
        Path(output_dir).mkdir(exist_ok=True)
        (Path(output_dir) / "x").touch()
        seen.update(dicom_dir=dicom_dir)

    monkeypatch.setattr(importlib.import_module("scripts.data.dicom.import_dicom"), "import_dicom", verb)
    assert scripts_main.main(["import_dicom", "/exports/DOE", str(tmp_path / "o"), "--workers", "1"]) == 0
    assert seen == {"dicom_dir": "/exports/DOE"}
    text = (tmp_path / "o/run.json").read_text()
    assert "DOE" not in text
    assert json.loads(text)["options"]["workers"] == 1
