"""The trainings of MasterNet and winner in several processes.

`tests/training/test_processes.py` has two real processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds_lab import ClosedFormLaboratory, search, settings
from torch import nn

from command_line import fails, invoke
from genets.core.errors import SettingsError, TrainingError
from genets.core.progress import Progress
from genets.nas.laboratory import Laboratory
from genets.nas.plan.probe import TrainingTime
from genets.nas.settings.settings import SearchSettings
from genets.nas.team_training import LostProcessError, TeamJob, TeamRunner, _collect, _from_bytes
from genets.nas.workers.local_process import LocalProcess
from genets.networks.weights import read_weights
from genets.training.epoch_checkpoints import EpochCheckpoints
from genets.training.run.trainer import check_shares

RECIPE = {"epochs": 1, "warmup_epochs": 0.5, "batch_size": 128, "mixup": 0.2, "ema_decay": 0.9}


class TrainsAlone(ClosedFormLaboratory):
    """Trains MasterNet and winner for real; a job for several processes in this one."""

    def __init__(self, asked: SearchSettings) -> None:
        super().__init__(asked)
        self.jobs: list[TeamJob] = []

    def train(self, *words: Any, **options: Any) -> None:
        Laboratory.train(self, *words, **options)

    def train_in_team(
        self, net: nn.Module, job: TeamJob, on_epoch: Callable[[int, float], None]
    ) -> None:
        self.jobs.append(job)
        runner = TeamRunner(replace(job, processes=1), 0)
        while len(answer := runner.run((None,))) > 1:
            on_epoch(*answer)
        net.load_state_dict(_from_bytes(*answer))


@pytest.fixture
def as_a_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a runner changes in its process is undone."""
    for name in ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("as_a_process")
def test_the_processes_get_the_training_of_the_search(tmp_path: Path) -> None:
    """A team of one process gives the bits of the search itself, also in folds."""
    asked = settings(rounds=1, confirm=1, folds=2, master_training=RECIPE, final_training=RECIPE)
    labs = TrainsAlone(asked), TrainsAlone(asked)
    torch.set_num_threads(1)  # as `fitting_threads` chooses for steps of this size
    search(asked, tmp_path / "alone", labs[0])
    search(asked, tmp_path / "team", labs[1], processes=2)
    assert not labs[0].jobs
    assert [job.processes for job in labs[1].jobs] == [2] * 4, "MasterNets of 3 parts, and winner"
    files = sorted(path.relative_to(tmp_path / "alone")
                   for path in (tmp_path / "alone").rglob("*.safetensors"))  # fmt: skip
    assert len(files) >= 4
    for file in files:
        alone, team = (read_weights(tmp_path / name / file)[0] for name in ("alone", "team"))
        assert all(torch.equal(alone[name], team[name]) for name in alone), file


@pytest.mark.usefixtures("as_a_process")
def test_a_training_of_several_processes_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EpochCheckpoints.__init__.__kwdefaults__, "seconds", 0.0)
    asked = settings(rounds=1, confirm=1, master_training=RECIPE | {"epochs": 3})
    seen: list[float] = []

    def stop(step: Progress) -> None:
        if step.phase == "MasterNet training" and step.done == 2:
            raise KeyboardInterrupt

    def watch(step: Progress) -> None:
        if step.phase == "MasterNet training":
            seen.append(step.done)

    with pytest.raises(KeyboardInterrupt):
        search(asked, tmp_path / "study", TrainsAlone(asked), processes=2, on_event=stop)
    search(asked, tmp_path / "study", TrainsAlone(asked), processes=2, on_event=watch)
    assert seen == [2, 3]


@dataclass
class Ended:
    """A process that has ended; `sentinel` is ready."""

    exitcode: int = -9
    sentinel: Any = field(default_factory=lambda: _closed_pipe())

    def join(self, timeout: float | None = None) -> None:
        pass


def _closed_pipe() -> Connection:
    near, far = Pipe()
    far.close()
    return near


@dataclass
class Alive:
    """The processes of a job, of which each has given an answer or has died."""

    alive: list[LocalProcess]

    def remove(self, process: LocalProcess) -> str:
        return process.end()


def answers(*given: object) -> Any:
    """Processes with these answers; None has died without one."""
    processes = []
    for number, answer in enumerate(given):
        near, far = Pipe()
        if answer is not None:
            far.send(answer)
        far.close()
        processes.append(LocalProcess(number, Ended(), near))  # type: ignore[arg-type]
    return Alive(processes)


def test_the_answers_of_all_processes_are_collected() -> None:
    assert _collect(answers([0.5], [0.25], [])) == {0: [0.5], 1: [0.25], 2: []}


@pytest.mark.parametrize("given", [(LostProcessError("lost"), None), (None, LostProcessError(""))])
def test_a_process_that_died_is_the_reason_and_not_those_that_lost_it(given: Any) -> None:
    with pytest.raises(TrainingError, match=r"of the 2 processes of the training died \(it was k"):
        _collect(answers(*given))


def test_the_error_of_a_process_is_the_error_of_the_training() -> None:
    with pytest.raises(TrainingError, match="the loss became nan"):
        _collect(answers(LostProcessError("lost"), TrainingError("the loss became nan")))
    with pytest.raises(LostProcessError):
        _collect(answers(LostProcessError("lost"), [0.5]))


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (0, "processes must be 1 or more, not 0"),
        (-2, "processes must be 1 or more, not -2"),
        (3, "master_training: batch_size 64 must be a multiple of 3, because 3 processes share it"),
    ],
)
def test_a_wrong_number_of_processes(processes: int, message: str, tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = ("--data", "digits", "--budget", "0.5x", "--preset", "quick", "--out", out)
    fails(invoke("search", *words, "--processes", processes), message)
    assert not out.exists()


def test_a_batch_that_is_larger_than_the_images_is_not_shared(tmp_path: Path) -> None:
    asked = settings(final_training={"epochs": 1, "warmup_epochs": 0.5, "batch_size": 2048})
    with pytest.raises(SettingsError, match="batch_size of final_training must be at most 1078"):
        search(asked, tmp_path / "study", processes=2)
    check_shares(asked.final_training.recipe(), 2)  # as the number of images is not known there


def test_gpus_divide_the_steps_of_a_planned_training() -> None:
    time = TrainingTime(step_s=0.4, scoring_s=0.1, other_s=2.0, steps=9)
    assert time.shared(4, "cuda").seconds(10, 5) == 2.0 + 10 * 0.1 + 0.5
    assert time.shared(4, "cpu") == time  # the processes share the cores
