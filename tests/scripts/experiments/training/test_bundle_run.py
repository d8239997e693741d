import json
import shlex
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.training.bundle_run import bundle_command, run_bundle

ORGAN = Path(__file__).resolve().parents[4] / "bundles/organ_pocketnet"
TRAIN = ["configs/train.json"]


def test_a_misspelt_override_is_refused():
    with pytest.raises(CaseError, match=r"--lerning_rate overrides nothing in .*did you mean --learning_rate"):
        bundle_command(ORGAN, TRAIN, {"lerning_rate": 1e-3})
    with pytest.raises(CaseError, match=r"absent\.json does not exist"):
        bundle_command(ORGAN, ["configs/absent.json"], {})


def test_the_command_is_what_a_user_would_type():
    words = bundle_command(
        ORGAN, [*TRAIN, "configs/small.json"], {"spacing": [1, 2, 3], "dataset_dir": "d", "resume": False}
    )
    assert words[3:] == [
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "['configs/train.json','configs/small.json']",
        "--logging_file",
        "configs/logging.conf",
        "--spacing",
        "[1, 2, 3]",
        "--dataset_dir",
        "d",
        "--resume",
        "False",
    ]
    parallel = bundle_command(ORGAN, TRAIN, {}, processes=2)
    assert "--nproc_per_node=2" in parallel
    assert parallel[parallel.index("torch.distributed.run") + 3 :][:2] == ["-m", "monai.bundle"]


def test_a_failed_run_names_its_log(tmp_path, capfd):
    with pytest.raises(CaseError, match=r"organ_pocketnet: the run ended with status 1; see .*log\.txt"):
        run_bundle(ORGAN, TRAIN, {"datalist": str(tmp_path / "nowhere.json")}, log=tmp_path / "log.txt")
    shown = capfd.readouterr()
    assert "error: datalist" in shown.err
    assert shlex.split(shown.out.splitlines()[0])[:2] == ["$", "cd"]
    assert json.loads(json.dumps((tmp_path / "log.txt").read_text()))
