"""What one rank does for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed

from custom_networks.errors import CaseError

Result = TypeVar("Result")


def on_first_rank(work: Callable[[], Result], on_each_machine: bool = False) -> Result:
    """Have the first rank do something that may take hours, while the others wait; without ranks just do it.

    A barrier of NCCL would give up after ten minutes. This waits on a group of its own, over gloo, for as long as it
    takes.

    Args:
        work: what is to be done; its result is fit for sending.
        on_each_machine: the first rank of each machine does it, for what is left on a disk.

    Returns:
        The result of the first rank.

    Raises:
        CaseError: raised by `work` on any rank; all ranks raise it.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return work()
    group: Any = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    first = distributed.get_rank() == 0 or (on_each_machine and os.environ.get("LOCAL_RANK") == "0")
    mine: tuple[Any, CaseError | None] = (None, None)
    if first:
        try:
            mine = (work(), None)
        except CaseError as error:
            mine = (None, error)
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, mine, group=group)
    distributed.destroy_process_group(group)
    for _, failed in found:
        if failed is not None:
            raise failed
    result: Result = found[0][0]
    return result
