"""What one rank does for all: over gloo, in real processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from custom_networks import CaseError, check_cases
from custom_networks.ranks import on_first_rank


def _rank(rank: int, folder: Path, results: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)

    def work() -> str:
        (folder / f"worked{rank}").touch()
        return f"from {rank}"

    def refuse() -> None:
        raise CaseError("c1", "it is bad", "mend it")

    found = [on_first_rank(work)]
    for bad in (lambda: on_first_rank(refuse), lambda: check_cases([{"case": "c2", "image": str(folder / "no.nii")}])):
        try:
            bad()
        except CaseError as error:
            found.append(str(error))
    results.put((rank, found))
    distributed.destroy_process_group()


def test_the_first_rank_works_and_all_have_its_result_or_its_error(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, tmp_path, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = dict(results.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    assert found[0] == found[1]
    assert found[0][:2] == ["from 0", "c1: it is bad; mend it."]
    assert found[0][2].startswith("c2: image ")
    assert [path.name for path in tmp_path.glob("worked*")] == ["worked0"]


def test_without_ranks_it_is_just_done() -> None:
    assert on_first_rank(lambda: 3) == 3
    with pytest.raises(CaseError, match="c1"):
        on_first_rank(lambda: (_ for _ in ()).throw(CaseError("c1", "a", "b")))
