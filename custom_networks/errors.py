"""The one exception that users of the bundles and scripts see, and how they see it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any


class CaseError(ValueError):
    """Bad input, said in one sentence: which case, which file, what is wrong, what to do.

    Args:
        case: name of the case, or of the datalist or configuration where no single case is at fault.
        problem: what is wrong, with the file's path.
        remedy: what the user can do about it.
    """

    def __init__(self, case: str, problem: str, remedy: str) -> None:
        # all three are handed to Exception so that the error survives pickling between processes
        super().__init__(case, problem, remedy)
        self.case, self.problem, self.remedy = case, problem, remedy

    def __str__(self) -> str:
        return f"{self.case}: {self.problem}; {self.remedy}."


def report_case_errors() -> None:
    """Make the interpreter end with a `CaseError`'s sentence alone, without the traceback around it.

    For the first line of a bundle's `initialize`: monai.bundle wraps what its expressions raise, and the sentence would
    stand far above the last line. The environment variable MONAI_DEBUG, as in MONAI, brings the traceback back.

    Raises:
        CaseError: an option of the command line is misspelt, see `check_command_line`.
    """
    from custom_networks.command_line import check_command_line

    if os.environ.get("MONAI_DEBUG", "").lower() in {"", "0", "false"} and sys.excepthook is not _short:
        global _previous
        _previous, sys.excepthook = sys.excepthook, _short
    check_command_line()


_previous: Callable[[type[BaseException], BaseException, TracebackType | None], Any] = sys.excepthook


def _short(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        _previous(kind, error, traceback)
    else:
        print(f"error: {cause}", file=sys.stderr)
