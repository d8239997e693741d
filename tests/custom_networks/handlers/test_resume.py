import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events, State
from monai.handlers import CheckpointLoader, EarlyStopHandler

from custom_networks import CaseError
from custom_networks.handlers.training import BestModelSaver


def train(toy: Any, folder: Path, epochs: int, names: tuple[str, ...] = ("a", "b"), **more: Any) -> Any:
    """Train to the end; gives the toy."""
    run = toy(names)
    run.resumable(folder, epochs, **more).run()
    return run


def test_goes_on_after_the_last_epoch(toy, tmp_path):
    assert train(toy, tmp_path, 2).epochs == [1, 2]
    assert train(toy, tmp_path, 3, ("b", "a")).epochs == [3]
    assert train(toy, tmp_path, 3).epochs == []
    assert train(toy, tmp_path, 1, resume=False).epochs == [1]


def test_state_of_another_fold_is_refused(toy, tmp_path):
    """Else fold 1, started in fold 0's folder, would end at once or go on from weights that saw its validation cases."""
    train(toy, tmp_path, 2)
    with pytest.raises(CaseError, match=r"resume\.pt.*written with other training cases.*--resume False"):
        train(toy, tmp_path, 2, ("a", "c"))
    assert train(toy, tmp_path, 1, ("a", "c"), resume=False).epochs == [1]


def test_a_case_whose_file_has_another_size_is_another_case(toy, tmp_path):
    image = tmp_path / "a.nii.gz"
    run = toy(["a"])
    for content, epochs in ((b"1", 1), (b"12", 2)):
        image.write_bytes(content)
        run = toy(["a"])
        run.cases = [{"case": "a", "image": str(image)}]
        trainer = run.resumable(tmp_path, epochs)
        if epochs == 1:
            trainer.run()
    with pytest.raises(CaseError, match="other training cases"):
        trainer.run()
    # moved, with the same content, it is the same
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/a.nii.gz").write_bytes(b"1")
    run = toy(["a"])
    run.cases = [{"case": "a", "image": str(tmp_path / "moved/a.nii.gz")}]
    run.resumable(tmp_path, 2).run()
    assert run.epochs == [2]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"settings": {"rate": 2.0, "spacing": [1, 1, 5]}}, "rate 1.0, not 2.0"),
        ({"settings": {"rate": 1.0, "spacing": [1, 1, 4]}}, r"spacing \[1, 1, 5\], not \[1, 1, 4\]"),
        ({"seed": 1}, "seed 0, not 1"),
    ],
)
def test_other_settings_are_refused_by_name(toy, tmp_path, changed, said):
    same = {"settings": {"rate": 1.0, "spacing": (1, 1, 5)}}
    train(toy, tmp_path, 1, **same)
    with pytest.raises(CaseError, match=said):
        train(toy, tmp_path, 2, **{**same, **changed})
    assert train(toy, tmp_path, 2, **same).epochs == [2]


def test_fewer_epochs_than_were_trained_are_refused(toy, tmp_path):
    train(toy, tmp_path, 3)
    with pytest.raises(CaseError, match="trained 3 epochs, more than the 2"):
        train(toy, tmp_path, 2)


def test_more_epochs_follow_the_longer_schedule(toy, tmp_path, caplog):
    """Of a restored cosine the rate would climb back to its maximum beyond its end."""
    whole = train(toy, tmp_path / "whole", 10)
    run = toy()
    run.resumable(tmp_path / "cut", 4).run()
    run = toy()
    trainer = run.resumable(tmp_path / "cut", 10)
    rates: list[float] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: rates.append(run.optimizer.param_groups[0]["lr"]))
    with caplog.at_level(logging.WARNING):
        trainer.run()
    expected = torch.optim.lr_scheduler.CosineAnnealingLR(toy().optimizer, T_max=10)
    schedule = []
    for _ in range(10):
        schedule.append(expected.get_last_lr()[0])
        expected.optimizer.step()
        expected.step()
    assert rates == pytest.approx(schedule[4:], rel=1e-12)
    assert rates == sorted(rates, reverse=True)
    assert "10 epochs where there were 4" in caplog.text
    assert whole.epochs == list(range(1, 11))


