"""The one exception that users of the bundles and scripts see."""

from __future__ import annotations


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
