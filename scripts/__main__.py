"""`python -m scripts VERB …`: a table of verbs. Each verb is one function; its module is imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

VERBS = {
    "phantom": (
        "scripts.data.phantom.phantom",
        "Write a synthetic pelvis cohort (MR or CT) with labels and a datalist.",
    ),
    "import_dicom": (
        "scripts.data.dicom.import_dicom",
        "Turn a DICOM tree with RTSTRUCT or SEG into NIfTI and a datalist.",
    ),
    "list_rois": ("scripts.data.dicom.list_rois", "List the ROI names of an export, with volumes and overlaps."),
    "import_nifti": (
        "scripts.data.cohorts.import_nifti",
        "Turn a folder of NIfTI, NRRD or MetaImage files into a datalist.",
    ),
    "import_cohort": ("scripts.data.cohorts.import_cohort", "Turn one of the public data sets into a datalist."),
    "check": ("scripts.data.check.check", "Check every case of a datalist; table, CSV and contact sheet."),
    "split": ("scripts.data.split.split", "Write patient-grouped folds and a held-out set into a datalist."),
    "plan": ("scripts.data.plan.plan", "Measure a data set and write plan.json, an override for a bundle."),
    "preprocess": (
        "scripts.data.preprocess.preprocess",
        "Run a bundle's deterministic transforms once, to memory-mapped arrays.",
    ),
    "evaluate": ("scripts.experiments.evaluate.evaluate", "Compare predictions with labels: DSC, HD95, ASD, pictures."),
    "crossval": ("scripts.experiments.training.crossval", "Train the folds of a bundle and predict out-of-fold."),
    "segment": ("scripts.sharing.segment.segment", "Segment NIfTI or DICOM scans: label map, SEG, RTSTRUCT, volumes."),
    "contours": ("scripts.sharing.contours.contours", "Write a label map as RTSTRUCT and DICOM SEG on its series."),
    "organ_masks": (
        "scripts.experiments.training.organ_masks",
        "Organ masks for stage 2 where only some patients train stage 1.",
    ),
    "stand_ins": ("scripts.experiments.evidence.mr_samples", "Datalists of real MR samples for docs/evidence.md."),
    "demo": ("scripts.experiments.evidence.demo", "The whole two-stage path on a small synthetic cohort."),
    "three_stages": (
        "scripts.experiments.evidence.three_stages",
        "Real CT through the three GynBTNet stages at a small size.",
    ),
    "pretraining_gain": (
        "scripts.experiments.evidence.pretraining_gain",
        "With and without pretraining on few labelled cases.",
    ),
    "benchmark": (
        "scripts.benchmarks.benchmark",
        "networks|pretraining|loading|preprocessing: side by side with peers.",
    ),
}


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return (
        "usage: python -m scripts VERB [--option value …]\n\n"
        + "\n".join(lines)
        + "\n\npython -m scripts VERB -- --help"
    )


def _close(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown_option(verb: str, function: Callable[..., Any], arguments: list[str]) -> str | None:
    """Fire runs the function first and complains about what it could not use afterwards; this complains before."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None  # it hands its options on and checks them itself
    known = list(parameters)
    for argument in arguments[: arguments.index("--")] if "--" in arguments else arguments:
        name = argument[2:].split("=")[0].replace("-", "_")
        if argument.startswith("--") and name != "help" and name not in known and name.removeprefix("no") not in known:
            options = ["--" + k for k in known]
            return f"{verb}: unknown option {argument.split('=')[0]}{_close('--' + name, options)}; options: {' '.join(options)}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: the command line without the program's name.

    Returns:
        Exit status: 0 done, 1 the verb's own "no", 2 bad input or usage.
    """
    import fire

    # MONAI speaks up for every process about a GPU decoder that nothing here asks for
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0 if words else 2
    verb, *rest = words
    if verb not in VERBS:
        print(f"unknown verb {verb}{_close(verb, list(VERBS))}\n\n{_usage()}", file=sys.stderr)
        return 2
    function = getattr(importlib.import_module(VERBS[verb][0]), verb)
    problem = _unknown_option(verb, function, rest)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    from custom_networks.errors import CaseError

    try:
        result = fire.Fire(function, command=rest, name=f"python -m scripts {verb}", serialize=lambda _: None)
    except CaseError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


if __name__ == "__main__":
    sys.exit(main())
