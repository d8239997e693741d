"""How far experts differ from each other: the yardstick beside a score. The figures are a JSON file that a user may replace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from custom_networks import CaseError
from custom_networks.data.datalist import read_json
from scripts.experiments.evaluate.aggregate import METRICS

SHIPPED = Path(__file__).with_name("yardstick.json")


@dataclass(frozen=True)
class Yardstick:
    """One published figure of the spread between experts.

    Args:
        classes: names of the class it is about, in any case.
        modality: `MR` or `CT`; empty for any.
        metric: a column of the case table, or other words for what is shown as a note only.
        value: the figure.
        what: the structure and who was compared.
        source: where it is published.
    """

    classes: tuple[str, ...]
    modality: str
    metric: str
    value: float
    what: str
    source: str

    def about(self, name: str, modality: str) -> bool:
        """Whether it is about a class of this name, on images of this modality."""
        known = {text.lower() for text in self.classes}
        return name.lower() in known and self.modality.upper() in {"", modality.upper()}

    @property
    def sentence(self) -> str:
        """The figure with its source."""
        heading = METRICS[self.metric].heading if self.metric in METRICS else self.metric
        return f"{self.what}: {heading} {self.value:g} ({self.source})"


def read_yardstick(file: str | Path | None = None) -> list[Yardstick]:
    """Read published figures.

    Args:
        file: JSON list of objects with the fields of `Yardstick`; default the shipped one.

    Raises:
        CaseError: the file is missing, is not JSON, or an entry lacks a field or its source.
    """
    path = SHIPPED if file is None else Path(str(file))
    where, remedy = f"yardstick {path}", f"write it like {SHIPPED}"
    entries = read_json(path, where, remedy)
    if not isinstance(entries, list):
        raise CaseError(where, "it is no list", remedy)
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            texts = {key: str(entry[key]) for key in ("modality", "metric", "what", "source")}
            figure = Yardstick(classes=tuple(map(str, entry["classes"])), value=float(entry["value"]), **texts)
        except (KeyError, TypeError, ValueError) as error:
            raise CaseError(where, f"entry {number} is not complete ({error})", remedy) from error
        if not figure.source.strip():
            raise CaseError(where, f"entry {number} names no source", "say where its figure is published")
        found.append(figure)
    return found


def experts(
    figures: Iterable[Yardstick], classes: Iterable[str], modality: str
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """What is known of these classes.

    Args:
        figures: from `read_yardstick`.
        classes: names of the classes evaluated.
        modality: `MR` or `CT`.

    Returns:
        (class, metric) -> value with the number of its note, and the notes, each with its source.
    """
    column: dict[tuple[str, str], str] = {}
    notes: list[str] = []
    names = list(classes)
    for figure in figures:
        for name in names:
            if figure.about(name, modality):
                if figure.sentence not in notes:
                    notes.append(figure.sentence)
                if figure.metric in METRICS:
                    text = f"{figure.value:.{METRICS[figure.metric].digits}f} [{notes.index(figure.sentence) + 1}]"
                    before = column.get((name, figure.metric))
                    column[name, figure.metric] = f"{before}, {text}" if before else text
    return column, notes
