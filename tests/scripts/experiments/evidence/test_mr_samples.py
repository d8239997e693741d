import json
import os
from collections import Counter
from pathlib import Path

import pytest

from custom_networks import CaseError
from scripts.experiments.evidence.mr_samples import stand_ins

SAMPLES = Path(os.environ.get("GYN_SAMPLES", Path(__file__).resolve().parents[5] / "shared/samples"))


def test_two_datalists_of_real_images(tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip(f"the real samples are not at {SAMPLES} (set GYN_SAMPLES)")
    stand_ins(str(tmp_path), str(SAMPLES))
    bladder = json.loads((tmp_path / "bladder/datalist.json").read_text())
    assert (len(bladder["training"]), len(bladder["testing"])) == (4, 1)
    sarcoma = json.loads((tmp_path / "sarcoma/datalist.json").read_text())["training"]
    assert Counter(case["fold"] for case in sarcoma) == dict.fromkeys(range(5), 7)
    assert all(Path(case[key]).is_file() for case in sarcoma for key in ("image", "label"))


def test_a_folder_without_samples_is_named(tmp_path):
    with pytest.raises(CaseError, match="GYN_SAMPLES"):
        stand_ins(str(tmp_path / "out"), str(tmp_path))
    (tmp_path / "openkbp").mkdir()
    (tmp_path / "openkbp/index.json").write_text("{}")
    with pytest.raises(CaseError, match="has no mr_pelvis_t2"):
        stand_ins(str(tmp_path / "out"), str(tmp_path))
