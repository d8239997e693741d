"""Reading of one case's files so that whatever a file holds ends in a result or in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from custom_networks import CaseError, read_label, read_volume
from scripts.core.datalist import Case

T = TypeVar("T")


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


def each_case(
    work: Callable[[Case], T], cases: Sequence[Case], title: str, workers: int
) -> tuple[list[T], list[CaseError]]:
    """Read cases in threads, with a progress bar; a case that cannot be used does not stop the others.

    Args:
        work: on one case.
        cases: of a datalist.
        title: of the bar.
        workers: cases at once.

    Returns:
        The results in order, those of unusable cases left out, and what is wrong with these.
    """
    from tqdm import tqdm

    def attempt(case: Case) -> T | CaseError:
        try:
            return work(case)
        except CaseError as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        bar = tqdm(pool.map(attempt, cases), total=len(cases), desc=title, unit="case", disable=None)
        results = list(bar)
    return (
        [result for result in results if not isinstance(result, CaseError)],
        [result for result in results if isinstance(result, CaseError)],
    )


def all_of(errors: Sequence[CaseError], what: str, remedy: str) -> CaseError:
    """One error for several cases, which names each of them.

    Args:
        errors: at least one.
        what: is wrong with them, such as `their labels`.
        remedy: for all of them.
    """
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(f"{error.case}: {error.problem}" for error in errors)
    return CaseError(f"{len(errors)} cases", f"{what} cannot be used ({told})", remedy)
