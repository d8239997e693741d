"""Many items side by side: in processes of this machine or on a Dask cluster. No item is lost, and none hangs the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from custom_networks import CaseError
from custom_networks.processes import DIED, in_processes

__all__ = ["DIED", "in_processes", "on_cluster", "parallel"]

T = TypeVar("T")
R = TypeVar("R")
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


def on_cluster(
    function: Callable[[T], R],
    items: Sequence[T],
    scheduler: str,
    failed: Callable[[T, str], R],
    timeout: float = 20,
    resource: str = "",
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
        resource: of which each item takes one, such as `GPU`; not asked for where no worker declares it.

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
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        wanted = {resource: 1} if any(resource in worker.get("resources", {}) for worker in workers) else None
        # keys of this run only: results of an earlier run must not be taken for those of this one
        futures: dict[Any, int] = {
            client.submit(function, item, pure=False, resources=wanted): i for i, item in enumerate(items)
        }
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