def test_killed_and_resumed_ends_with_the_same_weights(toy, tmp_path):
    whole = train(toy, tmp_path / "whole", 5, best=True)
    run = toy()
    trainer = run.resumable(tmp_path / "cut", 5, best=True)

    def kill(engine: Any) -> None:
        if engine.state.epoch == 3:
            raise KeyboardInterrupt

    trainer.add_event_handler(Events.ITERATION_STARTED, kill)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = train(toy, tmp_path / "cut", 5, best=True)
    assert again.epochs == [3, 4, 5]
    assert torch.equal(whole.weights, again.weights)
    final = torch.load(tmp_path / "cut/final.pt", weights_only=True)
    assert all(torch.equal(final[name], value) for name, value in whole.network.state_dict().items())


def test_seeds_differ_between_epochs_and_ranks(toy, tmp_path, monkeypatch):
    drawn: dict[tuple[int, int], float] = {}
    for rank in (0, 1):
        monkeypatch.setattr("custom_networks.handlers.resume.process_rank", lambda rank=rank: rank)
        trainer = toy().resumable(tmp_path / str(rank), 2)
        trainer.add_event_handler(
            Events.EPOCH_STARTED,
            lambda engine, rank=rank: drawn.update({(rank, engine.state.epoch): float(torch.rand(()))}),
        )
        trainer.run()
    assert len(set(drawn.values())) == 4


def test_every_random_generator_starts_an_epoch_anew(toy, tmp_path):
    def drawn(start: int) -> list[tuple[float, float, float]]:
        found: list[tuple[float, float, float]] = []
        random.seed(start)
        np.random.seed(start)  # noqa: NPY002
        torch.manual_seed(start)
        trainer = toy().resumable(tmp_path / str(start), 1)
        trainer.add_event_handler(
            Events.EPOCH_STARTED,
            lambda engine: found.append((random.random(), float(np.random.rand()), float(torch.rand(())))),  # noqa: NPY002
        )
        trainer.run()
        return found

    assert drawn(1) == drawn(2)


def test_loss_scale_is_restored(toy, tmp_path):
    run = toy()
    trainer = run.resumable(tmp_path, 1)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer.run()
    run = toy()
    trainer = run.resumable(tmp_path, 2)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.run()
    assert trainer.scaler.get_scale() == 4.0


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 999])
def test_a_damaged_file_is_one_sentence(toy, tmp_path, content):
    train(toy, tmp_path, 1)
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(CaseError, match=r"resume\.pt: it is empty or damaged; delete it to start anew"):
        train(toy, tmp_path, 2)


