"""A SLURM cluster, as a user names it: the resources of each worker, and SLURM's reply."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from genets.core.errors import SettingsError, WorkersError, counted, install_hint, shown
from genets.core.validation import check_fields
from genets.nas.workers.job import ProcessesPerGpu
from genets.nas.workers.slurm.arrays import SlurmArrays, run_command, submission
from genets.nas.workers.slurm.task import EARLY_SECONDS, SIGNAL_SECONDS
from genets.nas.workers.slurm.workers import SlurmWorkers

DEFAULT_TASKS = 8
DEFAULT_MINUTES = 60
# The signal before the end may come after a minute already, if the limit is shorter.
MIN_MINUTES = math.ceil((SIGNAL_SECONDS + EARLY_SECONDS) / 60) + 1
CPUS_WITH_GPU = 4  # they read the images


@dataclass(frozen=True, kw_only=True)
class SlurmCluster:
    """A SLURM cluster that runs workers as tasks of job arrays; see `Machines`.

    The study folder and the images must have the same path on every node. Other options of sbatch
    come from the variables of sbatch, such as SBATCH_ACCOUNT and SBATCH_QOS.

    Attributes:
        partition: The partition; None for the default of the cluster.
        time: The time limit of each task, in minutes or in a form of SLURM such as `2:00:00` or
            `1-12`. A task that runs out of time is put back into the queue.
        gpus: The number of GPUs of each task, each with a worker of its own; None for one where
            the search trains on GPUs.
        cpus: The CPU cores of each worker; None for one, and for four beside a GPU.
        memory_gb: The memory of each task, in GB; None for the default of the cluster.
    """

    partition: str | None = None
    time: int | str = DEFAULT_MINUTES
    gpus: Annotated[int, Field(ge=1)] | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        """Raises GenetsError: a value has another type or is out of range."""
        check_fields(self, raises=SettingsError)
        if self.partition is not None and not re.fullmatch(r"[^\s,|]+", self.partition):
            raise SettingsError(
                f"partition of a SLURM cluster must be one name, not {shown(self.partition)}"
            )
        if self.minutes < MIN_MINUTES:
            raise SettingsError(
                f"time of a SLURM task must be at least {MIN_MINUTES} minutes, not "
                f"{shown(self.time)}"
            )

    def __str__(self) -> str:
        return "SLURM" if self.partition is None else f"SLURM, partition {self.partition}"

    @property
    def minutes(self) -> int:
        """The time limit of a task in minutes."""
        if isinstance(self.time, int):
            return self.time
        minutes = parse_minutes(self.time)
        if minutes is None:
            raise SettingsError(
                "time of a SLURM task must be a number of minutes, or HOURS:MINUTES:SECONDS, "
                f"DAYS-HOURS or DAYS-HOURS:MINUTES, not {shown(self.time)}"
            )
        return minutes

    def check(self, device: str) -> None:
        """Raise GenetsError where SLURM or submitit is missing, or SLURM refuses such tasks."""
        import_submitit()
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise WorkersError(
                "this machine has no SLURM: the command sbatch is missing; call genets on a "
                "machine from which you submit jobs"
            )
        if device == "cpu" and self.gpus is not None:
            raise SettingsError(
                "the search trains on CPUs (see setting training_device), so its tasks on SLURM "
                "cannot have gpus"
            )
        self._check_limit()
        self._check_accepted(device)

    def _check_limit(self) -> None:
        """Raise WorkersError where the partition has a shorter time limit: the task would wait."""
        words = [] if self.partition is None else [f"--partition={self.partition}"]
        for line in run_command("sinfo", "--noheader", "--format=%P|%l", *words):
            name, limit = line.split("|")
            if self.partition is None and not name.endswith("*"):
                continue
            longest = parse_minutes(limit)
            if longest is not None and longest < self.minutes:
                raise WorkersError(
                    f"partition {name.rstrip('*')} of SLURM has a time limit of "
                    f"{counted(longest, 'minute')}, and a task asks for {self.minutes}"
                )

    def _check_accepted(self, device: str) -> None:
        """Raise WorkersError where SLURM refuses such a task; nothing is submitted."""
        from submitit.core.utils import FailedSubmissionError

        parameters = self.parameters(device)
        parameters["additional_parameters"] = {"test-only": True}
        with (
            tempfile.TemporaryDirectory(prefix="genets-slurm-") as folder,
            suppress(FailedSubmissionError),  # SLURM accepts the task, but there is no number
            submission(Path(folder), parameters) as executor,
        ):
            executor.submit(print)

    def workers_per_task(self, device: str) -> int:
        """Give the number of workers of each task: one for each GPU."""
        return 1 if device == "cpu" else self.gpus or 1

    def worker_cpus(self, device: str) -> int:
        """Give the number of cores of each worker."""
        return self.cpus or (1 if device == "cpu" else CPUS_WITH_GPU)

    def parameters(self, device: str) -> dict[str, Any]:
        """Give the parameters of submitit for a task."""
        workers = self.workers_per_task(device)
        cpus = workers * self.worker_cpus(device)
        parameters: dict[str, Any] = {
            "time": self.minutes,
            "signal_delay_s": SIGNAL_SECONDS,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": cpus,
            "additional_parameters": {"requeue": True},
            # srun does not take the number from sbatch since SLURM 22.05.
            "srun_args": [f"--cpus-per-task={cpus}"],
        }
        if self.partition is not None:
            parameters["partition"] = self.partition
        if device != "cpu":
            parameters["gpus_per_node"] = workers
        if self.memory_gb is not None:
            parameters["mem"] = f"{math.ceil(self.memory_gb * 1000)}M"
        return parameters

    def workers(
        self,
        count: int | None,
        device: str,
        processes_per_gpu: ProcessesPerGpu,
        folder: Path,
    ) -> SlurmWorkers:
        """See `Machines.workers`. A GPU belongs to one worker."""
        device = device.partition(":")[0]
        per_task = self.workers_per_task(device)
        tasks = DEFAULT_TASKS if count is None else math.ceil(count / per_task)
        return SlurmWorkers(
            cluster=str(self),
            count=tasks * per_task,
            per_task=per_task,
            cpus=self.worker_cpus(device),
            has_gpus=device != "cpu",
            limit_seconds=60.0 * self.minutes,
            folder=folder.absolute(),
            make_arrays=lambda name, place: SlurmArrays(name, place, self.parameters(device)),
        )


def import_submitit() -> Any:
    """Import submitit. Raises WorkersError."""
    try:
        import submitit
    except ImportError as error:
        raise WorkersError(
            f"workers on SLURM need the package submitit; {install_hint('slurm')}"
        ) from error
    return submitit


def parse_minutes(text: str) -> int | None:
    """Give the minutes of a time in a form of SLURM, rounded up; None for another text."""
    match = re.fullmatch(r"(?:(\d{1,5})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?", text.strip())
    if match is None:
        return None
    days, *parts = (None if each is None else int(each) for each in match.groups())
    numbers = [each for each in parts if each is not None]
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return ((days or 0) * 24 + hours) * 60 + minutes + math.ceil(seconds / 60)
