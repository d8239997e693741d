"""`python -m scripts VERB …`: a table of verbs. Each verb is one function; its module is imported only when asked for."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
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
    "import_nnunet": (
        "scripts.data.cohorts.import_nnunet",
        "Turn a data set of nnU-Net or the Medical Decathlon into a datalist.",
    ),
    "export_nnunet": (
        "scripts.data.cohorts.export_nnunet",
        "Write a datalist in nnU-Net's raw format, folds included.",
    ),
    "check": ("scripts.data.check.check", "Check every case of a datalist; table, CSV and contact sheet."),
    "split": ("scripts.data.split.split", "Write patient-grouped folds and a held-out set into a datalist."),
    "plan": ("scripts.data.plan.plan", "Measure a data set and write plan.json, an override for a bundle."),
    "fits": ("scripts.data.plan.fits", "Say what of a bundle fits a GPU's memory, without a GPU."),
    "preprocess": (
        "scripts.data.preprocess.preprocess",
        "Run a bundle's deterministic transforms once, to memory-mapped arrays.",
    ),
    "evaluate": ("scripts.experiments.evaluate.evaluate", "Compare predictions with labels: DSC, HD95, ASD, pictures."),
    "dose": ("scripts.experiments.dose.dose", "D90, D2cm3 and EQD2 of contours, and what an automatic one changes."),
    "fractions": (
        "scripts.experiments.fractions.fractions",
        "Contours and dose of one patient over her fractions, a page per patient.",
    ),
    "quality": (
        "scripts.experiments.quality.quality",
        "Fit, from signs that need no label, the probability that a contour is bad.",
    ),
    "crossval": ("scripts.experiments.training.crossval", "Train the folds of a bundle and predict out-of-fold."),
    "study": ("scripts.experiments.study.study", "Run a study file: arms, folds, data sets, comparisons, tables."),
    "segment": ("scripts.sharing.segment.segment", "Segment NIfTI or DICOM scans: label map, SEG, RTSTRUCT, volumes."),
    "contours": ("scripts.sharing.contours.contours", "Write a label map as RTSTRUCT and DICOM SEG on its series."),
    "import_weights": (
        "scripts.sharing.import_weights.import_weights",
        "Turn published STU-Net weights into a bundle's model.pt.",
    ),
    "package": ("scripts.sharing.package.package", "Make a release of a bundle and its weights, or verify one."),
    "demonstration_weights": (
        "scripts.sharing.demonstration.demonstration_weights",
        "Train, evaluate and package demonstration weights on phantoms.",
    ),
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
        "networks|gpu|memory|pretraining|loading|preprocessing: side by side with peers.",
    ),
}


GROUPS = {
    "data": (
        "phantom",
        "import_dicom",
        "list_rois",
        "import_nifti",
        "import_cohort",
        "import_nnunet",
        "export_nnunet",
        "check",
        "split",
        "plan",
        "fits",
        "preprocess",
    ),
    "training": ("crossval", "organ_masks", "study"),
    "results": ("evaluate", "dose", "fractions", "quality"),
    "sharing": ("segment", "contours", "package", "import_weights"),
    "evidence": ("stand_ins", "demo", "demonstration_weights", "three_stages", "pretraining_gain"),
    "benchmark": ("benchmark",),
}
# their options name exports, patients or regular expressions for them: what they were stays out of run.json
PRIVATE = frozenset(["import_dicom", "import_nifti", "import_cohort", "import_nnunet", "list_rois"])
# what they write is handed on as a whole
HANDED_ON = frozenset(GROUPS["sharing"])


def _usage() -> str:
    width = max(map(len, VERBS))
    named = {verb: group for group, verbs in GROUPS.items() for verb in verbs}
    lines = ["usage: python -m scripts VERB [--option value …]"]
    for group in [*GROUPS, "other"]:
        verbs = [verb for verb in VERBS if named.get(verb, "other") == group]
        lines += ["", group, *(f"  {verb:<{width}}  {VERBS[verb][1]}" for verb in verbs)] if verbs else []
    return "\n".join([*lines, "", "python -m scripts VERB -- --help", "python -m scripts --version"])


def _close(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def main(arguments: list[str] | None = None) -> int:  # noqa: PLR0911  (a return per kind of command line)
    """Run one verb.

    Args:
        arguments: the command line without the program's name.

    Returns:
        Exit status: 0 done, 1 the verb's own "no" or a failure of the system, 2 bad input or usage.
    """
    # MONAI speaks up for every process about a GPU decoder that nothing here asks for
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    # it names files that a verb moves to their place
    logging.getLogger("monai.data.image_writer").setLevel(logging.WARNING)
    # MLflow would look up its telemetry host
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        from scripts.core.manifest import versions

        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        return 0
    verb, *rest = words
    if verb not in VERBS:
        print(f"unknown verb {verb}{_close(verb, list(VERBS))}\n\n{_usage()}", file=sys.stderr)
        return 2
    from custom_networks.errors import CaseError

    wants_help = not {"-h", "--help"}.isdisjoint(rest)
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(VERBS[verb][0]), verb)
        if verb == "benchmark" and not (wants_help and rest[0].startswith("-")):
            # each benchmark is a verb of its own
            what = rest.pop(0) if rest and not rest[0].startswith("-") else ""
            verb, function = f"benchmark {what}", function(what)
        if wants_help:
            from fire import helptext, trace

            print(helptext.HelpText(function, trace=trace.FireTrace(function, name=f"python -m scripts {verb}")))
            return 0
        return _run(verb, function, rest)
    except CaseError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    except (OSError, MemoryError) as error:
        if os.environ.get("MONAI_DEBUG", "").lower() not in {"", "0", "false"}:
            raise
        print(f"{verb}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _run(verb: str, function: Callable[..., Any], words: list[str]) -> int:
    from scripts.core.options import parse

    parameters = inspect.signature(function).parameters
    given = parse(function, words)
    folder = _output(verb, {name: given.get(name, one.default) for name, one in parameters.items()})
    with contextlib.ExitStack() as stack:
        if folder is not None:
            from scripts.core.files import locked
            from scripts.core.manifest import record

            if not folder.exists():
                stack.callback(_remove_if_empty, folder)
            stack.enter_context(locked(folder))
            private = frozenset(name for name, value in given.items() if isinstance(value, str | list))
            stack.enter_context(record(folder, verb, given, private if verb in PRIVATE else frozenset()))
        return _status(function(**given))


def _status(result: Any) -> int:
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _remove_if_empty(folder: Path) -> None:
    """A verb that refuses its input leaves no folder behind."""
    with contextlib.suppress(OSError):
        if {file.name for file in folder.iterdir()} <= {".run.lock", "run.json"}:
            shutil.rmtree(folder)


def _output(verb: str, options: dict[str, Any]) -> Path | None:
    """The folder that a verb writes, where it writes one that is its own."""
    value = options.get("output_dir") or options.get("output")
    if verb in HANDED_ON or not isinstance(value, str) or not value or Path(value).suffix == ".json":
        return None
    return Path(value)


if __name__ == "__main__":
    sys.exit(main())