def test_a_cut_file_is_one_sentence(toy, tmp_path):
    train(toy, tmp_path, 1)
    whole = (tmp_path / "resume.pt").read_bytes()
    (tmp_path / "resume.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CaseError, match="it is empty or damaged"):
        train(toy, tmp_path, 2)


def test_two_trainings_in_one_folder_are_refused(toy, tmp_path):
    other = toy().resumable(tmp_path, 1)
    first = toy().resumable(tmp_path, 1)

    def start(engine: Any) -> None:
        with pytest.raises(CaseError, match="another training is writing to it"):
            other.run()

    first.add_event_handler(Events.EPOCH_STARTED, start)
    first.run()
    # and the folder is free again
    assert train(toy, tmp_path, 2).epochs == [2]


def test_written_every_few_epochs_and_after_some_minutes(toy, tmp_path):
    written: list[int] = []

    def look(engine: Any) -> None:
        if (tmp_path / "resume.pt").is_file():
            written.append(torch.load(tmp_path / "resume.pt", weights_only=True)["epoch"])

    for minutes, expected in ((60.0, [2, 2, 4]), (0.0, [1, 2, 3, 4])):
        written.clear()
        run = toy()
        trainer = run.resumable(tmp_path, 5, epochs=2, minutes=minutes, resume=False)

        def wait(engine: Any, run: Any = run) -> None:
            run.resume.writer.wait()
            look(engine)

        trainer.add_event_handler(Events.EPOCH_STARTED, wait)
        trainer.run()
        assert written == expected
        assert torch.load(tmp_path / "resume.pt", weights_only=True)["epoch"] == 5


class Best:
    """What an evaluator's state and a validation would do: each epoch scores what `scores` says."""

    def __init__(self, run: Any, trainer: Any, scores: dict[int, float]) -> None:
        self.state = State(metrics={}, best_metric=-1, best_metric_epoch=-1, key_metric_name="dice")
        run.resume.best = self.state

        class Fake:
            state = self.state

            def has_registered_events(self, *_: Any) -> bool:
                return True

            def fire_event(self, *_: Any) -> None:
                """Nobody listens."""

        def validate(engine: Any) -> None:
            epoch = engine.state.epoch
            self.state.metrics = {"dice": scores[epoch]}
            if scores[epoch] > self.state.best_metric:
                self.state.best_metric, self.state.best_metric_epoch = scores[epoch], epoch
            run.saver.metrics_completed(Fake())

        # before ResumeTraining's, as in the bundles
        trainer._event_handlers[Events.EPOCH_COMPLETED].insert(0, (validate, (trainer,), {}))


def scored(toy: Any, folder: Path, scores: list[float]) -> Any:
    run = toy()
    trainer = run.resumable(folder, len(scores), best=True)
    run.validation = Best(run, trainer, dict(enumerate(scores, 1)))
    trainer.run()
    return run


def test_a_worse_model_does_not_replace_the_best_after_resuming(toy, tmp_path):
    first = scored(toy, tmp_path, [0.5, 0.9])
    best = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert torch.equal(best["weight"], first.network.weight)
    second = scored(toy, tmp_path, [0.5, 0.9, 0.7])
    assert second.epochs == [3]
    kept = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert torch.equal(kept["weight"], best["weight"])
    assert (second.validation.state.best_metric, second.validation.state.best_metric_epoch) == (0.9, 2)


def test_best_model_that_is_gone_is_written_again_where_the_state_has_it(toy, tmp_path, caplog):
    run = scored(toy, tmp_path, [0.5, 0.9])
    (tmp_path / "models/model.pt").write_bytes(b"cut")
    again = scored(toy, tmp_path, [0.5, 0.9])
    assert again.epochs == []
    assert "written again from" in caplog.text
    assert torch.equal(torch.load(tmp_path / "models/model.pt", weights_only=True)["weight"], run.network.weight)


def test_best_model_that_is_gone_for_good_is_said_when_training_has_ended(toy, tmp_path):
    scored(toy, tmp_path, [0.9, 0.5])
    (tmp_path / "models/model.pt").unlink()
    with pytest.raises(CaseError, match=r"has ended, and its best model, of epoch 1, is missing.*final\.pt"):
        scored(toy, tmp_path, [0.9, 0.5])


def test_best_model_that_is_gone_is_replaced_by_the_next_while_training_goes_on(toy, tmp_path, caplog):
    scored(toy, tmp_path, [0.9, 0.5])
    (tmp_path / "models/model.pt").unlink()
    run = scored(toy, tmp_path, [0.9, 0.5, 0.6])
    assert "next validation writes it anew" in caplog.text
    assert (run.validation.state.best_metric, run.validation.state.best_metric_epoch) == (0.6, 3)
    assert torch.equal(torch.load(tmp_path / "models/model.pt", weights_only=True)["weight"], run.network.weight)


def test_final_weights_are_written_again(toy, tmp_path):
    run = train(toy, tmp_path, 2)
    (tmp_path / "final.pt").unlink()
    train(toy, tmp_path, 2)
    assert torch.equal(torch.load(tmp_path / "final.pt", weights_only=True)["weight"], run.network.weight)


def test_without_any_validation_the_last_model_is_the_best(toy, tmp_path, caplog):
    run = train(toy, tmp_path, 2, best=True)
    assert "no validation chose a model" in caplog.text
    assert torch.equal(torch.load(tmp_path / "models/model.pt", weights_only=True)["weight"], run.network.weight)


def test_a_checkpoint_loader_starts_anew_from_its_weights(toy, tmp_path):
    """As MONAI Label trains again: with the present weights, and cases that were added."""
    first = train(toy, tmp_path, 2, best=True)
    assert isinstance(first.saver, BestModelSaver)
    for names in (("a", "b"), ("a", "b", "c")):
        run = toy(names)
        trainer = run.resumable(tmp_path, 2, best=True)
        loader = CheckpointLoader(str(tmp_path / "models/model.pt"), {"model": run.network})
        trainer.train_handlers = [loader, *trainer.train_handlers]
        trainer._event_handlers[Events.STARTED].insert(0, (loader, (trainer,), {}))
        start: list[torch.Tensor] = []
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine, run=run, start=start: start.append(run.weights))
        before = torch.load(tmp_path / "models/model.pt", weights_only=True)
        trainer.run()
        assert run.epochs == [1, 2]
        assert torch.equal(start[0][:27], before["weight"].flatten())


