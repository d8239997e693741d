"""Which prediction belongs to which case, both on one grid, and what is known of the networks that predicted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from custom_networks import CaseError
from custom_networks.data.checks import check_grid, check_values
from custom_networks.data.datalist import read_json
from scripts.core.datalist import Case, image_stem, safe_name
from scripts.core.files import write_text
from scripts.core.reading import read

MADE_BY = "predictions.json"


@dataclass(frozen=True)
class MadeBy:
    """What is known of the predictions in a folder.

    Args:
        weights: SHA-256 of the networks' files; empty where nobody noted them.
        networks: how many predicted each case: 1 out-of-fold, all folds of an ensemble.
        entropy: case to label value to mean entropy and number of voxels, see `custom_networks.EntropyHandler`.
        agreement: case to structure to the mean DSC of the folds.
    """

    weights: tuple[str, ...] = ()
    networks: int = 1
    entropy: Mapping[str, Mapping[int, tuple[float, float]]] = field(default_factory=dict)
    agreement: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, case: Case) -> tuple[Mapping[int, tuple[float, float]], Mapping[str, float]]:
        """Entropy and agreement of one case; empty where they are not known."""
        names = (case.name, safe_name(case.name), image_stem(case.image), safe_name(image_stem(case.image)))
        name = next((one for one in names if one in self.entropy or one in self.agreement), "")
        return self.entropy.get(name, {}), self.agreement.get(name, {})


def write_made_by(
    folder: Path,
    weights: Sequence[str],
    entropy: Mapping[str, Any],
    networks: int = 1,
    agreement: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Path:
    """Write beside predictions what `MadeBy` holds; the cases are named as `find_prediction` finds them."""
    content = {
        "weights_sha256": list(weights),
        "networks": networks,
        "entropy": entropy,
        "fold_agreement": agreement or {},
    }
    return write_text(folder / MADE_BY, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def made_by(folder: Path) -> MadeBy:
    """What is known of the predictions in a folder; nothing where another program wrote them.

    Raises:
        CaseError: the file about them is damaged.
    """
    file = folder / MADE_BY
    if not file.is_file():
        return MadeBy()
    where, remedy = f"predictions {file}", "predict anew"
    content = read_json(file, where, remedy)
    try:
        entropy = {
            case: {int(value): (float(mean), float(count)) for value, (mean, count) in of.items()}
            for case, of in content["entropy"].items()
        }
        agreed = {
            case: {name: float(value) for name, value in of.items() if value is not None}
            for case, of in content["fold_agreement"].items()
        }
        return MadeBy(tuple(map(str, content["weights_sha256"])), int(content["networks"]), entropy, agreed)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CaseError(where, f"it is damaged ({type(error).__name__}: {error})", remedy) from error


SUFFIXES = (".nii.gz", ".nii")
# NAME is a case's or its image's: flat, as MONAI's `SaveImaged` names it, or of `segment`
FORMS = ("{0}", "{0}_pred", "{0}/{0}_pred", "{0}/{0}", "{0}/label")


def _candidates(folder: Path, case: Case) -> list[Path]:
    names = dict.fromkeys((safe_name(case.name), image_stem(case.image)))
    return [folder / f"{form.format(name)}{suffix}" for name in names for form in FORMS for suffix in SUFFIXES]


def find_prediction(folder: Path, case: Case) -> Path | None:
    """Find a case's prediction: by case name, as MONAI's `SaveImaged` names it after the image, or of `segment`."""
    return next((path for path in _candidates(folder, case) if path.is_file()), None)


def unknown_predictions(folder: Path, cases: Sequence[Case]) -> list[Path]:
    """Label maps in a folder where predictions are looked for that belong to none of the cases.

    Args:
        folder: of the predictions.
        cases: of all sections of the datalist: one folder may hold them all.
    """
    known = {path for case in cases for path in _candidates(folder, case)}
    found = [path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}")]
    for one in (place for place in folder.iterdir() if place.is_dir()):
        found += [one / f"{name}{suffix}" for name in (f"{one.name}_pred", one.name, "label") for suffix in SUFFIXES]
    return sorted(path for path in found if path not in known and path.is_file())


def region(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a label map holds one of the values (bool, same shape)."""
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask


def read_pair(case: Case, folder: Path, known: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Read the label map and the prediction of one case.

    Args:
        case: with a label.
        folder: of the predictions.
        known: label values that may occur; empty accepts any.

    Returns:
        Label (X, Y, Z), prediction on the same grid or None where there is no file, and the affine in mm.

    Raises:
        CaseError: a file is unreadable, holds unknown or fractional values, or the grids differ.
    """
    file = str(case.label)
    label = read(file, case.name, "label")
    files = {f"label {file}": label}
    path = find_prediction(folder, case)
    if path is not None:
        pred = files[f"prediction {path}"] = read(str(path), case.name, "prediction")
        check_grid(case.name, f"prediction {path}", pred, label)
    for what, (voxels, _) in files.items():
        if known:
            check_values(case.name, what, voxels, known)
    return label[0], None if path is None else pred[0], label[1]


def read_with_image(case: Case, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read image, label map and prediction of one case for display; an absent prediction is background.

    Returns:
        Image, label and prediction (X, Y, Z), and the affine of the label in mm.

    Raises:
        CaseError: a file is unreadable, or the image lies on another grid than its label, on which all would be displaced.
    """
    image, image_affine = read(case.image, case.name)
    truth, pred, affine = read_pair(case, folder)
    check_grid(case.name, f"label {case.label}", (truth, affine), (image, image_affine))
    return image, truth, np.zeros_like(truth) if pred is None else pred, affine
