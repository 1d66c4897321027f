"""A training that is interrupted continues after its last whole epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_together import FULL, RECIPE, Blobs, small_net, teacher
from torch import nn

from genets.data import load_data
from genets.data.split import Fold
from genets.training import Metric, Recipe, RunRecipe, train
from genets.training.checkpoints import Checkpoints
from genets.training.epoch_checkpoints import EpochCheckpoints, newest_epoch, training_key
from genets.training.floor import Judge
from genets.training.loop import FLOOR
from genets.training.student import strip_prefix

KEY = "key"


def dropping_net(seed: int) -> nn.Module:
    """A network whose training draws random numbers."""
    return nn.Sequential(nn.Dropout(0.3), small_net(seed))


def checkpoints(folder: Path, key: str = KEY) -> EpochCheckpoints:
    return EpochCheckpoints(folder, key, seconds=0.0)


def learn(
    net: nn.Module,
    recipe: Recipe,
    stored: EpochCheckpoints | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> dict[str, torch.Tensor]:
    train(net, Blobs(), recipe, seed=4, teacher=teacher, checkpoints=stored, on_epoch=on_epoch,
          num_classes=2, judge=Judge(Blobs(), Metric.CROSS_ENTROPY))  # fmt: skip
    return dict(net.state_dict())


def interrupt(folder: Path, recipe: Recipe, *, at: int) -> None:
    """Train until an epoch has ended, whose checkpoint is not written any more."""

    def stop(epoch: int, loss: float) -> None:
        if epoch == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(dropping_net(0), recipe, checkpoints(folder), stop)


def continued(
    folder: Path, recipe: Recipe, key: str = KEY
) -> tuple[list[int], dict[str, torch.Tensor]]:
    """Continue from a network with other weights; give the epochs, and the weights."""
    epochs: list[int] = []
    weights = learn(
        dropping_net(7), recipe, checkpoints(folder, key), lambda n, _: epochs.append(n)
    )
    return epochs, weights


@pytest.mark.parametrize("recipe", [RECIPE, FULL])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_training_ends_with_the_same_bits(
    recipe: Recipe, at: int, tmp_path: Path
) -> None:
    whole = learn(dropping_net(0), recipe)
    interrupt(tmp_path, recipe, at=at)
    epochs, weights = continued(tmp_path, recipe)
    assert epochs == list(range(at, 3))
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


def test_the_start_is_restored_also_by_a_continued_training(tmp_path: Path) -> None:
    """A rate that makes the end worse than the linear start."""
    recipe = replace(FULL, learning_rate=1000.0, ema_decay=0.0, optimizer="sgd")
    whole = learn(dropping_net(0), recipe)
    interrupt(tmp_path, recipe, at=1)
    stored = Checkpoints(tmp_path / KEY).last()
    assert stored is not None
    start = strip_prefix(FLOOR, stored.tensors)
    assert all(torch.equal(whole[name], start[name]) for name in whole), "the end is worse"
    epochs, weights = continued(tmp_path, recipe)
    assert epochs == [1, 2]
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


def test_a_finished_epoch_has_a_checkpoint_only_from_time_to_time(tmp_path: Path) -> None:
    learn(dropping_net(0), RECIPE, EpochCheckpoints(tmp_path / "new", KEY))
    assert not (tmp_path / "new").exists()


def test_another_training_begins_anew_and_removes_the_checkpoints(tmp_path: Path) -> None:
    assert newest_epoch(tmp_path / "new") == 0
    interrupt(tmp_path, RECIPE, at=2)
    assert newest_epoch(tmp_path) == checkpoints(tmp_path).count_epochs() == 2
    epochs, _ = continued(tmp_path, RECIPE, "other")
    assert epochs == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_damaged_checkpoints_cost_the_epochs_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(tmp_path, RECIPE, at=2)
    (checkpoint,) = (tmp_path / KEY).iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    assert continued(tmp_path, RECIPE)[0] == [0, 1, 2]
    assert "begins again, because its checkpoint is unusable: all checkpoints" in caplog.text


def test_a_training_begins_again_after_a_checkpoint_of_another_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of its own start, and not of the weights that were loaded before the error."""
    whole = learn(dropping_net(0), RECIPE)
    interrupt(tmp_path, RECIPE, at=2)
    stored = Checkpoints(tmp_path / KEY)
    last = stored.last()
    assert last is not None
    wrong = {name: value[:1] if name.endswith("3.weight") else value
             for name, value in last.tensors.items()}  # fmt: skip
    stored.save(wrong, last.state)
    again = learn(dropping_net(0), RECIPE, checkpoints(tmp_path))
    assert "because its checkpoint is unusable: " in caplog.text
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_continued_training_knows_its_earlier_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, RECIPE, at=2)
    last = Checkpoints(tmp_path / KEY).last()
    assert last is not None
    Checkpoints(tmp_path / KEY).save(last.tensors, last.state | {"seconds": 100.0})
    again = checkpoints(tmp_path)
    learn(dropping_net(7), RECIPE, again)
    assert again.seconds_before == 100.0


def test_a_lack_of_memory_costs_the_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Checkpoints, *words: Any) -> None:
        raise MemoryError("none is left")

    monkeypatch.setattr(Checkpoints, "save", fail)
    learn(dropping_net(0), RECIPE, checkpoints(tmp_path))
    assert "a training has no checkpoint after epoch 3: " in caplog.text


def test_a_checkpoint_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "file"
    place.write_text("not a folder")
    learn(dropping_net(0), RECIPE, checkpoints(place))
    assert "a training has no checkpoint after epoch 3: " in caplog.text


def test_the_key_changes_with_everything_that_the_training_depends_on() -> None:
    data = load_data("digits", 8)
    usual: dict[str, Any] = {
        "net": small_net(0), "data": data, "recipe": RECIPE, "seed": 0, "device": "cuda:1",
        "teacher": None, "metric": Metric.TOP1,
    }  # fmt: skip

    def key(**changes: Any) -> str:
        values = usual | changes
        net, images, recipe = (values.pop(name) for name in ("net", "data", "recipe"))
        return training_key(net, images, recipe, **values)

    assert key() == key(net=small_net(0), device="cuda:0")
    folds = [load_data("digits", 8, fold=Fold(number, 2)) for number in range(2)]
    others = [
        key(net=small_net(1)),
        key(recipe=replace(RECIPE, epochs=4)),
        key(recipe=RunRecipe(epochs=3)),
        key(seed=1),
        key(device="cpu"),
        key(teacher=small_net(0)),
        key(teacher=small_net(1)),
        key(metric=Metric.CROSS_ENTROPY),
        key(data=load_data("digits", 16)),
        *(key(data=fold) for fold in folds),
    ]
    assert len({key(), *others}) == 1 + len(others), json.dumps(others)
