"""Train the folds of a bundle and predict every case by the fold that has not seen its patient."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from custom_networks import CaseError
from custom_networks.data.cases import fold_split
from scripts.core.datalist import Case, Datalist, distinct_names, image_stem, safe_name, write_datalist
from scripts.core.files import locked, sha256
from scripts.core.predictions import write_made_by
from scripts.experiments.training.bundle_run import check_overrides
from scripts.experiments.training.fold import CHECKPOINTS, Fold, check_unseen
from scripts.experiments.training.inputs import name_weights

Checkpoint = Literal["final", "best"]


def crossval(
    bundle: str,
    datalist: str,
    output: str,
    folds: Sequence[int] | None = None,
    configs: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    organ_runs: str | None = None,
    processes: int = 1,
    checkpoint: Checkpoint = "final",
    retrain: bool = False,
    other_code: bool = False,
) -> None:
    """Five-fold (or other) cross-validation by a bundle's own configurations.

    Writes OUTPUT/foldN/final.pt (the last epoch) and model.pt (the best validation), OUTPUT/out_of_fold/CASE_pred.nii.gz
    and OUTPUT/datalist.json: the given datalist with `pred` pointing to the out-of-fold prediction, and, of the organ
    bundle, `organ`, which is what stage 2 trains on so that no organ mask has seen its own truth. A finished fold is kept
    as long as its cases, settings and code are what they were; an unfinished one resumes.

    Args:
        bundle: the bundle's folder.
        datalist: with a fold for every training case.
        output: folder to write to; not that of the datalist.
        folds: folds to run, such as 0,1; default all of the datalist.
        configs: files after train.json, such as anisotropic.json,small.json, or a plan.json elsewhere.
        overrides: ids and values on top, such as '{"epochs": 20}', or epochs=20. A bundle that takes a previous stage's
            weights wants pretrained=PATH, or pretrained=none to train from scratch.
        organ_runs: output of the organ bundle's cross-validation, or of organ_masks; fold N of the tumour bundle takes
            the organ network of its fold N.
        processes: ranks of each training; more than one adds multi_gpu_train.json.
        checkpoint: which network predicts: `final`, or `best`, which was chosen by the very fold that it is scored on.
        retrain: train folds anew whose cases, settings or code are no longer those that they were trained with.
        other_code: keep folds although the code or a library's version has changed since.

    Raises:
        CaseError: a case has no fold, an option is unknown, it is not said what training starts from, the output holds folds of something else, or a run failed.
    """
    source, target = Path(datalist).resolve(), Path(output).resolve()
    content = Datalist.read(source)
    check_output(target, source, bundle)
    all_folds = prepare_folds(bundle, content, source, target, configs, overrides, processes)
    wanted = all_folds if folds is None else [_numbered(all_folds, number) for number in folds]
    check_checkpoint(checkpoint)
    organs = {fold.number: Path(organ_runs).resolve() / f"fold{fold.number}" for fold in wanted} if organ_runs else {}
    networks = {number: folder / CHECKPOINTS[checkpoint] for number, folder in organs.items()}
    if networks:
        check_unseen(wanted, networks)
        wanted = [
            replace(fold, overrides={**fold.overrides, "organ_weights": str(networks[fold.number])}) for fold in wanted
        ]
    with locked(target):
        for fold in wanted:
            fold.train(retrain, other_code)
            fold.evaluate(checkpoint)
        made = collect(content, all_folds, target, checkpoint)
    print(f"out-of-fold predictions of {len(made)} cases by {said(checkpoint)}: {target / 'out_of_fold'}")


def prepare_folds(
    bundle: str,
    content: Datalist,
    source: Path,
    target: Path,
    configs: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> list[Fold]:
    """The folds of a datalist, with everything checked that can be without a training.

    Args:
        bundle: the bundle's folder.
        content: the datalist.
        source: its file.
        target: folder to write to.
        configs: see `crossval`.
        overrides: see `crossval`.
        processes: see `crossval`.

    Raises:
        CaseError: see `crossval`.
    """
    folder = Path(bundle).resolve()
    if not (folder / "configs" / "train.json").is_file():
        raise CaseError(f"bundle {bundle}", "it has no configs/train.json", "pass the folder of a bundle")
    distinct_names(content.cases, f"datalist {source}")
    missing = next((case for case in content.training if case.fold is None), None)
    if missing is not None:
        raise CaseError(missing.name, f"it has no fold in {source}", "write folds with `python -m scripts split`")
    files = [config_file(folder, name) for name in ([configs] if isinstance(configs, str) else configs)]
    check_overrides(folder, ["configs/train.json", *files], overrides or {})
    named = name_weights(folder, ["configs/train.json", *files], overrides or {})
    entries = [case.entry() for case in content.training]
    folds = []
    for number in sorted({case.fold for case in content.training if case.fold is not None}):
        training, validation = fold_split(entries, number)
        place = target / f"fold{number}"
        folds.append(Fold(folder, files, named, source, number, training, validation, place, processes))
    if not folds:
        raise CaseError(
            f"datalist {source}", "its section 'training' is empty", "pass a datalist with cases to train on"
        )
    for fold in folds:
        fold.check()
    return folds


def check_output(target: Path, datalist: Path, bundle: str | Path) -> None:
    """Refuse an output folder where a file of the input would be overwritten.

    Raises:
        CaseError: it is the folder of the datalist or of the bundle.
    """
    if target in {datalist.parent, Path(bundle).resolve()}:
        raise CaseError(
            f"output {target}", "it is the folder of the datalist or the bundle", "pass another, such as runs/organ"
        )


def collect(content: Datalist, folds: Sequence[Fold], target: Path, checkpoint: str) -> dict[str, Path]:
    """Put the predictions of all finished folds together, and write the datalist that names them.

    Folds of earlier calls count too, as long as the same kind of checkpoint predicted.

    Args:
        content: the datalist.
        folds: all of them.
        target: folder to write to.
        checkpoint: that predicted.

    Returns:
        Case to its prediction.
    """
    together = target / "out_of_fold"
    made: dict[str, Path] = {}
    entropy: dict[str, Any] = {}
    weights: list[str] = []
    for fold in folds:
        if fold.evaluated() != checkpoint:
            print(f"fold {fold.number} is not predicted by {said(checkpoint)} yet: its cases are left out")
            continue
        weights.append(sha256(fold.weights(checkpoint)))
        noted = fold.entropy()
        for entry in fold.validation:
            kept = together / f"{safe_name(entry['case'])}_pred.nii.gz"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fold.prediction(entry), kept)
            made[entry["case"]] = kept
            if (stem := image_stem(entry["image"])) in noted:
                entropy[entry["case"]] = noted[stem]
    if made:
        write_made_by(together, weights, entropy)
    keys = ("pred", "organ") if is_organ_stage(folds[0].bundle) else ("pred",)
    write_datalist(target / "datalist.json", with_files(content, made, keys))
    return made


def with_files(content: Datalist, made: Mapping[str, Path], keys: Sequence[str]) -> Datalist:
    """The datalist whose training cases have `keys` for the file made of each, and none where none was made."""

    def updated(case: Case) -> Case:
        kept = {key: path for key, path in case.files.items() if key not in keys}
        # relative, so that both folders may be moved together
        new = {key: os.path.relpath(made[case.name], str(case.folder)) for key in keys if case.name in made}
        return replace(case, files={**kept, **new})

    return replace(content, training=[updated(case) for case in content.training])


def is_organ_stage(bundle: Path) -> bool:
    """Whether a bundle's network finds the organ alone, so that its prediction is what stage 2 takes as `organ`."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    return list(channels.values()) == ["background", "organ"]


