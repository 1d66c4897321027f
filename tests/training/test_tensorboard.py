"""TensorBoard files have the values of the log."""

import builtins
import json

import pytest

from genets.core.errors import TrainingError
from genets.training import RunRecipe, RunSettings
from genets.training.train_network import train_network

SETTINGS = RunSettings(
    network="Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16",
    data="digits",
    recipe=RunRecipe(epochs=2, batch_size=512),
)


def test_the_values_are_those_of_the_log(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_network(SETTINGS, tmp_path, device="cpu", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for tag, name in (("loss/training", "loss"), ("accuracy/validation top-1", "top1")):
        scalars = [(event.step, event.value) for event in events.Scalars(tag)]
        expected = [(record["epoch"], pytest.approx(record[name], rel=1e-6)) for record in records]
        assert scalars == expected


def test_without_the_package(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(TrainingError, match=r"pip install '\.\[tensorboard\]'"):
        train_network(SETTINGS, tmp_path / "run", device="cpu", tensorboard=True)
    assert not (tmp_path / "run").exists(), "the package was missed after the images were loaded"
