"""Many items side by side: in processes of this machine or on a Dask cluster. No item is lost, and none hangs the rest.

Processes are forked where that exists, since imports take many seconds; they end with this process, even if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from custom_networks import CaseError

T = TypeVar("T")
R = TypeVar("R")
DIED = "the process that worked on it died, probably for want of memory; free memory or pass fewer --workers"
DIED_THERE = "several workers died on it, probably for want of memory; give the workers more memory"


def parallel(
    function: Callable[[T], R],
    items: Sequence[T],
    workers: int,
    description: str,
    unit: str = "case",
    failed: Callable[[T, str], R] | None = None,
) -> list[R]:
    """Map over items in processes, with a progress bar that shows rate and time left.

    Args:
        function: a function of a module's top level.
        items: what to hand it.
        workers: processes; 1 works in this one.
        description: text of the progress bar.
        unit: what is counted.
        failed: see `in_processes`.

    Returns:
        Results in the order of the items.

    Raises:
        CaseError: see `in_processes`.
    """
    from tqdm import tqdm

    processes = 0 if workers <= 1 or len(items) <= 1 else min(workers, len(items))
    run = in_processes(function, items, processes, failed)
    bar: Iterable[tuple[int, R]] = tqdm(
        run, total=len(items), desc=description, unit=unit, disable=None, mininterval=0.5
    )
    return [result for _, result in sorted(bar, key=lambda found: found[0])]


def in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int, failed: Callable[[T, str], R] | None = None
) -> Iterator[tuple[int, R]]:
    """Map over items in processes; 0 workers do it in this one.

    When a process dies, the items that were being worked on are tried again one at a time, so that only the one that
    kills its process fails.

    Args:
        function: a function of a module's top level; it returns what is wrong with an item rather than raising it.
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
        with _pool(workers) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        running[_submit(pool, function, waiting[0][1])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        found = _result(future, *running[future], given_up)
                        del running[future]
                        yield found
            except BrokenProcessPool:
                suspects.extend(running.values())
        while suspects:
            index, item = suspects.popleft()
            with _pool(1) as pool:
                try:
                    found = _result(_submit(pool, function, item), index, item, given_up)
                except BrokenProcessPool:
                    found = given_up(index, item)
            yield found


def _result(future: Future[R], index: int, item: T, given_up: Callable[[int, T], tuple[int, R]]) -> tuple[int, R]:
    try:
        return index, future.result()
    except MemoryError:
        return given_up(index, item)


def _submit(pool: ProcessPoolExecutor, function: Callable[[T], R], item: T) -> Future[R]:
    try:
        return pool.submit(function, item)
    except BrokenProcessPool:
        raise
    except (OSError, RuntimeError) as error:
        # without a process or a thread there is nothing that could be waited for
        for process in list(pool._processes.values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise CaseError("workers", f"no process can be started ({error})", "pass fewer --workers") from error


def on_cluster(
    function: Callable[[T], R],
    items: Sequence[T],
    scheduler: str,
    failed: Callable[[T, str], R],
    timeout: float = 20,
) -> Iterator[tuple[int, R]]:
    """Map over items on a Dask cluster whose workers see the same files.

    An item whose worker dies is given to another one. Workers run in an environment with this project's packages and
    the repository as working folder.

    Args:
        function: see `in_processes`.
        items: what to hand it; paths in them are absolute.
        scheduler: address, such as `tcp://host:8786`.
        failed: see `in_processes`.
        timeout: seconds to wait for it.

    Yields:
        Index and result, as they come.

    Raises:
        CaseError: the scheduler does not answer, or its workers lack this project.
    """
    from distributed import Client, KilledWorker, as_completed

    try:
        client = Client(scheduler, timeout=f"{timeout}s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise CaseError(
            f"scheduler {scheduler}",
            f"it does not answer ({str(error).splitlines()[0]})",
            "start one with `dask scheduler` and workers with `dask worker ADDRESS --nthreads 1`",
        ) from error
    with client:
        # keys of this run only: results of an earlier run must not be taken for those of this one
        futures: dict[Any, int] = {client.submit(function, item, pure=False): i for i, item in enumerate(items)}
        for future in as_completed(futures, loop=client.loop):
            index = futures[future]
            try:
                yield index, future.result()
            except KilledWorker:
                yield index, failed(items[index], DIED_THERE)
            except ImportError as error:
                raise CaseError(
                    f"scheduler {scheduler}",
                    f"its workers lack a package ({error})",
                    "start them in the repository's folder with its environment",
                ) from error
            # the scheduler need not keep it
            future.release()


def _pool(workers: int) -> ProcessPoolExecutor:
    from tqdm import tqdm

    # its monitor is a thread, and a fork copies the locks that threads hold
    tqdm.monitor_interval = 0
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method), initializer=_begin)


def _begin() -> None:
    """One thread per process, since processes fill the cores; and an end with the parent."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