def test_a_training_that_starts_anew_leaves_nothing_of_the_one_before(toy, tmp_path):
    train(toy, tmp_path, 2)
    trainer = toy().resumable(tmp_path, 2, resume=False)

    def kill(engine: Any) -> None:
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.EPOCH_STARTED, kill)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert train(toy, tmp_path, 2).epochs == [1, 2]


def test_a_training_that_ends_early_has_written_its_state(toy, tmp_path):
    """As early stopping ends it, between two writes."""
    trainer = toy().resumable(tmp_path, 9, epochs=5)
    trainer._event_handlers[Events.EPOCH_COMPLETED].insert(
        0, (lambda engine: engine.terminate() if engine.state.epoch == 3 else None, (trainer,), {})
    )
    trainer.run()
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["epoch"] == 3


def test_minutes_are_counted_from_the_last_writing(toy, tmp_path, monkeypatch):
    """An epoch takes 40 minutes here, and the file is written after more than 60."""
    now, written = [0.0], []
    monkeypatch.setattr("custom_networks.handlers.resume.time.monotonic", lambda: now[0])
    run = toy()
    trainer = run.resumable(tmp_path, 6, epochs=99, minutes=60.0)
    original = run.resume.writer.write
    monkeypatch.setattr(
        run.resume.writer,
        "write",
        lambda path, content: (
            written.append(content["epoch"]) if path.name == "resume.pt" else None,
            original(path, content),
        ),
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: now.__setitem__(0, 2400.0 * engine.state.epoch))
    trainer.run()
    assert written == [2, 4, 6]


def test_weights_of_the_training_before_are_gone_when_it_starts_anew(toy, tmp_path):
    train(toy, tmp_path, 1)
    trainer = toy().resumable(tmp_path, 1, resume=False)
    seen: list[bool] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: seen.append((tmp_path / "final.pt").exists()))
    trainer.run()
    assert seen == [False]


def test_best_model_and_state_have_one_writer_and_both_folders_are_locked(toy, tmp_path):
    """The best model is then on the disk before the state that counts on it."""
    run = toy()
    run.resumable(tmp_path, 1, best=True)
    assert run.resume.writer is run.saver.writer
    assert [lock.folder for lock in run.resume.locks] == [tmp_path, tmp_path / "models"]


def test_a_training_that_was_stopped_early_stays_stopped(toy, tmp_path):
    """The count of epochs without progress is restored; the patience is that of the configuration."""

    def epochs(patience: int) -> list[int]:
        run, early = toy(), EarlyStopHandler(patience, lambda engine: 0.0)
        trainer = run.resumable(tmp_path, 9, early_stop=early)
        early.set_trainer(trainer)
        early.attach(trainer)
        # as in a bundle, where the validation comes before the saving
        handlers = trainer._event_handlers[Events.EPOCH_COMPLETED]
        handlers.insert(0, handlers.pop())
        trainer.run()
        return list(run.epochs)

    assert epochs(2) == [1, 2, 3]
    assert epochs(2) == []
    # one more epoch without progress is allowed, not three
    assert epochs(3) == [4]


def test_another_number_of_processes_is_another_training(toy, tmp_path, monkeypatch):
    toy().resumable(tmp_path, 1).run()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    with pytest.raises(CaseError, match="it was written with processes 1, not 2"):
        toy().resumable(tmp_path, 2).run()
