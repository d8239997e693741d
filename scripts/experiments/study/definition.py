"""The study file: read, checked against its schema, and resolved to paths."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_networks import CaseError
from custom_networks.data.datalist import read_json

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = Path(__file__).with_name("study.schema.json")
OUT_OF_FOLD, TESTING = "out_of_fold", "testing"
PAGE = "docs/studies.md lists what a study file holds"


@dataclass(frozen=True)
class Arm:
    """What is trained in one way: an arm that is compared, or a stage that arms start from.

    Args:
        name: as tables call it.
        bundle: the bundle's folder.
        configs: files after train.json, as `crossval` takes them.
        overrides: ids and values on top.
        datalist: what it is trained on; with `organ_from`, what that stage writes takes its place.
        organ_from: name of the organ stage, or empty.
        pretrained_from: name of the stage whose weights it starts from, or empty.
        fold: of a stage that is a single training; None for all folds.
        patients: who trains an organ stage, see `organ_masks`; empty for all.
        count: how many of them.
        stage: whether it is a stage.
    """

    name: str
    bundle: Path
    configs: Sequence[str]
    overrides: Mapping[str, Any]
    datalist: Path
    organ_from: str = ""
    pretrained_from: str = ""
    fold: int | None = None
    patients: str = ""
    count: int | None = None
    stage: bool = False


@dataclass(frozen=True)
class Primary:
    """The one question of a study: a measure of a class in a set, and its test."""

    measure: str = "dsc"
    of_class: str = ""
    in_set: str = OUT_OF_FOLD
    test: str = "p_permutation_by_patient"


@dataclass(frozen=True)
class Study:
    """A study file, with absolute paths.

    Args:
        file: where it lies.
        name: of the study.
        question: that it is to answer.
        datalist: of all arms.
        folds: that the arms are trained and scored on; None for all.
        checkpoint: which network predicts.
        stages: by name, in the order of the file.
        arms: by name, in the order of the file.
        external: name to datalist and section.
        classes: see `evaluate`; None for its default.
        tolerance: of NSD, in mm.
        pictures: of cases that each evaluation draws.
        pairs: of arms that are compared.
        primary: its one question.
        tables: file name to layout and its options.
        draws: of permutation tests.
        seed: of permutation tests and of drawn patients.
    """

    file: Path
    name: str
    question: str
    datalist: Path
    folds: Sequence[int] | None
    checkpoint: str
    stages: Mapping[str, Arm]
    arms: Mapping[str, Arm]
    external: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    classes: Mapping[str, Sequence[int]] | None = None
    tolerance: float = 2.0
    pictures: int = 3
    pairs: Sequence[tuple[str, str]] = ()
    primary: Primary = Primary()
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draws: int = 9999
    seed: int = 0

    @property
    def sets(self) -> list[str]:
        """Names of what may be scored, in the order of the tables; arms with other training cases share no out-of-fold set."""
        own = any(arm.datalist != self.datalist for arm in self.arms.values())
        return [*([] if own else [OUT_OF_FOLD]), TESTING, *self.external]

    def levels(self) -> list[list[Arm]]:
        """Stages and arms in groups, each of which needs what the groups before it made."""
        waiting, done, found = [*self.stages.values(), *self.arms.values()], {""}, []
        while waiting:
            ready = [arm for arm in waiting if {arm.organ_from, arm.pretrained_from} <= done]
            if not ready:
                raise _refused(self.file, f"stage {waiting[0].name} starts from itself")
            found.append(ready)
            done |= {arm.name for arm in ready if arm.stage}
            waiting = [arm for arm in waiting if arm not in ready]
        return found


def read_study(path: str, data: str | None = None, small: bool = False) -> Study:
    """Read a study file.

    Args:
        path: the JSON file.
        data: folder that its datalists are relative to; default the file's own.
        small: add each bundle's small.json and each arm's `small` values, for a trial run.

    Raises:
        CaseError: it is not as the schema says, or names an arm, a stage, a set or a bundle that there is not.
    """
    file = Path(path).resolve()
    content = read_json(
        file, f"study {file}", "pass a study file, such as scripts/experiments/studies/pocketnet_paper.json"
    )
    _check(file, content)
    folder = file.parent if data is None else Path(data)
    # predictions are named relative to a datalist, which a link in its path would break
    main = (folder / content["datalist"]).resolve()

    def arm(name: str, entry: Mapping[str, Any], stage: bool) -> Arm:
        bundle = _bundle(file, entry["bundle"])
        own = [*entry.get("configs", ()), *(["small.json"] if small else ())]
        more = entry.get("small", {}) if small else {}
        return Arm(
            name,
            bundle,
            [one if (bundle / "configs" / one).is_file() else str(file.parent / one) for one in own],
            {**entry.get("overrides", {}), **more},
            (folder / entry["datalist"]).resolve() if "datalist" in entry else main,
            entry.get("organ_from", ""),
            entry.get("pretrained_from", ""),
            entry.get("fold"),
            str(folder / entry["patients"]) if "patients" in entry else "",
            entry.get("count"),
            stage,
        )

    arms = {name: arm(name, entry, False) for name, entry in content["arms"].items()}
    wanted = content.get("comparisons", "all")
    question = content.get("primary", {})
    study = Study(
        file,
        content["name"],
        content.get("question", ""),
        main,
        content.get("folds"),
        content.get("checkpoint", "final"),
        {name: arm(name, entry, True) for name, entry in content.get("stages", {}).items()},
        arms,
        {
            name: ((folder / entry["datalist"]).resolve(), entry.get("section", "testing"))
            for name, entry in content.get("external", {}).items()
        },
        content.get("classes"),
        content.get("tolerance", 2.0),
        content.get("pictures", 3),
        list(itertools.combinations(arms, 2)) if wanted == "all" else [(a, b) for a, b in wanted],
        Primary(
            question.get("measure", Primary.measure),
            question.get("class", ""),
            question.get("set", OUT_OF_FOLD),
            question.get("test", Primary.test),
        ),
        content.get("tables", {}),
        content.get("draws", 9999),
        content.get("seed", 0),
    )
    _check_names(study)
    study.levels()
    return study


def _refused(file: Path, problem: str, remedy: str = PAGE) -> CaseError:
    return CaseError(f"study {file}", problem, remedy)


def _check(file: Path, content: Any) -> None:
    """Refuse what the schema does not allow, in one sentence that says where."""
    import jsonschema

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if error is None:
        return
    place = " / ".join(map(str, error.absolute_path)) or "the file"
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(unknown, known, n=1)
        raise _refused(file, f"{place} has an unknown key {unknown!r}", f"did you mean {near[0]!r}" if near else PAGE)
    raise _refused(file, f"{place}: {error.message}")


def _bundle(file: Path, name: str) -> Path:
    for folder in (file.parent / name, ROOT / "bundles" / name):
        if (folder / "configs" / "train.json").is_file():
            return folder.resolve()
    raise _refused(file, f"{name!r} is no bundle", "name one of this repository's, or the folder of one")


def _check_names(study: Study) -> None:
    """Refuse references to what the study does not have."""

    def known(what: str, name: str, names: Sequence[str]) -> None:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean {near[0]!r}" if near else f"there are {', '.join(names) or 'none'}"
            raise _refused(study.file, f"{what} names {name!r}, which is not there", remedy)

    for arm in [*study.stages.values(), *study.arms.values()]:
        for key, name in (("organ_from", arm.organ_from), ("pretrained_from", arm.pretrained_from)):
            if name:
                known(f"{key} of {arm.name!r}", name, list(study.stages))
        if arm.organ_from and study.stages[arm.organ_from].fold is not None:
            raise _refused(study.file, f"organ_from of {arm.name!r} names a single training, not all folds")
        if arm.stage and arm.fold is not None and (arm.patients or arm.count):
            raise _refused(study.file, f"stage {arm.name!r} has a fold and patients; only one of them makes sense")
    _check_own_datalists(study)
    both = set(study.stages) & set(study.arms)
    if both:
        raise _refused(study.file, f"{min(both)!r} is a stage and an arm", "give them different names")
    for a, b in study.pairs:
        known("comparisons", a, list(study.arms))
        known("comparisons", b, list(study.arms))
        if a == b:
            raise _refused(study.file, f"comparisons name {a!r} twice in one pair")
    known("primary", study.primary.in_set, study.sets)
    for name, table in study.tables.items():
        for arm_name in [*table.get("arms", ()), *([table["reference"]] if "reference" in table else ())]:
            known(f"table {name!r}", arm_name, list(study.arms))
        for set_name in table.get("sets", ()):
            known(f"table {name!r}", set_name, study.sets)
        if table["layout"] == "two_arms" and len(table.get("arms", study.arms)) != 2:
            raise _refused(study.file, f"table {name!r} has the layout two_arms and not two arms", "name two of them")


def _check_own_datalists(study: Study) -> None:
    for arm in study.arms.values():
        if arm.organ_from and arm.datalist != study.datalist:
            raise _refused(study.file, f"{arm.name!r} has organ_from and a datalist; only one of them makes sense")
