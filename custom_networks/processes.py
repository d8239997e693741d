"""Many items side by side in processes of this machine. No item is lost, and none hangs the rest.

Processes are forked where that exists, since imports take many seconds; they end with this process, even if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from custom_networks.errors import CaseError

T = TypeVar("T")
R = TypeVar("R")
DIED = "the process that worked on it died, probably for want of memory; free memory or pass fewer --workers"


def in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, failed: Callable[[T, str], R] | None = None
) -> Iterator[tuple[int, R]]:
    """Map over items in processes; 0 workers do it in this one.

    When a process dies, the items that were being worked on are tried again one at a time, so that only the one that
    kills its process fails.

    Args:
        function: it returns what is wrong with an item rather than raising it; where processes cannot be forked, a
            function of a module's top level.
        items: what to hand it.
        workers: processes; each holds one item at a time.
        failed: makes the result of an item whose process dies or runs out of memory, from the item and a sentence.

    Yields:
        Index and result, as they come.

    Raises:
        CaseError: a process died and there is no `failed`, or no process can be started.
    """

    def given_up(index: int, item: T) -> tuple[int, R]:
        if failed is None:
            raise CaseError(f"item {index + 1} of {len(items)}", *DIED.split("; "))
        return index, failed(item, DIED)

    if workers <= 0:
        yield from _in_this_process(function, items, given_up)
    else:
        yield from _in_a_pool(function, items, workers, given_up)


def _in_this_process(
    function: Callable[[T], R], items: Sequence[T], given_up: Callable[[int, T], tuple[int, R]]
) -> Iterator[tuple[int, R]]:
    for index, item in enumerate(items):
        try:
            found = index, function(item)
        except MemoryError:
            found = given_up(index, item)
        yield found


def _in_a_pool(
    function: Callable[[T], R], items: Sequence[T], workers: int, given_up: Callable[[int, T], tuple[int, R]]
) -> Iterator[tuple[int, R]]:
    waiting, suspects = deque(enumerate(items)), deque[tuple[int, T]]()
    while waiting:
        running: dict[Future[R], tuple[int, T]] = {}
        with _pool(function, workers) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        running[_submit(pool, waiting[0][1])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        found = _result(future, *running[future], given_up)
                        del running[future]
                        yield found
            except BrokenProcessPool:
                suspects.extend(running.values())
        while suspects:
            index, item = suspects.popleft()
            with _pool(function, 1) as pool:
                try:
                    found = _result(_submit(pool, item), index, item, given_up)
                except BrokenProcessPool:
                    found = given_up(index, item)
            yield found


def _result(future: Future[R], index: int, item: T, given_up: Callable[[int, T], tuple[int, R]]) -> tuple[int, R]:
    try:
        return index, future.result()
    except MemoryError:
        return given_up(index, item)


def _submit(pool: ProcessPoolExecutor, item: Any) -> Future[Any]:
    try:
        return pool.submit(_call, item)
    except BrokenProcessPool:
        raise
    except (OSError, RuntimeError) as error:
        # without a process or a thread there is nothing that could be waited for
        for process in list(pool._processes.values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise CaseError("workers", f"no process can be started ({error})", "pass fewer --workers") from error


def _pool(function: Callable[[Any], Any], workers: int) -> ProcessPoolExecutor:
    from tqdm import tqdm

    # its monitor is a thread, and a fork copies the locks that threads hold
    tqdm.monitor_interval = 0
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    # the function is inherited by a fork, so that it and what it holds need not be fit for sending
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(function,))


# of a worker process: what it was started for
_given: list[Callable[[Any], Any]] = []


def _call(item: Any) -> Any:
    return _given[-1](item)


def _begin(function: Callable[[Any], Any]) -> None:
    """One thread per process, since processes fill the cores; and an end with the parent."""
    _given.append(function)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
