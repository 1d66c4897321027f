"""Which checkpoints are kept, and which one is the last."""

import hashlib

import pytest
import safetensors.torch
import torch

from genets.core.errors import TrainingError
from genets.training.checkpoints import Checkpoints


def save(checkpoints, epoch, step=0, best=None):
    tensors = {"weight": torch.full((2,), float(epoch))}
    return checkpoints.save(tensors, {"epoch": epoch, "step": step, "best": best})


def kept(checkpoints):
    return [path.name.partition(".")[0] for path in checkpoints.paths()]


@pytest.mark.parametrize("before", [8, 9_998, 99_998])
def test_the_newest_checkpoints_are_kept_at_any_epoch(tmp_path, before):
    checkpoints = Checkpoints(tmp_path)
    for epoch in range(before, before + 4):
        save(checkpoints, epoch, best=before)
    newest = f"epoch-{before + 3:04d}-step-000000"
    assert kept(checkpoints)[-1] == newest
    assert len(kept(checkpoints)) == 3
    assert checkpoints.last().state["epoch"] == before + 3
    assert checkpoints.best(before).tensors["weight"][0] == before


def test_checkpoints_are_sorted_by_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (999_999, 1_000_000, 1_000_001):
        save(checkpoints, 0, step)
    assert kept(checkpoints) == ["epoch-0000-step-1000000", "epoch-0000-step-1000001"]


@pytest.mark.parametrize("metadata", [None, {}, {"state": "[1"}, {"state": "1" * 5000}])
def test_a_checkpoint_without_a_state_is_not_used(tmp_path, metadata):
    notes = []
    content = safetensors.torch.save({"weight": torch.zeros(2)}, metadata)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    (tmp_path / f"epoch-0001-step-000000.{digest}.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match=r"all checkpoints in .* are damaged"):
        Checkpoints(tmp_path, notes.append).last()
    assert "cannot be read" in notes[0]
    assert "is not used" in notes[0]


def test_a_checkpoint_at_the_same_step_replaces_the_older_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    first = save(checkpoints, 1)
    second = checkpoints.save({"weight": torch.zeros(3)}, {"epoch": 1, "step": 0, "best": None})
    assert checkpoints.paths() == [second] != [first]
