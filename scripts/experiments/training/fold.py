"""One training in one folder: bound to what it was made from, by one process at a time, resumed or kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_networks import CaseError, check_unseen_cases, read_weights
from scripts.core.datalist import image_stem
from scripts.core.files import locked, write_text
from scripts.core.manifest import Inputs, differing, file_digest
from scripts.experiments.training.bundle_run import check_overrides, run_bundle
from scripts.experiments.training.inputs import setting_inputs, training_inputs

CHECKPOINTS = {"final": "final.pt", "best": "model.pt"}
RECORD = "training.json"
# laid over evaluate.json: how unsure the network is of each structure, which tells good contours from bad
ENTROPY = Path(__file__).with_name("entropy.json")


@dataclass(frozen=True)
class Fold:
    """One training of a bundle, and the scoring of what it has not seen.

    Args:
        bundle: the bundle's folder.
        configs: configuration files after `train.json`, relative to the bundle or absolute.
        overrides: ids and values on top.
        datalist: the JSON file, whose folder relative paths start from.
        number: the fold to validate on; -1 trains on all cases.
        training: its training cases, with absolute paths.
        validation: its validation cases.
        folder: where everything goes: `final.pt`, `model.pt`, `resume.pt`, `log.txt`, `evaluation/`.
        processes: ranks of the training.
    """

    bundle: Path
    configs: Sequence[str]
    overrides: Mapping[str, Any]
    datalist: Path
    number: int
    training: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    folder: Path
    processes: int = 1

    def check(self) -> None:
        """Refuse what can be refused without a training.

        Raises:
            CaseError: an override or a file is unknown, or two images would have one name for their predictions.
        """
        check_overrides(self.bundle, self.train_configs, self.overrides)
        stems: dict[str, str] = {}
        for case in self.validation:
            first = stems.setdefault(image_stem(case["image"]), case["image"])
            if first != case["image"]:
                raise CaseError(
                    f"fold {self.number}",
                    f"{first} and {case['image']} would have one name for their predictions",
                    "give every image a file name of its own, of a link to it for instance",
                )

    @property
    def train_configs(self) -> list[str]:
        """Files of the training."""
        return ["configs/train.json", *self.configs]

    @property
    def options(self) -> dict[str, Any]:
        """Overrides of the training and of the evaluation."""
        places = {"datalist": self.datalist, "dataset_dir": self.datalist.parent, "ckpt_dir": self.folder}
        return {**self.overrides, **{key: str(path) for key, path in places.items()}, "fold": self.number}

    def training_run(self) -> tuple[list[str], dict[str, Any]]:
        """Files and overrides of the training."""
        parallel = ["configs/multi_gpu_train.json"] if self.processes > 1 else []
        return [*self.train_configs, *parallel], {**self.options, "output_dir": str(self.folder)}

    def evaluation_run(self, checkpoint: str) -> tuple[list[str], dict[str, Any]]:
        """Files and overrides of the evaluation by a checkpoint."""
        places = {"ckpt_path": str(self.weights(checkpoint)), "output_dir": str(self.folder / "evaluation")}
        files = [*self.train_configs, "configs/evaluate.json", *self._evaluation(), str(ENTROPY)]
        return files, {**self.options, **places}

    def inputs(self) -> Inputs:
        """What the training depends on."""
        settings = setting_inputs(self.bundle, self.train_configs, self.overrides)
        # validated on all that is trained on, a case is there once
        cases = {str(case["case"]): case for case in [*self.training, *self.validation]}
        return training_inputs(cases.values(), {**settings, "fold": self.number})

    def weights(self, checkpoint: str) -> Path:
        """File of the last epoch (`final`) or of the best validation (`best`)."""
        return self.folder / CHECKPOINTS[checkpoint]

    def train(self, retrain: bool = False, other_code: bool = False) -> None:
        """Train, go on training, or keep what is finished.

        Args:
            retrain: start anew where the folder holds a training from other inputs, or damaged weights.
            other_code: take over a training by other code or versions; the record goes on naming those.

        Raises:
            CaseError: the folder is in use, or holds something else than this training; or the training failed.
        """
        with locked(self.folder):
            inputs = self.inputs()
            record = self._record()
            if not retrain:
                self.check_kept(other_code)
            elif problem := self._problem(record, inputs, other_code):
                print(f"{self.folder}: trained anew, as {problem}")
                self._clear()
                record = {}
            if record.get("weights"):
                return
            write_text(self.folder / RECORD, json.dumps({"inputs": record.get("inputs", inputs)}, indent=1) + "\n")
            run_bundle(self.bundle, *self.training_run(), self.processes, self.folder / "log.txt")
            self._finish()

    def check_kept(self, other_code: bool = False) -> None:
        """Refuse a folder that holds something else than this training.

        Args:
            other_code: see `train`.

        Raises:
            CaseError: it says what differs.
        """
        problem = self._problem(self._record(), self.inputs(), other_code)
        if problem:
            raise CaseError(
                f"training {self.folder}", problem, "pass --retrain True to train anew, or another --output"
            )

    def evaluate(self, checkpoint: str = "final") -> Path:
        """Predict and score the validation cases, unless that was done with these very weights.

        Args:
            checkpoint: `final` or `best`.

        Returns:
            Folder of the predictions, named after the images.

        Raises:
            CaseError: the weights are missing or saw a validation case, the folder is in use, or the run failed.
        """
        place, weights = self.folder / "evaluation", self.weights(checkpoint)
        with locked(self.folder):
            read_weights(weights)
            wanted = {"checkpoint": checkpoint, "weights": file_digest(str(weights), weights.name)}
            record = self._record()
            made = [place / "predictions" / f"{image_stem(case['image'])}_pred.nii.gz" for case in self.validation]
            if record.get("evaluation") == wanted and all(file.is_file() for file in made):
                return place / "predictions"
            run_bundle(self.bundle, *self.evaluation_run(checkpoint), log=self.folder / "evaluation.txt")
            missing = next((file for file in made if not file.is_file()), None)
            if missing is not None:
                raise CaseError(f"fold {self.number}", f"the run left no {missing}", "see evaluation.txt beside it")
            write_text(self.folder / RECORD, json.dumps({**record, "evaluation": wanted}, indent=1) + "\n")
        return place / "predictions"

    def prediction(self, case: Mapping[str, Any]) -> Path:
        """Where `evaluate` put a case's prediction."""
        return self.folder / "evaluation" / "predictions" / f"{image_stem(case['image'])}_pred.nii.gz"

    def entropy(self) -> dict[str, Any]:
        """What `custom_networks.EntropyHandler` noted while `evaluate` predicted: image file's stem to its entropies."""
        file = self.folder / "evaluation" / "entropy.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return found

    def evaluated(self) -> str | None:
        """The checkpoint that the predictions come from, or None where there are none."""
        entry = self._record().get("evaluation")
        return str(entry["checkpoint"]) if entry else None

    def _record(self) -> dict[str, Any]:
        file = self.folder / RECORD
        if not file.is_file():
            return {}
        try:
            record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            _ = record["inputs"]["code"]
        except (ValueError, KeyError, TypeError) as error:
            raise CaseError(f"record {file}", "it is damaged", "delete its folder or pass another --output") from error
        return record

    def _problem(self, record: Mapping[str, Any], inputs: Inputs, other_code: bool) -> str:
        """Why the folder cannot be taken over, or nothing."""
        if not record:
            found = next(
                (name for name in ("resume.pt", "final.pt", "model.pt") if (self.folder / name).exists()), None
            )
            return f"it holds {found} of a training that nothing is known of" if found else ""
        before: Inputs = record["inputs"]
        if other_code and before["code"] != inputs["code"]:
            print(f"{self.folder}: made by other code ({'; '.join(_code(before, inputs))})")
            before = {**before, "code": inputs["code"]}
        found_parts = differing(before, inputs)
        if found_parts:
            return f"it was made from other inputs ({'; '.join(found_parts)})"
        for name, digest in record.get("weights", {}).items():
            file = self.folder / name
            if not file.is_file() or file_digest(str(file), file.name) != digest:
                return f"its finished {name} is {'another or damaged' if file.is_file() else 'gone'}"
        return ""

    def _finish(self) -> None:
        """Write down that the training ended, with digests of what it left; what cannot be read is no end."""
        made = {name: self.folder / name for name in CHECKPOINTS.values() if (self.folder / name).is_file()}
        if "final.pt" not in made:
            raise CaseError(f"training {self.folder}", "it ended without final.pt", "see log.txt there")
        for file in made.values():
            read_weights(file)
        record = {**self._record(), "weights": {name: file_digest(str(file), file.name) for name, file in made.items()}}
        write_text(self.folder / RECORD, json.dumps(record, indent=1) + "\n")

    def _clear(self) -> None:
        for name in (RECORD, "resume.pt", *CHECKPOINTS.values()):
            (self.folder / name).unlink(missing_ok=True)
        for file in (self.folder / "evaluation" / "predictions").glob("*.nii.gz"):
            file.unlink()

    def _evaluation(self) -> list[str]:
        # an override that changes what the network returns brings its own evaluation
        own = [name.replace(".json", "_evaluate.json") for name in self.configs]
        return [name for name in own if name.startswith("configs/") and (self.bundle / name).is_file()]


def check_unseen(folds: Sequence[Fold], networks: Mapping[int, Path]) -> None:
    """Refuse networks of an earlier stage that saw a validation case of the fold that they are for.

    Args:
        folds: of the later stage.
        networks: fold to weights of the earlier stage.

    Raises:
        CaseError: a file is missing, or a patient was trained on.
    """
    for fold in folds:
        read_weights(networks[fold.number])
        check_unseen_cases(fold.validation, networks[fold.number])


def _code(before: Inputs, now: Inputs) -> list[str]:
    return differing({"code": before["code"]}, {"code": now["code"]})
