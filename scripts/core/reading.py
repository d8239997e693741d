"""Reading of one case's files so that whatever a file holds ends in a result or in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from custom_networks import CaseError, check_case, read_label, read_volume
from scripts.core.datalist import Case


@contextmanager
def one_sentence(case: str, what: str) -> Iterator[None]:
    """Turn any exception, such as those of a header that contradicts itself, into a CaseError.

    Args:
        case: the case's name.
        what: what was being read.

    Raises:
        CaseError: whatever went wrong.
    """
    try:
        yield
    except CaseError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise CaseError(case, f"{what} cannot be read ({reason})", "export or copy it again") from error


def read(path: str, case: str, what: str = "image") -> tuple[np.ndarray, np.ndarray]:
    """`custom_networks.read_volume`, with every failure as a CaseError; anything but an image is read as a label.

    Args:
        path: the file.
        case: the case's name.
        what: `image`, or `label` or another mask, whose voxels are whole numbers.

    Returns:
        Voxels (X, Y, Z) and affine.
    """
    with one_sentence(case, f"{what} {path}"), np.errstate(all="ignore"):
        return read_volume(path, case) if what == "image" else read_label(path, case, what)


def check_files(case: Case, labels: Sequence[int] | None = None, mask_keys: Sequence[str] = ()) -> list[str]:
    """`custom_networks.check_case`, with every failure as a CaseError.

    Args:
        case: of a datalist.
        labels: values that may occur.
        mask_keys: further masks.

    Returns:
        Warnings.
    """
    known: Any = labels
    with one_sentence(case.name, f"image {case.image}"), np.errstate(all="ignore"):
        return check_case(case.entry(), known, mask_keys=mask_keys)
