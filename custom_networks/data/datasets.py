"""Data for training: crops from prepared cases, and randomness that does not depend on who loads a sample."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Compose, Randomizable
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import DistributedSampler

from custom_networks.data.checks import case_name
from custom_networks.data.prepare import Recipe, case_folder, prepare_case, prepared_keys
from custom_networks.errors import CaseError
from custom_networks.processes import in_processes
from custom_networks.ranks import on_first_rank
from custom_networks.transforms.crops import ClassPositionsd, RandPatchCropd
from custom_networks.transforms.mapped import MappedVolume

logger = logging.getLogger(__name__)


def deterministic_part(transforms: Compose | Sequence[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """The transforms before the first random one, less the search for positions right before it, which the crop wants.

    Args:
        transforms: of a bundle's training, in order.

    Returns:
        The first of them, which give the same result every time.
    """
    found: list[Callable[..., Any]] = []
    for transform in transforms.transforms if isinstance(transforms, Compose) else transforms:
        if isinstance(transform, RandomizableTrait):
            break
        found.append(transform)
    while found and isinstance(found[-1], ClassPositionsd):
        found.pop()
    return found


class PreparedDataset(Dataset):
    """Cases whose deterministic transforms are done once, to arrays from which a crop is read without the rest.

    `prepare_datasets` does that for all cases before the first step; a case that is not prepared when it is asked for is
    prepared then. See `custom_networks.data.prepare` for what MONAI's caches lack.

    Args:
        data: datalist entries with absolute paths.
        transform: of the bundle, from loading on.
        cache_dir: folder that the arrays are written to, each recipe in a folder of its own.
        dtype: what they are stored in, see `Recipe`.
        stored: how many of the transforms are done beforehand; default those before the first random one.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose,
        cache_dir: str | Path,
        dtype: str = "int16",
        stored: int | None = None,
    ) -> None:
        super().__init__(data, transform)
        steps = list(transform.transforms)
        self.stored = len(deterministic_part(steps)) if stored is None else stored
        self.recipe = Recipe(steps[: self.stored], dtype)
        self.folder = self.recipe.folder(cache_dir)
        following = next((step for step in steps[self.stored :] if not isinstance(step, ClassPositionsd)), None)
        self.crops = isinstance(following, RandPatchCropd)
        self.keys: dict[int, tuple[str, ...]] = {}

    def missing(self) -> list[Mapping[str, Any]]:
        """The cases that are not prepared."""
        for index, case in enumerate(self.data):
            self.keys[index] = prepared_keys(case, self.recipe, self.folder)
        return [case for index, case in enumerate(self.data) if not self.keys[index]]

    def _transform(self, index: int) -> Any:
        case = self.data[index]
        if not self.keys.get(index):
            self.keys[index], _ = prepare_case(case, self.recipe, self.folder)
        place = str(case_folder(self.folder, case))
        volumes: dict[str, Any] = {key: MappedVolume(place, key) for key in self.keys[index]}
        if not self.crops:
            volumes = {key: volume.whole() for key, volume in volumes.items()}
        return self.transform({**case, **volumes}, start=self.stored)


def prepare_datasets(*datasets: TorchDataset[Any], workers: int = 4) -> None:
    """Prepare what is not prepared yet, in parallel and with a bar; for the `initialize` section of a bundle.

    On several ranks the first of each machine works and the others wait.

    Args:
        datasets: those that are not a `PreparedDataset` are left alone.
        workers: processes, each with one case at a time.

    Raises:
        CaseError: a case cannot be prepared, after all others were; the disk has too little space; two cases have one
            name.
    """
    prepared = [dataset for dataset in datasets if isinstance(dataset, PreparedDataset)]
    on_first_rank(partial(_prepare_all, prepared, workers), on_each_machine=True)
    for dataset in prepared:
        dataset.missing()


