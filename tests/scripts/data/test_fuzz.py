"""Whatever a datalist or a header holds: a result or one sentence, never a traceback."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custom_networks import CaseError
from scripts.core.datalist import Case, Datalist
from scripts.core.statistics import KnownStatistics
from scripts.data.check.case import examine
from scripts.data.check.check import check
from scripts.data.preprocess.case import Job, load_config, process
from scripts.data.split.split import split

BUNDLE = Path(__file__).parents[3] / "bundles/organ_pocketnet"
SETTINGS = settings(suppress_health_check=list(HealthCheck))

scalars = st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3), max_leaves=8
)
entry = st.fixed_dictionaries(
    {},
    optional={
        "case": scalars,
        "patient": scalars,
        "image": st.sampled_from(["i.nii", "none.nii", "", "../x", "a\0b", "."]) | scalars,
        "label": st.sampled_from(["l.nii", "none.nii", ""]) | scalars,
        "fold": scalars,
    },
)
datalists = st.fixed_dictionaries(
    {},
    optional={
        "name": scalars,
        "labels": anything | st.just({"0": "background", "1": "organ", "2": "tumor"}),
        "modality": scalars,
        "training": st.lists(entry | scalars, max_size=4) | anything,
        "testing": st.lists(entry, max_size=2) | anything,
    },
)


def refused(function: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Whether the function says no, which must be one sentence; any other exception fails the test."""
    try:
        function(*arguments, **options)
    except CaseError as error:
        text = str(error)
    else:
        return False
    assert text.endswith(".")
    return True


def volume(folder: Path) -> None:
    image = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    label = (image % 7 == 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "i.nii")
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "l.nii")


@SETTINGS
@given(content=datalists | anything, raw=st.none() | st.binary(max_size=40))
def test_datalists(content: Any, raw: bytes | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume(folder)
        path = folder / "datalist.json"
        path.write_bytes(raw if raw is not None else json.dumps(content).encode("utf-8", "surrogatepass"))
        if refused(Datalist.read, path, patients="each"):
            return
        assert check(datalist=str(path), sheet=True, workers=1, patients="each") in (0, 1)
        refused(split, datalist=str(path), folds=2, test=0, workers=1, patients="each")


@SETTINGS
@given(
    where=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 600),
    which=st.sampled_from(["i.nii", "l.nii"]),
)
def test_headers(where: list[tuple[int, int]], cut: int, which: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume(folder)
        raw = bytearray((folder / which).read_bytes())
        for position, value in where:
            raw[position] = value
        (folder / which).write_bytes(bytes(raw[: len(raw) - cut] if cut < 100 else raw))
        case = Case("c", {"image": "i.nii", "label": "l.nii"}, "p", folder=folder)
        checked = examine(case, "training", {0: "background", 1: "organ"})
        assert all("\n" not in finding.sentence for finding in checked.findings)
        refused(KnownStatistics(folder).image, case.image, case.label, "c")


def small_enough(path: Path) -> bool:
    """A corrupt header may promise a huge field of view, which resampling would faithfully fill."""
    try:
        header: Any = nib.load(path)
        return bool(np.prod(np.array(header.shape) * np.linalg.norm(header.affine[:3, :3], axis=0)) < 1e6)
    except Exception:
        return True


@SETTINGS
@given(where=st.lists(st.tuples(st.integers(40, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_preprocessing_of_damaged_headers(where: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume(folder)
        raw = bytearray((folder / "i.nii").read_bytes())
        for position, value in where:
            raw[position] = value
        (folder / "i.nii").write_bytes(bytes(raw))
        if not small_enough(folder / "i.nii"):
            return
        config = {**load_config([BUNDLE / "configs/train.json"]), "spacing": [1.0, 1.0, 1.0]}
        job = Job(str(BUNDLE), json.dumps(config), str(folder / "out"), "float32")
        (folder / "out").mkdir()
        case = Case("c", {"image": "i.nii", "label": "l.nii"}, "p", folder=folder)
        outcome = process(job, case)
        assert outcome.status in {"done", "quarantined"}
        assert "\n" not in outcome.reason
        assert (outcome.status == "quarantined") == bool(outcome.reason)
