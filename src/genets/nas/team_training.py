"""The trainings of MasterNet and winner by several processes of this machine.

The processes share each batch, as those of `genets train --processes` do. They are the processes of
local workers, and an item stands for the next epoch: so each epoch is reported, a process that dies
is noticed, and all end with the search.
"""

from __future__ import annotations

import io
import math
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any, Self

import torch
from torch import Tensor, nn

from genets.core.errors import TrainingError
from genets.core.host import count_cpus
from genets.core.image_facts import Preprocessing
from genets.core.log import get_logger
from genets.data import MAX_BROKEN_SHARE
from genets.data.split import Fold, ImageData
from genets.nas.workers.images import load_worker_images
from genets.nas.workers.local_process import END_SECONDS, LocalProcess, LocalProcesses
from genets.networks import load_blocks
from genets.training import Metric, Recipe, fitting_threads
from genets.training.epoch_checkpoints import EpochCheckpoints
from genets.training.floor import Judge
from genets.training.loop import Training
from genets.training.run.distributed import Processes

_log = get_logger(__name__)


class LostProcessError(TrainingError):
    """Another process of the training has ended."""


@dataclass(frozen=True, kw_only=True)
class TeamJob:
    """A training that several processes share.

    Attributes:
        processes: The number of processes.
        networks: The network and its teacher or None, as `torch.save` writes them.
        data: The data set, whose images each process loads; see `load_data`.
        resolution, data_seed, preprocessing, max_broken_share, fold: See `load_data`.
        recipe: How the network is trained.
        seed: The seed of the training.
        device: The device that trains: cpu or cuda.
        own_blocks: Files with block types of the user's own.
        metric: The score on the validation images that decides where a recipe has a linear start.
        checkpoints: The training continues from these, and the first process stores further ones.
        port: A free port of this machine, at which the processes meet; see `train_in_team`.
    """

    processes: int
    networks: bytes
    data: str
    resolution: int
    data_seed: int
    preprocessing: Preprocessing
    max_broken_share: float
    fold: Fold | None
    recipe: Recipe
    seed: int
    device: str
    own_blocks: tuple[str, ...]
    metric: Metric
    checkpoints: EpochCheckpoints
    port: int = 0

    @classmethod
    def of(cls, net: nn.Module, teacher: nn.Module | None, data: ImageData, **values: Any) -> Self:
        """Make the job of a network and its images; `values` are the other fields."""
        return cls(
            networks=_to_bytes((net, teacher)),
            data=data.name,
            resolution=data.resolution,
            data_seed=data.seed,
            preprocessing=data.preprocessing,
            max_broken_share=data.broken.max_share if data.broken else MAX_BROKEN_SHARE,
            fold=data.fold,
            **values,
        )

    def runner(self, worker: int = 0) -> TeamRunner:
        return TeamRunner(self, worker)


class TeamRunner:
    """One process of a training; an item stands for the next epoch."""

    def __init__(self, job: TeamJob, number: int) -> None:
        self._checkpoints = job.checkpoints
        for file in job.own_blocks:
            load_blocks(file)
        net, teacher = _from_bytes(job.networks)
        torch.set_num_threads(max(1, count_cpus() // job.processes))
        os.environ |= {
            "LOCAL_RANK": str(number), "NODE_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job.port),
        }  # fmt: skip
        self._group = group = Processes(job.device, job.processes, job.recipe.precision)
        data = load_worker_images(
            job.data,
            job.resolution,
            job.recipe,
            seed=job.data_seed,
            device=group.device,
            share=group.share,
            max_broken_share=job.max_broken_share,
            preprocessing=job.preprocessing,
            fold=job.fold,
        )
        self._net = net.to(group.device)
        share = job.recipe.batch_size // job.processes
        self._threads = fitting_threads(net, job.resolution, share, reading=data.reading)
        self._threads.__enter__()  # until the end of the process
        self._training = Training(
            [net],
            data.train,
            job.recipe,
            seed=job.seed,
            teacher=teacher and teacher.to(group.device),
            device=group.device,
            num_classes=data.num_classes,
            judge=Judge(data.validation, job.metric),
            team=group.team,
        )
        job.checkpoints.resume(self._training)
        if len(set(group.team.gather(self._training.epoch))) > 1:
            raise TrainingError(
                "the processes of a training read different checkpoints, so give the same "
                "command again"
            )
        self._epochs = self._training.epochs()

    def run(self, group: Sequence[None]) -> list[Any]:
        """Train for an epoch, and give its number, from 0, and its mean loss.

        After the last epoch, the first process gives the trained weights. Raises TrainingError.
        """
        try:
            for (loss,) in self._epochs:
                if self._group.is_first:
                    self._checkpoints.save_if_due(self._training)
                return [self._training.epoch - 1, loss]
        except RuntimeError as error:
            if self._group.is_lost(error):
                raise LostProcessError("another process of the training has ended") from error
            raise
        (fault,) = self._training.faults
        if fault is not None:
            raise fault
        return [_to_bytes(self._net.state_dict())] if self._group.is_first else []


def train_in_team(job: TeamJob, on_epoch: Callable[[int, float], None]) -> dict[str, Tensor]:
    """Train a network in several processes of this machine.

    Args:
        job: The training.
        on_epoch: Called with the number of each epoch (from 0) and its mean loss.

    Returns:
        The trained weights, on the CPU.

    Raises:
        TrainingError: The loss is not finite, or a process has died.
    """
    if job.device != "cpu":
        torch.cuda.empty_cache()  # the memory that PyTorch caches becomes free for the processes
    with LocalProcesses(replace(job, port=_free_port())) as processes:
        for number in range(job.processes):
            processes.start(number)
        _collect(processes)  # all have loaded the images
        while len(answer := _run(processes)) > 1:
            epoch, loss = answer
            if math.isfinite(loss):  # otherwise the next answer is an error
                on_epoch(epoch, loss)
    weights: dict[str, Tensor] = _from_bytes(*answer)
    return weights


def _run(processes: LocalProcesses) -> Sequence[Any]:
    """Let all processes train for an epoch, and give the answer of the first one."""
    for process in processes.alive:
        process.send((None,))
    return _collect(processes)[0]


def _collect(processes: LocalProcesses) -> dict[int, Sequence[Any]]:
    """Wait for the answer of each process, and give the answers by the number of the process.

    Where a process dies, the others lose it. Its own reason is the better one, so it is awaited.
    """
    answers: dict[int, Sequence[Any]] = {}
    waiting, lost = list(processes.alive), None
    while waiting:
        handles = [handle for each in waiting for handle in (each.pipe, each.sentinel)]
        ready = wait(handles, None if lost is None else END_SECONDS)
        if not ready:
            break
        for process in [each for each in waiting if each.pipe in ready or each.sentinel in ready]:
            waiting.remove(process)
            try:
                answers[process.number] = process.receive()
            except LostProcessError as error:
                lost = error
            except EOFError:
                raise _death(processes, process) from None
    if lost is not None:
        raise lost
    return answers


def _death(processes: LocalProcesses, process: LocalProcess) -> TrainingError:
    count, reason = len(processes.alive), processes.remove(process)
    return TrainingError(
        f"process {process.number + 1} of the {count} processes of the training died ({reason}); "
        "give the same command again, with fewer --processes if memory ran out"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _to_bytes(values: Any) -> bytes:
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def _from_bytes(content: bytes) -> Any:
    """Read the output of another process of this search, onto the CPU."""
    return torch.load(io.BytesIO(content), "cpu", weights_only=False)
