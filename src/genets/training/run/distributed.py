"""Processes that train one network together, each on its own device."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from genets.core.errors import GenetsError, TargetError, TrainingError
from genets.core.gpu import check_free_memory
from genets.data import Share
from genets.training.resources import training_device
from genets.training.team import Team

Value = TypeVar("Value")
FABRIC_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


class Processes:
    """The group of processes that train together; usually this process is alone.

    Args:
        device: auto, cpu, cuda or cuda:NUMBER.
        here: The number of processes on this machine. The others are started here: each runs the
            command line of this program again. None means the processes that torchrun started,
            or one process.
        precision: The precision of a `Recipe`.

    Attributes:
        team: This group, for a training loop.

    Raises:
        TrainingError: This machine has no such device, or too few of them, or the device has no
            free memory.
    """

    def __init__(
        self, device: str = "auto", here: int | None = None, precision: str = "fp32"
    ) -> None:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        chosen = find_device(device)
        here, machines = _layout(here)
        devices: Any = here
        if chosen.type == "cuda":
            devices = _gpus(chosen, here)
        # Named, because Fabric would take the tasks of a SLURM job as the processes.
        by_torchrun = TorchElasticEnvironment.detect()
        environment = TorchElasticEnvironment() if by_torchrun else LightningEnvironment()
        with _quiet():  # Fabric prints a greeting in every process
            self.fabric = Fabric(
                accelerator=chosen.type,
                devices=devices,
                num_nodes=machines,
                plugins=environment,
                precision=cast(Any, FABRIC_PRECISIONS[precision]),
            )
            self.fabric.launch()
        self.device: torch.device = self.fabric.device
        if self.device.type == "cuda":
            with _as_training_error():
                check_free_memory(torch, str(self.device))
        self.share = Share(self.fabric.global_rank, self.fabric.world_size)
        self.here = here
        self.team = Team(
            self.share.number,
            self.share.count,
            self.fabric.setup_module,
            self.fabric.backward,
            self.sum,
            self.gather,
            self.spread_buffers,
        )

    @property
    def count(self) -> int:
        return self.share.count

    @property
    def is_first(self) -> bool:
        """Whether this is the first process, which writes all files and reports to the user."""
        return self.share.number == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, also written into `tensor`."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in the order of the processes."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def spread_buffers(self, net: nn.Module) -> None:
        """Copy the buffers (batch norm statistics) of the first process to all others."""
        if self.count > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)

    def is_lost(self, error: RuntimeError) -> bool:
        """Whether the error was caused by the end of another process."""
        text = str(error).lower()
        return self.count > 1 and any(name in text for name in ("gloo", "nccl"))

    def run_on_first(self, act: Callable[[], object]) -> None:
        """Call `act` in the first process; the others wait, and fail where it fails.

        Raises GenetsError or OSError.
        """
        fault: Exception | None = None
        if self.is_first:
            try:
                act()
            except (GenetsError, OSError) as error:
                fault = error
        message = self.gather(None if fault is None else str(fault))[0]
        if fault is not None:
            raise fault
        if message is not None:
            raise TrainingError(message)


def check_processes(device: str, here: int | None) -> None:
    """Raise TrainingError where `Processes` would, without starting a process."""
    chosen, (here, _) = find_device(device), _layout(here)
    if chosen.type == "cuda":
        _gpus(chosen, here)


def find_device(name: str) -> torch.device:
    """The device of a run; see `training_device`. Raises TrainingError in place of TargetError."""
    with _as_training_error():
        return torch.device(training_device(name))


@contextmanager
def _as_training_error() -> Iterator[None]:
    try:
        yield
    except TargetError as error:
        raise TrainingError(str(error)) from error


def is_first_process() -> bool:
    """Whether this is the first process, as far as is known before a `Processes` is made."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _layout(processes: int | None) -> tuple[int, int]:
    """The number of processes on this machine, and the number of machines."""
    if processes is not None and processes < 1:
        raise TrainingError(f"processes must be 1 or more, not {processes}")
    if not distributed.is_torchelastic_launched():
        return processes or 1, 1
    started, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if processes not in (None, started):
        raise TrainingError(f"processes is {processes}, but torchrun started {started} processes")
    return started, everywhere // started


def _gpus(device: torch.device, here: int) -> list[int] | int:
    if here == 1 and not distributed.is_torchelastic_launched():
        return [device.index or 0]
    if device.index is not None:
        raise TrainingError(
            f"several processes use one GPU each, so the device must be cuda, not {device}"
        )
    if here > torch.cuda.device_count():
        raise TrainingError(
            f"{here} processes need {here} GPUs; this machine has {torch.cuda.device_count()}"
        )
    return here
