import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

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


def test_usage_and_unknown_verb(capsys):
    assert scripts_main.main(["--help"]) == 0
    assert "phantom" in capsys.readouterr().out
    assert scripts_main.main(["chek"]) == 2
    assert "did you mean check?" in capsys.readouterr().err
    assert scripts_main.main([]) == 2


def test_misspelt_option_is_refused_before_anything_runs(tmp_path, capsys):
    assert scripts_main.main(["phantom", "--cases", "1", "--ouput", str(tmp_path / "x")]) == 2
    assert "unknown option --ouput; did you mean --output?" in capsys.readouterr().err
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
