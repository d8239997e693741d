"""`pretraining_gain`: what self-supervised pretraining is worth when labels are few (the paper's Table 2, on OpenKBP)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from custom_networks.data.datalist import Datalist, read_json
from scripts.core.manifest import bind, inputs
from scripts.experiments.evaluate.significance import sign_flip_test
from scripts.experiments.evidence.ct_samples import (
    OPENKBP,
    openkbp_parts,
    samples_folder,
    write_brachytherapy,
    write_pretraining,
)
from scripts.experiments.evidence.three_stages import BRACHY, PRETRAIN, Size, train_stage, write_overrides
from scripts.experiments.training.bundle_run import run_bundle

ARMS = ("no pretraining", "pretrained")
# DSC alone: distances of hundreds of predictions would take longer than the networks
DSC_ONLY = {
    "validate#additional_metrics": {},
    "validate#handlers#3#metrics": ["val_dice"],
    "validate#handlers#3#metric_details": ["val_dice"],
    "section": "testing",
}


def pretraining_gain(
    output: str = "pretraining_gain",
    samples: str = "",
    seeds: int = 3,
    train: int = 10,
    test: int = 40,
    steps: int = 800,
    pretrain_steps: int = 800,
    variant: str = "small",
    spacing: float = 5.0,
    patch: int = 32,
    learning_rate: float = 1e-3,
    retrain: bool = False,
) -> int:
    """Train stage 3 on few OpenKBP patients, with and without stage 1, the same budget, and compare on held-out ones.

    Stage 1 learns once, from all other patients' images and those of the training patients; test patients are never
    seen. For each seed both arms then train with the same settings; they differ in the encoder's first weights alone. A
    run whose result is there already is not repeated, so the command can be given again after an interruption; results
    from other patients, settings or code are refused.

    Args:
        output: folder for everything that is made; the result is in cases.csv, table.csv and table.md.
        samples: folder of real samples; default the variable GYN_SAMPLES.
        seeds: repetitions of both arms (start values, order, crops).
        train: labelled training patients.
        test: held-out patients.
        steps: optimizer steps of each arm.
        pretrain_steps: optimizer steps of stage 1.
        variant: `small`, `base`, `large` or `huge`.
        spacing: mm, isotropic.
        patch: voxels per axis, a multiple of 16.
        learning_rate: of both stages.
        retrain: train anew what the output holds from other patients or settings; else it is refused.

    Returns:
        0.
    """
    source, folder = samples_folder(samples), Path(output).resolve()
    size = Size(variant, spacing, spacing, patch, patch, 4, steps=(pretrain_steps, steps, steps))
    size.learning_rates = (learning_rate,) * 3
    # hundreds of whole-volume predictions: windows that do not overlap
    size.more = {"val_overlap": 0.0}
    learning, held_out, rest = openkbp_parts(source, train, test, seed=0)
    unlabelled = write_pretraining(source, [*learning, *rest], folder / "stage1")
    first = {key: value for key, value in size.overrides(1).items() if key not in size.more}
    weights = train_stage(PRETRAIN, unlabelled, folder / "stage1", first | {"seed": 0}, retrain=retrain)
    labelled = write_brachytherapy(source, learning, held_out, folder / "data")
    rows: list[pd.DataFrame] = []
    for seed in range(seeds):
        for arm in ARMS:
            place = folder / f"seed{seed}" / arm.replace(" ", "_")
            values = size.overrides(3) | {"seed": seed, "pretrained": str(weights) if arm == ARMS[1] else None}
            trained = train_stage(BRACHY, labelled, place, values, folder / "prepared", retrain)
            score(trained, labelled, place)
            rows.append(read_scores(place / "test" / "val_dice_raw.csv").assign(seed=seed, arm=arm))
            write_results(pd.concat(rows), folder)
    print((folder / "table.md").read_text(encoding="utf-8"))
    return 0


def score(weights: Path, datalist: Path, place: Path) -> None:
    """Evaluate held-out cases, unless the table there is of these weights and cases.

    Args:
        weights: of a training in `place`.
        datalist: whose `testing` is scored.
        place: folder of the training; its `test` gets the table.
    """
    made_from = inputs(Datalist.read(datalist).testing, DSC_ONLY, [weights])
    record = place / "test" / "made_from.json"
    if record.is_file() and read_json(record, str(record), "delete it") == made_from:
        return
    lean = write_overrides(place / "test.json", DSC_ONLY | {"output_dir": str(place / "test")})
    run_bundle(
        BRACHY,
        ["configs/train.json", str(place / "overrides.json"), "configs/evaluate.json", lean],
        {"datalist": str(datalist), "dataset_dir": str(datalist.parent), "ckpt_path": str(weights)},
        log=place / "test.log",
    )
    bind(record, made_from)


def read_scores(file: Path) -> pd.DataFrame:
    """DSC by case and class of one evaluation: columns `case`, `structure`, `dsc` (NaN where the case lacks it)."""
    raw = pd.read_csv(file)
    names = [OPENKBP[i] for i in range(1, len(OPENKBP))]
    raw = raw.rename(columns={f"class{i}": name for i, name in enumerate(names)}).drop(columns="mean")
    raw["case"] = [Path(str(f)).name.split(".")[0] for f in raw.pop("filename")]
    return raw.melt("case", var_name="structure", value_name="dsc")


def gain_table(scores: pd.DataFrame, draws: int = 9999) -> pd.DataFrame:
    """Compare the arms over the seeds that both have.

    Args:
        scores: columns `seed`, `arm`, `case`, `structure`, `dsc`.
        draws: of the permutation test.

    Returns:
        One row per structure and one for their mean: for each arm the mean DSC, its SD over cases (each averaged over
        seeds) and its SD over seeds; the gain in points of DSC; p of the paired permutation test over cases.
    """
    both = scores.groupby("seed")["arm"].nunique()
    scores = scores[scores["seed"].isin(both[both == len(ARMS)].index)]
    whole = scores.groupby(["seed", "arm", "case"], as_index=False)["dsc"].mean().assign(structure="mean of structures")
    lines = []
    for structure in [*dict.fromkeys(scores["structure"]), "mean of structures"]:
        part = pd.concat([scores, whole]).query("structure == @structure")
        by_case = part.pivot_table("dsc", "case", "arm", aggfunc="mean").reindex(columns=list(ARMS)).dropna()
        by_seed = part.pivot_table("dsc", "seed", "arm", aggfunc="mean").reindex(columns=list(ARMS))
        line: dict[str, float | str | int] = {"structure": structure, "cases": len(by_case), "seeds": len(by_seed)}
        for arm in ARMS:
            key = arm.replace(" ", "_")
            line[f"{key}_mean"] = float(by_case[arm].mean())
            line[f"{key}_sd_cases"] = float(by_case[arm].std())
            line[f"{key}_sd_seeds"] = float(by_seed[arm].std()) if len(by_seed) > 1 else math.nan
        difference = (by_case[ARMS[1]] - by_case[ARMS[0]]).to_numpy()
        line["gain"] = float(np.mean(difference)) if len(difference) else math.nan
        line["p"] = sign_flip_test(difference, draws=draws)
        lines.append(line)
    return pd.DataFrame(lines)


def write_results(scores: pd.DataFrame, folder: Path) -> None:
    """Write cases.csv and, once both arms have a seed, table.csv and table.md."""
    scores.to_csv(folder / "cases.csv", index=False, float_format="%.6g")
    if set(scores["arm"]) != set(ARMS):
        return
    table = gain_table(scores)
    table.to_csv(folder / "table.csv", index=False, float_format="%.6g")
    (folder / "table.md").write_text(as_markdown(table), encoding="utf-8")


def as_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown: mean ± SD over cases (SD of the mean over seeds), gain, p."""
    head = ["structure", *(f"{arm}: DSC" for arm in ARMS), "gain", "p"]
    rows: list[Sequence[str]] = [head, ["---"] * len(head)]
    for line in table.to_dict("records"):
        cells = [str(line["structure"])]
        for arm in ARMS:
            mean, cases, seeds = (line[f"{arm.replace(' ', '_')}_{part}"] for part in ("mean", "sd_cases", "sd_seeds"))
            over_seeds = "" if math.isnan(seeds) else f" (seeds ± {seeds:.3f})"
            cells.append(f"{mean:.3f} ± {cases:.3f}{over_seeds}")
        rows.append([*cells, f"{line['gain']:+.3f}", f"{line['p']:.4f}"])
    first = table.iloc[0]
    note = (
        f"\nMean ± SD over {first['cases']} held-out cases, each averaged over {first['seeds']} seed(s); in brackets the SD "
        "of the mean over seeds. p: paired permutation test over cases, two-sided, not corrected for the number of rows.\n"
    )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n" + note
