"""Train the folds of a bundle and predict every case by the fold that has not seen its patient."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from custom_networks import CaseError, case_name, fold_split, read_datalist
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
    cases = read_datalist(source)
    wanted = sorted({case.get("fold", 0) for case in cases}) if folds is None else _words(folds)
    extra = [_config(folder, str(name)) for name in _words(configs)]
    given = dict(overrides or {})
    _check_names(cases)
    for fold in wanted:
        fold_split(cases, int(fold))
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
    _collect(source, cases, [int(fold) for fold in wanted], target)


def _stem(case: dict[str, Any]) -> str:
    """What SaveImaged names a prediction after: the image's file without its suffix, other dots kept."""
    return Path(case["image"]).name.removesuffix(".gz").removesuffix(".nii")


def _check_names(cases: list[dict[str, Any]]) -> None:
    stems = [(case.get("fold"), _stem(case)) for case in cases]
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


def _collect(source: Path, cases: list[dict[str, Any]], folds: list[int], target: Path) -> None:
    together = target / "out_of_fold"
    together.mkdir(parents=True, exist_ok=True)
    organ: dict[str, str] = {}
    for case in cases:
        made = target / f"fold{case.get('fold', 0)}" / "evaluation" / "predictions" / f"{_stem(case)}_pred.nii.gz"
        # folds of earlier calls count too: without them stage 2 would silently see the truth's organ there
        if case.get("fold", 0) in folds or made.is_file():
            kept = together / f"{case_name(case)}_pred.nii.gz"
            shutil.copyfile(made, kept)
            organ[case["image"]] = str(kept)
    content = json.loads(source.read_text(encoding="utf-8"))
    content["training"] = [
        case | ({"organ": organ[case["image"]]} if case["image"] in organ else {}) for case in read_datalist(source)
    ]
    content["testing"] = read_datalist(source, section="testing") if content.get("testing") else []
    (target / "datalist.json").write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    print(f"out-of-fold predictions of {len(organ)} cases: {together}")
