"""The one exception that users of the bundles and scripts see, and how they see it."""

from __future__ import annotations

import os
import sys
from types import TracebackType


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
    """Let `python -m monai.bundle` end with a `CaseError`'s sentence alone and exit code 2, as the verbs of scripts do.

    For the first line of a bundle's `initialize`. MONAI's command line has no place to catch what a configuration raises:
    it wraps it in errors of its own, and the sentence would stand far above the last line. The interpreter's hook for
    what nobody caught is the one place that sees errors of `initialize`, of `run` and of worker processes alike. It is set
    in a process of that command line only: a host that uses monai.bundle as a library keeps its own hook and command
    line. The environment variable MONAI_DEBUG, as in MONAI, brings the traceback back.

    Raises:
        CaseError: an option of the command line is misspelt, see `check_command_line`.
    """
    from custom_networks.options import check_command_line

    # MLflow, where it is asked for, would look up its telemetry host
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    started = getattr(sys.modules.get("__main__"), "__spec__", None)
    if started is None or started.name != "monai.bundle.__main__":
        return
    if os.environ.get("MONAI_DEBUG", "").lower() in {"", "0", "false"}:
        sys.excepthook = _end_with_sentence
    check_command_line()


def _end_with_sentence(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CaseError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {cause}", file=sys.stderr)
        raise SystemExit(2)
