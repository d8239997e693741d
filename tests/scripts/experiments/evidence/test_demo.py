import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.experiments.evidence.demo import demo

ROOT = Path(__file__).resolve().parents[4]


def test_make_demo_and_make_test_are_what_the_readme_says():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo: .*\n\t\$\(RUN\) -m scripts demo$", makefile, flags=re.MULTILINE)
    assert re.search(r"^test: .*installed-dev", makefile, flags=re.MULTILINE)
    assert "exec make test" in (ROOT / ".ci/run").read_text()


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_pictures(tmp_path, capfd):
    assert demo(str(tmp_path / "demo"), cases=12, test=2, epochs=1) == 0
    shown = capfd.readouterr().out
    assert "organ  DSC" in shown
    assert "tumor  DSC" in shown
    assert (tmp_path / "demo/evaluation/report.html").is_file()
    assert list((tmp_path / "demo/evaluation/pictures").glob("*.png"))
    for case in json.loads((tmp_path / "demo/data/datalist.json").read_text())["testing"]:
        pred = nib.load(tmp_path / "demo/predictions" / f"{case['case']}_pred.nii.gz")
        image = nib.load(tmp_path / "demo/data" / case["image"])
        assert pred.shape == image.shape
        np.testing.assert_allclose(pred.affine, image.affine, atol=1e-4)
