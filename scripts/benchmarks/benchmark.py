"""`python -m scripts benchmark WHAT`: side by side with peers, each in a module of its own, imported when asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Any

from custom_networks.errors import CaseError

WHAT = {
    "networks": "scripts.benchmarks.networks",
    "gpu": "scripts.benchmarks.gpu",
    "memory": "scripts.benchmarks.memory",
    "pretraining": "scripts.benchmarks.pretraining",
    "loading": "scripts.benchmarks.loading",
    "preprocessing": "scripts.benchmarks.preprocessing",
}


def benchmark(what: str = "", **options: Any) -> int | None:
    """Measure one thing side by side with its peers.

    Args:
        what: `networks`, `gpu`, `memory`, `pretraining`, `loading` or `preprocessing`.
        options: those of the benchmark: `python -m scripts benchmark WHAT --help`.

    Returns:
        The benchmark's exit status.

    Raises:
        CaseError: an unknown benchmark or option.
    """
    if what not in WHAT:
        near = difflib.get_close_matches(str(what), WHAT, n=1)
        problem = f"there is no benchmark {what!r}" if what else "no benchmark was named"
        raise CaseError("benchmark", problem, f"did you mean {near[0]}" if near else f"name one of {', '.join(WHAT)}")
    function = getattr(importlib.import_module(WHAT[what]), what)
    if options.pop("help", False):
        print(f"python -m scripts benchmark {what} [--option value …]\n\n{inspect.getdoc(function)}")
        return 0
    known = list(inspect.signature(function).parameters)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean --{near[0]}" if near else f"options: {' '.join('--' + k for k in known)}"
            raise CaseError(f"benchmark {what}", f"unknown option --{name}", remedy)
    result = function(**options)
    return result if isinstance(result, int) else None
