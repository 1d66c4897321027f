"""How many processes train on a GPU, and how many trials they train together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from genets.core.errors import TargetError
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.gpus import (
    LAUNCH_BOUND_MULTIPLY_ADDS,
    StepCost,
    fitting_group_size,
    least_free_bytes,
    processes_per_gpu,
    step_cost,
)
from genets.nas.trials.runner import TrialRunner
from genets.nas.workers.devices import list_devices
from genets.networks import build, count
from genets.structure import zoo
from genets.training import Recipe

GIB = 2**30
SMALL = StepCost(10**8, 10 * 2**20, 100 * 2**20)
LARGE = StepCost(10 * int(LAUNCH_BOUND_MULTIPLY_ADDS), 300 * 2**20, 8 * GIB)


def test_the_cost_of_a_step_grows_with_batch_and_precision() -> None:
    structure = zoo["master_small"]
    recipe = Recipe(epochs=1, batch_size=64)
    cost = step_cost(structure, 10, recipe)
    size = count(build(structure, 10), structure.resolution)
    assert cost.multiply_adds == 64 * size.multiply_adds
    assert cost.weight_bytes == 16 * size.parameters
    assert step_cost(structure, 10, replace(recipe, batch_size=128)).step_bytes == (
        2 * cost.step_bytes
    )
    assert step_cost(structure, 10, replace(recipe, precision="bf16")).step_bytes == (
        cost.step_bytes // 2
    )


def test_the_values_of_a_step_are_those_that_the_layers_return() -> None:
    structure = zoo["master_small"]
    net = build(structure, 10).eval()
    values = 0

    def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal values
        values += output.numel() * (not any(module.children()))

    for module in net.modules():
        module.register_forward_hook(note)
    net(torch.zeros(1, 3, structure.resolution, structure.resolution))
    cost = step_cost(structure, 10, Recipe(epochs=1, batch_size=1))
    assert cost.step_bytes == 4 * values


@pytest.mark.parametrize(
    ("cost", "cores", "gpus", "free", "processes"),
    [
        (SMALL, 16, 1, 70 * GIB, 4),
        (SMALL, 16, 4, 70 * GIB, 2),
        (SMALL, 16, 8, 70 * GIB, 1),
        (SMALL, 2, 1, 70 * GIB, 1),
        (SMALL, 16, 1, 10 * GIB, 2),
        (SMALL, 1, 1, 0, 1),
        (LARGE, 16, 1, 70 * GIB, 1),
    ],
)
def test_only_small_networks_share_a_gpu(cost, cores, gpus, free, processes) -> None:
    assert processes_per_gpu(cost, cores, gpus, free) == processes


@pytest.mark.parametrize(
    ("cost", "workers", "gpus", "free", "size"),
    [
        (SMALL, 1, 1, 70 * GIB, 16),
        (SMALL, 2, 2, 70 * GIB, 8),
        (SMALL, 4, 1, 70 * GIB, 4),
        (SMALL, 32, 8, 70 * GIB, 4),
        (LARGE, 1, 1, 70 * GIB, 16),
        (LARGE, 1, 1, 35 * GIB, 2),  # 17.5 GiB, of which steps take 16, and two trials 1.2
        (LARGE, 1, 1, 8 * GIB, 1),
    ],
)
def test_groups_are_as_large_as_memory_and_processes_allow(cost, workers, gpus, free, size) -> None:
    assert fitting_group_size(cost, workers, gpus, free, usual=4) == size


def test_a_search_trains_on_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert list_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert list_devices("cuda:2") == ["cuda:2"]


Outcome = Callable[[Sequence[Trial]], None]


@pytest.fixture
def runner() -> Callable[[Outcome], TrialRunner]:
    """Make a runner without images: a group succeeds, or raises the error of `outcome`."""

    def make(outcome: Outcome) -> TrialRunner:
        class Runner(TrialRunner):
            def __init__(self) -> None:
                self.master_net = build(zoo["master_small"], 10)

            class job:  # noqa: N801
                master, recipe = zoo["master_small"], Recipe(epochs=1)

            def _run(self, group: Sequence[Trial]) -> list[TrialResult]:
                outcome(group)
                return [TrialResult(trial, "done", 0.5, 1.0) for trial in group]

        return Runner()

    return make


def repeated_trials(count: int) -> list[Trial]:
    return [Trial(0, zoo["master_small"].super_blocks[0], repeat) for repeat in range(count)]


def test_a_group_that_does_not_fit_is_halved(runner) -> None:
    """Trials give the same numbers in every group, so only time is lost."""
    groups: list[int] = []

    def fit_two(group: Sequence[Trial]) -> None:
        groups.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    trials = repeated_trials(7)
    results = runner(fit_two).run(trials)
    assert [result.trial for result in results] == trials
    assert all(result.status == "done" for result in results)
    assert groups == [7, 3, 1, 2, 4, 2, 2]


def exhaust_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def exhaust_cpu() -> None:
    torch.empty(2**60)


def exhaust_python() -> None:
    raise MemoryError


def exhaust_onednn() -> None:
    """With little memory, torch itself may fail in other ways, too, so this is its error alone."""
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize(
    ("exhaust", "reason"),
    [
        (exhaust_gpu, "CUDA out of memory"),
        (exhaust_cpu, "DefaultCPUAllocator: can't allocate m"),
        (exhaust_python, "memory ran out: MemoryError"),
        (exhaust_onednn, "memory ran out: could not create a primitive"),
    ],
)
def test_a_trial_that_does_not_fit_alone_fails(
    runner, exhaust: Callable[[], None], reason: str
) -> None:
    def fit_some(group: Sequence[Trial]) -> None:
        if len(group) > 1 or group[0].repeat == 1:
            exhaust()

    results = runner(fit_some).run(repeated_trials(3))
    assert [each.status for each in results] == ["done", "failed", "done"]
    assert reason in results[1].reason


@pytest.mark.parametrize(
    "error",
    [
        "mat1 and mat2 shapes cannot be multiplied",
        "could not create a primitive descriptor for the convolution forward propagation primitive",
    ],
)
def test_another_error_of_a_trial_is_no_lack_of_memory(runner, error: str) -> None:
    def fail(group: Sequence[Trial]) -> None:
        raise RuntimeError(error)

    with pytest.raises(RuntimeError, match=error):
        runner(fail).run(repeated_trials(2))


def test_the_gpu_with_the_least_free_memory_limits_a_search(monkeypatch) -> None:
    log: list[str] = []
    free = {"cuda:0": 30 * GIB, "cuda:1": 20 * GIB}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("empty"))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda gpu: log.append(gpu) or (free[gpu], 80 * GIB)
    )
    # Tensors that are in use hold a part of the cache, which therefore stays.
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 12 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 2 * GIB)
    assert least_free_bytes("cuda") == 20 * GIB
    assert log == ["empty", "cuda:0", "cuda:1"], "workers cannot use the cache of this process"
    assert least_free_bytes("cuda:0") == 30 * GIB


def test_a_search_refuses_different_gpus_for_its_latency(monkeypatch, tmp_path) -> None:
    names = ["NVIDIA H100", "NVIDIA A100"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: names[number])
    settings = SearchSettings(
        data="digits",
        budget="0.5x",
        target={"device": "cuda", "engine": "torch"},
        training_device="cpu",
    )
    with pytest.raises(TargetError, match="this machine has different GPUs"):
        run_search(settings, tmp_path / "study")
    assert not (tmp_path / "study").exists()
