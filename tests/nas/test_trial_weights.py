"""The files with the weights of trials: limits, full disks, and damaged files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds_lab import SETTINGS

from genets.core.errors import FullDiskError, GenetsError
from genets.core.files import write_atomic
from genets.nas.study.records import Trial
from genets.nas.trials import weights as kept_weights
from genets.nas.trials.inherited import InheritedTrialJob
from genets.nas.trials.weights import TrialWeights
from genets.networks import build
from genets.networks import weights as weights_files
from genets.structure import Structure, SuperBlock
from genets.training import Recipe

MASTER = Structure.parse(SETTINGS["master"])


def trial(repeat: int = 0) -> Trial:
    return Trial(0, SuperBlock("XX", 1, 16, 2, 3), repeat)


def stage(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(MASTER, 2).stages[0]


def size_of_one(folder: Path) -> int:
    kept = TrialWeights(folder / "one", 10**9)
    kept.save(trial(), stage(0))
    return kept.path(trial()).stat().st_size


def test_the_oldest_weights_are_dropped_beyond_the_limit(tmp_path: Path) -> None:
    kept = TrialWeights(tmp_path / "trials", int(2.5 * size_of_one(tmp_path)))
    trials = [trial(repeat) for repeat in range(4)]
    for each in trials:
        kept.save(each, stage(0))
        assert kept.has(each)
    assert [kept.has(each) for each in trials] == [False, False, True, True]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_drops_the_oldest_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kept = TrialWeights(tmp_path / "trials", 10**9)
    trials = [trial(repeat) for repeat in range(3)]
    kept.save(trials[0], stage(0))
    kept.save(trials[1], stage(0))

    def full(*args: Any) -> None:
        if kept.has(trials[0]):
            raise OSError(number, os.strerror(number))
        write_atomic(*args)

    monkeypatch.setattr(weights_files, "write_atomic", full)
    kept.save(trials[2], stage(1))
    assert [kept.has(each) for each in trials] == [False, True, True]


def test_another_error_of_the_disk_drops_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = TrialWeights(tmp_path / "trials", 10**9)
    trials = [trial(repeat) for repeat in range(3)]
    kept.save(trials[0], stage(0))
    kept.save(trials[1], stage(0))

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(weights_files, "write_atomic", fail)
    kept.save(trials[2], stage(1))
    kept.store(kept.path(trials[2]).name, b"")
    assert [kept.has(each) for each in trials] == [True, True, False]


def test_a_disk_without_any_room_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise FullDiskError("cannot write weights: No space left on device")

    monkeypatch.setattr(kept_weights, "save_weights", full)
    kept = TrialWeights(tmp_path / "trials", 10**9)
    kept.save(trial(), stage(0))
    assert not kept.has(trial())


@pytest.mark.parametrize("place", ["study/../trials", "link"])
def test_weights_come_back_by_their_real_path(tmp_path: Path, place: str) -> None:
    """As from a worker on another machine."""
    (tmp_path / "study").mkdir()
    (tmp_path / "trials").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "trials")
    job = InheritedTrialJob(
        master=MASTER,
        master_weights=tmp_path / "master.safetensors",
        data="digits",
        recipe=Recipe(epochs=1, warmup_epochs=0, batch_size=64),
        seed=0,
        steps=1,
        kept=TrialWeights(tmp_path / place, 10**9),
    )
    made = TrialWeights(tmp_path / "made", 10**9)
    made.save(trial(), stage(0))
    name = made.path(trial()).name
    job.store(tmp_path / "trials" / name, made.path(trial()).read_bytes())
    assert job.kept.has(trial())


def test_stored_weights_are_read_exactly(tmp_path: Path) -> None:
    kept = TrialWeights(tmp_path, 10**9)
    module = stage(3)
    kept.save(trial(), module)
    for name, tensor in module.state_dict().items():
        assert torch.equal(kept.load(trial()).tensors[name], tensor)


@pytest.mark.parametrize("damage", ["truncated", "of another trial", "NaN", "folder"])
def test_damaged_weights_count_as_lost(tmp_path: Path, damage: str) -> None:
    kept = TrialWeights(tmp_path, 10**9)
    module = stage(0)
    kept.save(trial(1), module)
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = float("nan")
    kept.save(trial(0), module if damage == "NaN" else stage(0))
    path = kept.path(trial(0))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "of another trial":
        path.write_bytes(kept.path(trial(1)).read_bytes())
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    assert not kept.has(trial(0))
    assert kept.has(trial(1))
    with pytest.raises(GenetsError, match=str(path)):
        kept.load(trial(0))


def test_a_folder_that_cannot_be_made_costs_no_trial(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("a file")
    kept = TrialWeights(tmp_path / "trials", 10**9)
    kept.save(trial(), stage(0))
    assert not kept.has(trial())


def test_weights_that_cannot_be_removed_end_the_search_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk where the files belong to another user."""
    kept = TrialWeights(tmp_path, 10**9)
    kept.save(trial(0), stage(0))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(kept_weights, "save_weights", _refuse_to_write)
    kept.save(trial(1), stage(0))
    assert [kept.has(trial(number)) for number in range(2)] == [True, False]


def _refuse_to_write(*_: Any) -> None:
    raise FullDiskError("cannot write weights: No space left on device")
