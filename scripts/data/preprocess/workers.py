"""Many cases side by side: in processes of this machine or on a Dask cluster. A process that dies loses no case."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from custom_networks import CaseError
from scripts.core.datalist import Case
from scripts.data.preprocess.case import Job, Outcome, process

DIED = "the process that worked on it died, probably for want of memory; free memory or pass fewer --workers"
DIED_THERE = "several workers died on it, probably for want of memory; give the workers more memory"


def run_local(job: Job, cases: Sequence[Case], workers: int) -> Iterator[Outcome]:
    """Process cases in worker processes; 0 workers do it in this one.

    When a process dies, the cases that were being worked on are tried again one at a time, so that only the one that
    kills its process is quarantined.

    Args:
        job: what all cases have in common.
        cases: of a datalist, with absolute paths.
        workers: processes; each holds one case at a time.

    Yields:
        Outcomes, as they come.
    """
    if workers <= 0:
        yield from (process(job, case) for case in cases)
        return
    waiting, suspects = deque(cases), deque[Case]()
    while waiting:
        running: dict[Future[Outcome], Case] = {}
        with _pool(workers) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        running[pool.submit(process, job, waiting[0])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        del running[future]
                        yield outcome
            except BrokenProcessPool:
                suspects.extend(running.values())
        while suspects:
            case = suspects.popleft()
            with _pool(1) as pool:
                try:
                    yield pool.submit(process, job, case).result()
                except BrokenProcessPool:
                    yield Outcome(case.name, "quarantined", DIED)


def _pool(workers: int) -> ProcessPoolExecutor:
    # forked where that exists: the imports, seconds per process, are done already
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(max_workers=workers, mp_context=multiprocessing.get_context(method))


def run_dask(job: Job, cases: Sequence[Case], scheduler: str, timeout: float = 20) -> Iterator[Outcome]:
    """Process cases on a Dask cluster whose workers see the same files.

    A case whose worker dies is given to another one; a finished case is recognised by its `meta.json`, so none is done
    twice. Workers run in an environment with this project's packages and the repository as working folder.

    Args:
        job: what all cases have in common; its paths are absolute.
        cases: of a datalist, with absolute paths.
        scheduler: address, such as `tcp://host:8786`.
        timeout: seconds to wait for it.

    Yields:
        Outcomes, as they come.

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
        futures: dict[Any, Case] = {client.submit(process, job, case, pure=False): case for case in cases}
        for future in as_completed(futures, loop=client.loop):
            try:
                yield future.result()
            except KilledWorker:
                yield Outcome(futures[future].name, "quarantined", DIED_THERE)
            except ImportError as error:
                raise CaseError(
                    f"scheduler {scheduler}",
                    f"its workers lack a package ({error})",
                    "start them in the repository's folder with its environment",
                ) from error
            # the scheduler need not keep it
            future.release()
