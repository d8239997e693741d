import os
import subprocess
import sys

import pytest

from custom_networks import CaseError
from scripts.experiments.training.lock import locked


def test_a_folder_has_one_writer(tmp_path):
    with locked(tmp_path / "a"), pytest.raises(CaseError, match="another process works in it"), locked(tmp_path / "a"):
        pass
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_a_run_that_outlives_its_verb_goes_on_holding_the_folder(tmp_path):
    with locked(tmp_path) as held:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[held])
    try:
        with pytest.raises(CaseError, match="another process"), locked(tmp_path):
            pass
    finally:
        child.communicate(os.linesep.encode())
    with locked(tmp_path):
        pass