def _prepare_all(datasets: Sequence[PreparedDataset], workers: int) -> None:
    tasks: dict[Path, tuple[Mapping[str, Any], PreparedDataset]] = {}
    seen: dict[Path, str] = {}
    for dataset in datasets:
        for case in dataset.data:
            place = case_folder(dataset.folder, case)
            first = seen.setdefault(place, str(case["image"]))
            if first != str(case["image"]):
                raise CaseError(
                    case_name(case), f"{first} and {case['image']} are cases of one name", "give each its own name"
                )
        tasks |= {case_folder(dataset.folder, case): (case, dataset) for case in dataset.missing()}
    if not tasks:
        return
    from tqdm import tqdm

    _check_space(list(tasks.values()))
    bad: list[CaseError] = []
    # what goes to a process is small: it has the tasks
    done = in_processes(partial(_prepare_one, tasks), list(tasks), workers, partial(_died, tasks))
    for _, errors in tqdm(done, total=len(tasks), desc="prepare", unit="case", disable=None, smoothing=0.1):
        bad += errors
    for one in bad:
        logger.error("%s", one)
    if bad:
        more = f" (and {len(bad) - 1} more cases, which the log names)" if len(bad) > 1 else ""
        raise CaseError(bad[0].case, bad[0].problem, bad[0].remedy + more)


def _prepare_one(tasks: Mapping[Path, tuple[Mapping[str, Any], PreparedDataset]], place: Path) -> list[CaseError]:
    case, dataset = tasks[place]
    try:
        prepare_case(case, dataset.recipe, dataset.folder)
    except CaseError as error:
        return [error]
    return []


def _died(tasks: Mapping[Path, tuple[Mapping[str, Any], PreparedDataset]], place: Path, _: str) -> list[CaseError]:
    problem = "the process that prepared it died, probably for want of memory"
    return [CaseError(case_name(tasks[place][0]), problem, "free memory or pass a lower --num_workers")]


def _check_space(tasks: Sequence[tuple[Mapping[str, Any], PreparedDataset]]) -> None:
    folder = tasks[0][1].folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(dataset.recipe.bytes_of(case) for case, dataset in tasks) / 1e9
    free = shutil.disk_usage(folder).free / 1e9
    sizes = f"{len(tasks)} cases to prepare take {needed:.1f} GB in {folder}, where {free:.1f} GB are free"
    if needed > 0.98 * free:
        raise CaseError("prepared cases", sizes, "make room, or pass --prepared_dir a folder on a larger disk")
    logger.warning("%s", sizes)


class SeededSampler(DistributedSampler):
    """Which samples an epoch has, and the seed of each: a function of seed, epoch and place in the epoch alone.

    Random transforms of a DataLoader's workers depend on how many workers there are, and workers that persist cannot be
    told of a new epoch. A seed that comes with the index reaches whoever loads the sample. `SeededDataset` takes it.
    MONAI's engines call `set_epoch` when an epoch starts, because this is a DistributedSampler.

    All ranks draw one order and take turns in it: what ranks load together is what one process would load.

    Args:
        dataset: what is sampled.
        num_samples: of one rank in an epoch; default all of the dataset, shared among the ranks.
        replacement: draw each sample from all; else each is drawn once before any is drawn again.
        seed: of the training.
        num_replicas: ranks; default those of torch.distributed, or 1.
        rank: default that of torch.distributed, or 0.

    Yields:
        Index and seed.
    """

    def __init__(
        self,
        dataset: TorchDataset[Any],
        num_samples: int | None = None,
        replacement: bool = False,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        group = torch.distributed.is_available() and torch.distributed.is_initialized()
        replicas = num_replicas or (torch.distributed.get_world_size() if group else 1)
        place = rank if rank is not None else (torch.distributed.get_rank() if group else 0)
        super().__init__(dataset, replicas, place, seed=seed)
        self.replacement = replacement
        self.num_samples = num_samples or math.ceil(len(dataset) / replicas)  # type: ignore[arg-type]
        self.total_size = self.num_samples * replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed((1_000_003 * self.seed + self.epoch) % 2**63)
        size = len(self.dataset)  # type: ignore[arg-type]
        if self.replacement:
            order = torch.randint(size, (self.total_size,), generator=generator)
        else:
            rounds = math.ceil(self.total_size / size)
            order = torch.cat([torch.randperm(size, generator=generator) for _ in range(rounds)])[: self.total_size]
        seeds = torch.randint(2**32, (self.total_size,), generator=generator)
        mine = slice(self.rank, None, self.num_replicas)
        return iter(list(zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)))


class SeededDataset(TorchDataset[Any]):
    """A dataset whose random transforms start from the seed that `SeededSampler` gives with an index.

    Args:
        dataset: MONAI's kind, with `data` and `transform`; MONAI's random transforms draw from their own state alone.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @property
    def data(self) -> Any:
        """The cases."""
        return self.dataset.data

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        if isinstance(index, tuple):
            index, seed = index
            if isinstance(self.dataset.transform, Randomizable):
                self.dataset.transform.set_random_state(seed)
        return self.dataset[index]
