"""Reading of DICOM files and their values; whatever a damaged file holds, nothing of it is printed or logged."""

from __future__ import annotations

import gzip
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

EXPORT = "export the series again, complete and unchanged"


@contextmanager
def silent_dicom() -> Iterator[None]:
    """Keep pydicom, highdicom and SimpleITK from printing header values, which may identify a patient."""
    import SimpleITK as sitk
    from pydicom import config

    shown, mode = sitk.ProcessObject.GetGlobalWarningDisplay(), config.settings.reading_validation_mode
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    config.settings.reading_validation_mode = config.IGNORE
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
        config.settings.reading_validation_mode = mode
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def read_dataset(file: Path, tags: Sequence[str] | None = None, pixels: bool = True) -> Any:
    """Read a DICOM file, packed with gzip or not, with its preamble or without.

    Args:
        file: the file; one that ends in `.gz` is unpacked in memory.
        tags: keywords to read; all where None.
        pixels: whether to read the pixels.

    Returns:
        The dataset (`pydicom.FileDataset`) with its transfer syntax, which files without preamble do not name.

    Raises:
        Exception: whatever pydicom raises for a damaged file; its text may hold header values.
    """
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    source: Path | io.BytesIO = io.BytesIO(gzip.decompress(file.read_bytes())) if file.suffix == ".gz" else file
    named: Any = None if tags is None else list(tags)
    dataset = pydicom.dcmread(source, force=True, stop_before_pixels=not pixels, specific_tags=named)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def value_of(dataset: Any, name: str) -> Any:
    """One value of a dataset, or None where it is absent or cannot be decoded."""
    try:
        return dataset.get(name)
    except Exception:  # pydicom decodes on access and raises whatever a damaged value leads to
        return None


def text_of(dataset: Any, name: str) -> str:
    """One value as text, several joined by backslashes, empty where it is absent or cannot be decoded."""
    value = value_of(dataset, name)
    if value is None:
        return ""
    try:
        many = not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "family_name")
        return "\\".join(str(v) for v in value) if many else str(value).strip().strip("\0")
    except Exception:  # a person name of undecodable bytes, for instance
        return ""


def numbers(value: Any, count: int) -> np.ndarray | None:
    """`count` finite numbers out of a DICOM value, or None."""
    try:
        found = np.asarray([float(v) for v in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def items(dataset: Any, *names: str) -> Iterator[Any]:
    """Items of nested sequences, none where a sequence is absent or damaged."""
    if not names:
        yield dataset
        return
    value = value_of(dataset, names[0])
    if value is None or isinstance(value, str | bytes):
        return
    try:
        nested = list(value)
    except TypeError:
        return
    for item in nested:
        if hasattr(item, "get"):
            yield from items(item, *names[1:])