def check_checkpoint(checkpoint: str) -> None:
    """Refuse a checkpoint that there is none of.

    Raises:
        CaseError: it is not in `CHECKPOINTS`.
    """
    if checkpoint not in CHECKPOINTS:
        raise CaseError("option --checkpoint", f"{checkpoint!r} is none", f"pass one of {', '.join(CHECKPOINTS)}")


def said(checkpoint: str) -> str:
    """Which network a checkpoint is, in words."""
    if checkpoint == "final":
        return "final.pt, the network of the last epoch"
    return "model.pt, chosen by its score on the very cases it predicts, which flatters it"


def config_file(bundle: Path, name: str) -> str:
    """A configuration file as `--config_file` takes it: of the bundle, or anywhere else.

    Raises:
        CaseError: there is no such file.
    """
    if not Path(name).is_absolute() and (bundle / "configs" / name).is_file():
        return f"configs/{name}"
    if Path(name).is_file():
        return str(Path(name).resolve())
    raise CaseError(
        f"bundle {bundle.name}", f"{name} is neither in {bundle / 'configs'} nor a file", "correct --configs"
    )


def _numbered(folds: Sequence[Fold], number: int) -> Fold:
    for fold in folds:
        if fold.number == number:
            return fold
    present = ", ".join(str(fold.number) for fold in folds)
    raise CaseError(f"fold {number}", f"it has no cases (folds present: {present})", "correct --folds")
