"""Train the folds of a bundle and predict every case by the fold that has not seen its patient."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom_networks import CaseError, fold_split, safe_name
from scripts.core.datalist import Case, Datalist, image_stem, write_datalist
from scripts.experiments.training.bundle_run import check_overrides, run_bundle


def crossval(
    bundle: str,
    datalist: str,
    output: str,
    folds: Any = None,
    configs: Any = (),
    overrides: Any = None,
    organ_runs: str | None = None,
    processes: int = 1,
) -> None:
    """Five-fold (or other) cross-validation by a bundle's own configurations.

    Writes OUTPUT/foldN/model.pt, OUTPUT/out_of_fold/CASE_pred.nii.gz and OUTPUT/datalist.json: the given datalist with
    `organ` pointing to the out-of-fold prediction, which is what stage 2 trains on so that no organ mask has seen its own
    truth (decision P12). A finished fold is not trained again; an unfinished one resumes.

    Args:
        bundle: the bundle's folder.
        datalist: with folds.
        output: folder to write to.
        folds: folds to run, such as 0,1; default all of the datalist.
        configs: files after train.json, such as anisotropic.json,small.json, or a plan.json elsewhere.
        overrides: ids and values on top, such as '{"epochs": 20}'.
        organ_runs: output of the organ bundle's cross-validation; fold N of the tumour bundle takes the organ network of its
            fold N.
        processes: ranks of each training; more than one adds multi_gpu_train.json.

    Raises:
        CaseError: a fold is empty, an override is unknown, or a run failed.
    """
    folder, target, source = Path(bundle).resolve(), Path(output).resolve(), Path(datalist).resolve()
    content = Datalist.read(source)
    cases = list(content.training)
    wanted = sorted({case.fold for case in cases if case.fold is not None}) if folds is None else _words(folds)
    extra = [_config(folder, str(name)) for name in _words(configs)]
    given = dict(overrides or {})
    _check_names(cases)
    for fold in wanted:
        fold_split([case.entry() for case in cases], int(fold))
    train = ["configs/train.json", *extra]
    check_overrides(folder, train, given)
    for fold in wanted:
        place = target / f"fold{fold}"
        common = {
            **given,
            "datalist": str(source),
            "dataset_dir": str(source.parent),
            "fold": int(fold),
            "ckpt_dir": str(place),
        }
        if organ_runs is not None:
            common["organ_weights"] = str(Path(organ_runs).resolve() / f"fold{fold}" / "model.pt")
        if not (place / "finished").is_file():
            parallel = ["configs/multi_gpu_train.json"] if processes > 1 else []
            run_bundle(
                folder,
                [*train, *parallel],
                {**common, "output_dir": str(place / "training")},
                processes,
                place / "log.txt",
            )
            (place / "finished").touch()
        run_bundle(
            folder,
            [*train, "configs/evaluate.json", *_evaluation(folder, extra)],
            {**common, "output_dir": str(place / "evaluation")},
            log=place / "evaluation.txt",
        )
    _collect(content, [int(fold) for fold in wanted], target)


def _check_names(cases: list[Case]) -> None:
    stems = [(case.fold, image_stem(case.image)) for case in cases]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise CaseError(
            f"fold {twice[0]}",
            f"two images are called {twice[1]}, so that one prediction would overwrite the other",
            "give every image a file name of its own",
        )


def _words(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _config(bundle: Path, name: str) -> str:
    shipped = bundle / "configs" / name
    if shipped.is_file():
        return f"configs/{name}"
    if Path(name).is_file():
        return str(Path(name).resolve())
    raise CaseError(
        f"bundle {bundle.name}", f"{name} is neither in {bundle / 'configs'} nor a file", "correct --configs"
    )


def _evaluation(bundle: Path, configs: list[str]) -> list[str]:
    # an override that changes what the network returns brings its own evaluation
    own = [name.replace(".json", "_evaluate.json") for name in configs]
    return [name for name in own if name.startswith("configs/") and (bundle / name).is_file()]


def _collect(content: Datalist, folds: list[int], target: Path) -> None:
    together = target / "out_of_fold"
    together.mkdir(parents=True, exist_ok=True)
    training = []
    for case in content.training:
        made = target / f"fold{case.fold}" / "evaluation" / "predictions" / f"{image_stem(case.image)}_pred.nii.gz"
        organ = together / f"{safe_name(case.name)}_pred.nii.gz"
        # folds of earlier calls count too: without them stage 2 would silently see the truth's organ there
        if case.fold in folds or made.is_file():
            shutil.copyfile(made, organ)
            training.append(replace(case, files={**case.files, "organ": str(organ)}))
        else:
            training.append(case)
    write_datalist(target / "datalist.json", replace(content, training=training))
    found = sum(Path(case.files.get("organ", "")).parent == together for case in training)
    print(f"out-of-fold predictions of {found} cases: {together}")
