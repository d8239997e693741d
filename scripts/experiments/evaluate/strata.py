"""Results by entries of the datalist: with and without an applicator, by scanner, by hospital."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence

import pandas as pd

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.experiments.evaluate import aggregate


def strata_of(cases: Sequence[Case], keys: Sequence[str]) -> dict[str, str]:
    """Which stratum each case is in: its values of all keys together, such as `applicator true, scanner A`.

    Args:
        cases: of the datalist.
        keys: entries of a case that this project has no other use for.

    Returns:
        Name of the case to stratum; a case without an entry is in one that says so.

    Raises:
        CaseError: no case has an entry of this name.
    """
    known = sorted({key for case in cases for key in case.more})
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]!r}" if near else f"there are {', '.join(known) or 'none'}"
            raise CaseError("--by", f"no case has an entry {key!r}", remedy)
    return {case.name: ", ".join(_value(case, key) for key in keys) for case in cases}


def _value(case: Case, key: str) -> str:
    value = case.more.get(key)
    if value is None:
        return f"{key} not given"
    return f"{key} {value if isinstance(value, str) else json.dumps(value)}"


def summarise_by(table: pd.DataFrame, strata: Mapping[str, str]) -> pd.DataFrame:
    """Summarise a case table stratum by stratum.

    Args:
        table: from `measure`, or `add_class_mean` of it.
        strata: name of each case to stratum, from `strata_of`.

    Returns:
        Rows as of `summarise`, each with `stratum`, in the order of the strata's names.
    """
    where = table["case"].map(strata)
    parts = [aggregate.summarise(table[where == name]).assign(stratum=name) for name in sorted(set(where))]
    return pd.concat(parts, ignore_index=True)
