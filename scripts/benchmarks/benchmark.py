"""`python -m scripts benchmark WHAT`: side by side with peers, each in a module of its own, imported when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from custom_networks.errors import CaseError

WHAT = {
    "networks": "scripts.benchmarks.networks",
    "gpu": "scripts.benchmarks.gpu",
    "memory": "scripts.benchmarks.memory",
    "pretraining": "scripts.benchmarks.pretraining",
    "loading": "scripts.benchmarks.loading",
    "preprocessing": "scripts.benchmarks.preprocessing",
}


def benchmark(what: str) -> Callable[..., int]:
    """Measure one thing side by side with its peers: `python -m scripts benchmark WHAT --option value`.

    Args:
        what: `networks`, `gpu`, `memory`, `pretraining`, `loading` or `preprocessing`; `benchmark WHAT --help` tells its options.

    Returns:
        The function that measures, whose parameters are the options.

    Raises:
        CaseError: an unknown benchmark.
    """
    if what not in WHAT:
        near = difflib.get_close_matches(what, WHAT, n=1)
        problem = f"there is no benchmark {what!r}" if what else "no benchmark was named"
        raise CaseError("benchmark", problem, f"did you mean {near[0]}" if near else f"name one of {', '.join(WHAT)}")
    function: Callable[..., int] = getattr(importlib.import_module(WHAT[what]), what)
    return function
