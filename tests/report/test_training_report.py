"""Learning curves."""

import json
from itertools import pairwise

import pytest
from rich.console import Console

from genets.report.training import MAX_TICKS, _curves, _ticks, save_curves, training_table
from genets.training import EpochRecord, RunResult, Score


def record(epoch):
    loss = 1 / (epoch + 1)
    return EpochRecord(epoch, 4 * epoch, 0.1, loss, 0.5, 2 * loss, 3.0, 99.0, True, 10)


@pytest.mark.parametrize("epochs", [1, 2, 3, 12, 13, 40, 480])
def test_epochs_on_the_axis_are_whole_and_end_with_the_last(epochs):
    ticks = _ticks(epochs)
    assert ticks[-1] == epochs
    assert len(ticks) == len(set(ticks)) <= MAX_TICKS
    assert min(ticks) >= 1
    assert {b - a for a, b in pairwise(ticks)} <= {-(-epochs // MAX_TICKS)}


def test_the_axis_has_them():
    values = [{"epoch": epoch, "value": 1 / epoch, "series": "loss"} for epoch in (1, 2, 3)]
    axis = json.loads(_curves(values, "nats").to_json())["encoding"]["x"]["axis"]
    assert axis["values"] == [1, 2, 3]


@pytest.mark.parametrize("epochs", [(1, 2), (0,)], ids=["epochs", "linear start alone"])
def test_pictures_whatever_the_folder_is_called(tmp_path, epochs):
    save_curves([*map(record, epochs)], "photos\x1b\udcff", tmp_path)
    for name in ("curves-loss.png", "curves-accuracy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("balanced_images", "is_shown"), [(36.0, True), (99.0, False)])
def test_balanced_accuracy_is_shown_where_the_classes_have_unequal_sizes(balanced_images, is_shown):
    score = Score(0.5, 1.0, 100, 0.25, balanced_images)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(training_table(RunResult("r", "net", "photos", 1, 1, score, score, ())))
    assert ("25.00%" in capture.get()) == is_shown
