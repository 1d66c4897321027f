"""The stages of `gpu_campaign` that train: a search, trials, and single training steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from genets.core.errors import BusyDeviceError
from genets.core.host import count_cpus
from genets.core.progress import Progress
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.gpus import StepCost, least_free_bytes, processes_per_gpu, step_cost
from genets.nas.trials.plan import GROUP_SIZE, changeable_stages, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob
from genets.nas.workers.local import run_inline
from genets.networks import build, resolve_network, save_weights
from genets.structure import SearchSpace
from genets.training import Recipe, make_optimizer
from genets.training.resources import usual_precision
from genets.training.step import move, train_mode, train_step
from gpu_session import TINY_MASTER, Session, seconds_per_call

SMALL_SEARCH: dict[str, Any] = {
    "trials_per_super_block": 6,
    "controls_per_super_block": 1,
    "confirm": 2,
    "confirm_epochs": 12,
    "master_training": {"epochs": 12},
    "trial_training": {"epochs": 3},
    "final_training": {"epochs": 12},
    "table_seconds": 8.0,
}
TINY_SEARCH: dict[str, Any] = {
    "trials_per_super_block": 2,
    "controls_per_super_block": 1,
    "confirm": 1,
    "master_training": {"epochs": 8},
    "trial_training": {"epochs": 1, "warmup_epochs": 0},
    "final_training": {"epochs": 1, "warmup_epochs": 0},
    "table_seconds": 0.5,
    "measure_seconds": 0.05,
    "space": {"blocks": ["XX3", "DW3r3"]},
    "target": {"batch_size": 4, "threads": 1},
    "master": str(TINY_MASTER),
}
# The first group of each process contains its start, and the end of the last ones is uneven.
GROUPS_PER_PROCESS = 4


def search(session: Session) -> None:
    """A whole search on digits with few trials and a small table."""
    values: dict[str, Any] = {"data": "digits", "budget": "2x" if session.tiny else "0.7x"}
    if session.tiny:
        values |= TINY_SEARCH | {"training_device": session.device}
    else:
        values |= SMALL_SEARCH | {"target": session.target(64), "training_device": session.device}
    with tempfile.TemporaryDirectory(prefix="genets-gpu-search-") as folder:
        start = time.perf_counter()
        phases: list[dict[str, Any]] = []

        def note(event: Progress) -> None:
            """Store when each phase began, so that a search that is stopped leaves its figures."""
            session.figures["progress"] = asdict(event)
            if not phases or phases[-1]["phase"] != event.phase:
                phases.append({"phase": event.phase, "start_s": time.perf_counter() - start})
                session.store(phases=phases)

        try:
            result = run_search(
                SearchSettings(**values),
                folder,
                workers=1 if session.tiny else None,
                wait_minutes=0 if session.tiny else 0.2,
                on_event=note,
            )
        except BusyDeviceError as error:
            if not session.tiny:
                raise
            session.store(busy=str(error))  # a busy machine must not fail the check of the stage
            return
        session.store(
            whole_seconds=time.perf_counter() - start,
            seconds_by_phase=result.seconds,
            trials=result.trials_done,
            structure=str(result.selected.structure),
            budget_ms=result.selected.budget_ms,
            measured_ms=result.selected.measured_ms,
            winner_top1=result.winner.top1,
            master_top1=result.master.top1,
        )


def trials(session: Session) -> None:
    """Trials of master_small in a second: alone, in a group, and in several processes."""
    settings = SearchSettings(data="digits", budget="1x", training_device=session.device)
    master = TINY_MASTER if session.tiny else settings.structure
    recipe = settings.trial_training.on_device(session.device).recipe()
    epochs = 1 if session.tiny else 2
    recipe = Recipe(epochs, recipe.batch_size, recipe.learning_rate, precision=recipe.precision)
    space = settings.space.design_space().around(master)
    processes = count_processes(session, step_cost(master, 10, recipe))
    groups = plan_groups(space, GROUPS_PER_PROCESS * processes)
    with tempfile.TemporaryDirectory(prefix="genets-gpu-trials-") as folder:
        weights = Path(folder) / "master.safetensors"
        save_weights(build(master, 10), weights, {})
        job = TrialJob(
            master=master, master_weights=weights, data="digits", recipe=recipe, seed=0,
            device=session.device, thaw="after",
        )  # fmt: skip
        session.store(epochs=epochs, precision=recipe.precision)
        time_one_process(session, job, groups[0])
        if not session.tiny:
            time_processes(session, job, groups, processes)


def count_processes(session: Session, cost: StepCost) -> int:
    """As many processes as a search would use, but at least two."""
    free = 2**40 if session.is_cpu else least_free_bytes(session.device)
    return max(2, processes_per_gpu(cost, count_cpus(), 1, free))


def plan_groups(space: SearchSpace, count: int) -> list[tuple[Trial, ...]]:
    """Plan at least `count` full groups of trials, as many for each super-block."""
    per_super_block = -(-count // len(changeable_stages(space)))
    planned = plan_trials(space, per_super_block * GROUP_SIZE - 1, 1, seed=0)
    return group_trials(planned)


def time_one_process(session: Session, job: TrialJob, group: tuple[Trial, ...]) -> None:
    """Time the trials of a group one after another and together, and compare their scores."""
    runner = job.runner()
    runner.run(group[:1])  # warm-up
    start = time.perf_counter()
    alone = [result for trial in group for result in runner.run([trial])]
    speeds = {"alone": len(alone) / (time.perf_counter() - start)}
    session.store(trials_per_second=speeds)
    start = time.perf_counter()
    together = runner.run(group)
    speeds["together"] = len(together) / (time.perf_counter() - start)
    note_failed_trials(session, [*alone, *together])
    session.store(
        trials_per_second=speeds,
        same_alone_and_together=[
            a.cross_entropy == b.cross_entropy for a, b in zip(alone, together, strict=True)
        ],
    )


def time_processes(
    session: Session, job: TrialJob, groups: list[tuple[Trial, ...]], processes: int
) -> None:
    """Time the groups in several processes, with and without the start of the processes."""
    start = time.perf_counter()
    ends: list[float] = []
    for result in run_inline(job, groups, processes):
        ends.append(time.perf_counter() - start)
        session.figures.update(processes=processes, trial_ends_s=ends)
        note_failed_trials(session, [result])
    session.store(processes_seconds=ends[-1],
                  trials_per_second_in_processes=steady_speed(ends, processes))  # fmt: skip


def note_failed_trials(session: Session, results: list[TrialResult]) -> None:
    """A failed trial takes no time to train and has no score, so its figures mean nothing."""
    session.failures += [
        f"the trial {result.trial.super_block} failed: {result.reason}"
        for result in results
        if result.status == "failed"
    ]


def steady_speed(ends_s: list[float], processes: int) -> float:
    """Trials in a second after every process has finished its first group.

    The first groups contain the start of the processes, which a longer search pays once.
    """
    first = processes * GROUP_SIZE
    return (len(ends_s) - first) / (ends_s[-1] - ends_s[first - 1])


def training_step(session: Session) -> None:
    """Images per second of a training step: GENet-large and ResNet-50."""
    cases = (("genet_large", 256), ("timm:resnet50", 224))
    if session.tiny:
        cases = ((str(TINY_MASTER), 8), ("timm:resnet18", 32))
    size, times = (2, 1) if session.tiny else (256, 20)
    recipe = Recipe(epochs=1, batch_size=size, precision=usual_precision(session.device))
    steps: dict[str, dict[str, Any]] = {}
    for name, pixels in cases:
        net = resolve_network(name, 1000).network
        move(net, session.device)
        train_mode(net)
        optimizer = make_optimizer(net, recipe)
        images = torch.randn(size, 3, pixels, pixels, device=session.device)
        images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(1000, (size,), device=session.device)

        def step() -> None:
            train_step(net, optimizer, images, labels, None, recipe, 0.01)  # noqa: B023

        seconds = seconds_per_call(session, step, times)
        steps[name] = {
            "resolution": pixels,
            "batch_size": size,
            "images_per_second": size / seconds,
            "precision": recipe.precision,
        }
        session.store(steps=steps)
