"""The faults of the tasks of a search on the SLURM of `tests/slurm/one_machine.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from conditions import ROOT
from faulting.disturbed import DRIVER_FAULTS, DisturbedSearch, Fault, processes, send

PREEMPT_SECONDS = 300.0


@contextmanager
def slurm_faults() -> Iterator[tuple[str, dict[str, Fault]]]:
    """Run SLURM for the block, and give the name of its workers and its faults."""
    sys.path.insert(0, str(ROOT / "tests" / "slurm"))
    slurm = import_module("one_machine")
    if missing := slurm.missing_programs():
        raise SystemExit(f"this machine has no {', '.join(missing)}; see `make test-slurm`")
    with slurm.running_slurm() as environment:
        os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
        yield (
            "slurm",
            DRIVER_FAULTS
            | {
                "kill_task": kill_task,
                "stop_task": stop_task,
                "requeue_task": requeue_task,
                "cancel_task": cancel_task,
                "preempt_tasks": preempt_tasks,
            },
        )


def kill_task(search: DisturbedSearch) -> None:
    send(search.wait_for(lambda: _task_processes(search)), signal.SIGKILL)


def stop_task(search: DisturbedSearch) -> None:
    """Let a task hang until its time limit."""
    send(search.wait_for(lambda: _task_processes(search)), signal.SIGSTOP)


def requeue_task(search: DisturbedSearch) -> None:
    if search.wait_for(lambda: _task_processes(search)) is not None and (tasks := _tasks()):
        _call("scontrol", "requeue", search.rng.choice(tasks))


def cancel_task(search: DisturbedSearch) -> None:
    """Cancel one of several tasks; the end of all tasks would be a wish to stop."""
    if len(tasks := _tasks()) > 1:
        _call("scancel", search.rng.choice(tasks))


def preempt_tasks(search: DisturbedSearch) -> None:
    words = ("--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wait")
    _call("sbatch", *words, "--wrap=sleep 1")


def _task_processes(search: DisturbedSearch) -> list[int]:
    """The processes that run groups of this search."""
    return [
        process
        for process, _, words in processes()
        if "-m submitit.core._submit" in words and "srun" not in words.split(" ")[0]
        and str(search.study) in words
    ]  # fmt: skip


def _tasks() -> list[str]:
    words = ("--array", "--noheader", "--format=%i", "--states=RUNNING", "--partition=usual")
    done = subprocess.run(["squeue", *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def _call(*words: str) -> None:
    """Call a command of SLURM; the task may have ended meanwhile."""
    subprocess.run(words, capture_output=True, check=False, timeout=PREEMPT_SECONDS)
