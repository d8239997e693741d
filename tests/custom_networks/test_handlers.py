from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from custom_networks import CaseError, ResumeTraining


def train(path: Path, names: list[str], epochs: int, resume: bool = True) -> list[int]:
    """Train on cases with these names; returns the epochs that were done."""
    done: list[int] = []
    network = torch.nn.Linear(1, 1)
    data = [{"case": name, "image": f"{path}/{name}.nii.gz"} for name in names]
    engine = Engine(lambda engine, batch: done.append(engine.state.epoch))
    ResumeTraining(path / "resume.pt", {"network": network}, resume=resume).attach(engine)
    engine.run(DataLoader(Dataset(data), batch_size=len(names)), max_epochs=epochs)
    return done


def test_goes_on_after_the_last_epoch(tmp_path):
    assert train(tmp_path, ["a", "b"], 2) == [1, 2]
    assert train(tmp_path, ["b", "a"], 3) == [3]
    assert train(tmp_path, ["a", "b"], 3) == []
    assert train(tmp_path, ["a", "b"], 1, resume=False) == [1]


def test_state_of_another_fold_is_refused(tmp_path):
    """Else fold 1, started in fold 0's folder, would end at once or go on from weights that saw its validation cases."""
    train(tmp_path, ["a", "b"], 2)
    with pytest.raises(CaseError, match=r"resume\.pt.*written with other training cases.*--resume False"):
        train(tmp_path, ["a", "c"], 2)
    assert train(tmp_path, ["a", "c"], 1, resume=False) == [1]


def test_a_file_of_before_cases_were_noted_still_resumes(tmp_path):
    train(tmp_path, ["a"], 1)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    del content["cases"]
    torch.save(content, tmp_path / "resume.pt")
    assert train(tmp_path, ["b"], 2) == [2]
