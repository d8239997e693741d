"""The commands of the pages on sharing, run as they stand with a small bundle in place of a trained one."""

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("scripts_main_of_sharing", ROOT / "scripts/__main__.py")
assert spec is not None
assert spec.loader is not None
scripts_main = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripts_main)


def commands(page: str) -> list[list[str]]:
    text = (ROOT / "docs" / page).read_text()
    return [shlex.split(line)[3:] for line in re.findall(r"^python -m scripts .*$", text, flags=re.MULTILINE)]


def test_segment_and_contours_as_their_pages_say(
    small_bundle: Path, mr_series: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mr_series()
    monkeypatch.chdir(tmp_path)
    places = {
        "SCAN": str(tmp_path / "in"),
        "SERIES": str(tmp_path / "in"),
        "OUTPUT": str(tmp_path / "out"),
        "bundles/tumor_pocketnet": str(small_bundle),
        "runs/tumor/fold0/final.pt": str(small_bundle / "folds/fold0/final.pt"),
        "label.nii.gz": str(tmp_path / "out/scan001/label.nii.gz"),
    }
    run = [*commands("segment.md"), *commands("contours.md")]
    assert [words[0] for words in run] == ["segment", "contours"]
    for words in run:
        assert scripts_main.main([places.get(word, word) for word in words]) == 0
    assert sorted(p.name for p in (tmp_path / "contours").glob("*.dcm")) == ["rtstruct.dcm", "seg.dcm"]


def test_every_option_that_the_pages_name_exists() -> None:
    import inspect

    from scripts.sharing.contours.contours import contours
    from scripts.sharing.package.package import package
    from scripts.sharing.segment.segment import segment

    for page, verb in (("segment.md", segment), ("contours.md", contours), ("releases.md", package)):
        named = set(re.findall(r"--(\w+)", (ROOT / "docs" / page).read_text()))
        assert named <= set(inspect.signature(verb).parameters), page


def test_the_example_of_own_names_is_valid(tmp_path: Path) -> None:
    from scripts.sharing.contours.names import roi_names

    (example,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/contours.md").read_text(), flags=re.DOTALL)
    (tmp_path / "names.json").write_text(example)
    found = roi_names({1: "HR-CTV", 2: "bladder"}, tmp_path / "names.json")
    assert (found[1].roi, found[2].roi, found[2].kind) == ("CTV_HR", "Blase", "AVOIDANCE")
    assert np.all([len(name.roi) <= 16 for name in found.values()])
