import numpy as np
import pytest

from genets.latency.engines import Prepared
from genets.latency.timing.clock import MAX_MOVED_RUN_S
from genets.latency.timing.drift import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    SAMPLES,
    VISIT_S,
    Visit,
    remove_drift,
    time_in_rounds,
)


def without_drift(visited: np.ndarray, seconds: np.ndarray) -> list[float]:
    return [result.seconds for result in remove_drift(visited, seconds)]


def rounds(device, costs: dict[str, float], time_limit_s: float) -> dict[str, float]:
    result = time_in_rounds(
        device,
        {name: device.runner(name, cost) for name, cost in costs.items()},
        rng=np.random.default_rng(0),
        time_limit_s=time_limit_s,
        on_progress=lambda share: None,
    )
    return {name: timed.seconds for name, timed in result.items()}


def test_known_costs_are_recovered(device) -> None:
    costs = {"a": 1e-5, "b": 3e-3, "c": 0.2}
    assert rounds(device, costs, 1.0) == pytest.approx(costs, rel=1e-9)


@pytest.mark.parametrize(("run_s", "share"), [(1e-3, 1.0), (2 * MAX_MOVED_RUN_S, 0.0)])
def test_a_network_is_moved_in_memory_between_visits(device, run_s: float, share: float) -> None:
    moved: list[None] = []
    run = Prepared(
        device.runner("a", run_s), lambda images: images, (1, 3, 8, 8),
        move=lambda: moved.append(None),
    )  # fmt: skip
    visits: list[Visit] = []

    def time_it(recorded: list[Visit]) -> None:
        time_in_rounds(
            device, {"a": run}, rng=np.random.default_rng(0), time_limit_s=1.0,
            on_progress=lambda share: None, on_visit=visits.append, recorded=recorded,
        )  # fmt: skip

    time_it([])
    assert len(visits) > 1
    assert len(moved) == share * (len(visits) - 1)
    first = visits[:1]
    moved.clear()
    visits.clear()
    time_it(first)  # continues after an interruption
    assert len(moved) == share * len(visits)


@pytest.mark.parametrize(("limit", "expected"), [(1e-9, MIN_ROUNDS), (1e9, MAX_ROUNDS)])
def test_number_of_rounds(device, limit: float, expected: int) -> None:
    rounds(device, {"a": 0.01, "b": 0.01}, limit)
    after_warm_up = [name for name, count in device.windows].count("b")
    assert after_warm_up == (1 + SAMPLES) * expected  # one window is not timed


@pytest.mark.parametrize(
    ("run_s", "runs"), [(VISIT_S / 6, 1 + SAMPLES), (VISIT_S / 2, 1 + 2), (VISIT_S, 1), (3.0, 1)]
)
def test_a_long_run_is_repeated_less_often(device, run_s: float, runs: int) -> None:
    result = rounds(device, {"a": run_s, "b": run_s}, 1e-9)
    assert result == pytest.approx({"a": run_s, "b": run_s})
    assert [name for name, count in device.windows].count("b") == runs * MIN_ROUNDS


def test_contradictions_that_stay_cost_at_most_half_as_much_again(device) -> None:
    costs = dict.fromkeys("abcdefgh", 1.0)
    runs = {name: device.runner(name, cost) for name, cost in costs.items()}
    rng = np.random.default_rng(0)
    time_in_rounds(device, runs, rng=rng, time_limit_s=1e-9, on_progress=lambda share: None,
                   find_contradictions=lambda times: list(times)[:4])  # fmt: skip
    ordinary, one_more = MIN_ROUNDS * len(costs), 2 * len(costs)
    assert ordinary < len(device.windows) - 1 <= 1.5 * ordinary + one_more


COSTS = np.geomspace(1.0, 7.0, 40)


def visits(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.permutation(len(COSTS)) for _ in range(count)])


def test_speed_that_changes_in_the_middle_of_rounds_is_taken_out() -> None:
    visited = visits(5)
    speed = np.where((np.arange(len(visited)) // 55) % 3 == 1, 1.3, 1.0)
    assert without_drift(visited, speed * COSTS[visited]) == pytest.approx(COSTS)


def test_a_slow_time_that_slows_networks_differently_is_left_out() -> None:
    visited = visits(6)
    slow = np.arange(len(visited)) < 90
    slowness = np.where(slow, np.linspace(1.2, 1.6, len(COSTS))[visited], 1.0)
    assert without_drift(visited, slowness * COSTS[visited]) == pytest.approx(COSTS)


def test_a_disturbance_of_one_network_changes_no_other() -> None:
    visited = visits(5)
    seconds = COSTS[visited]
    seconds[np.flatnonzero(visited == 3)[2]] *= 100
    assert without_drift(visited, seconds) == pytest.approx(COSTS)


def test_two_networks_are_enough() -> None:
    assert without_drift(np.array([0, 1, 1, 0]), np.array([1.0, 2.0, 2.0, 1.0])) == [1.0, 2.0]


@pytest.mark.parametrize(("min_window_s", "samples"), [(1e-3, 5), (10e-3, 2)])
def test_a_clock_with_long_windows_takes_few_of_them(device, min_window_s, samples) -> None:
    device.min_window_s = min_window_s
    runs = {name: device.runner(name, 0.5e-3) for name in "ab"}
    times = time_in_rounds(
        device, runs, rng=np.random.default_rng(0), time_limit_s=1e-9,
        on_progress=lambda share: None,
    )  # fmt: skip
    assert [estimate.seconds for estimate in times.values()] == pytest.approx([0.5e-3] * 2)
    timed = [count for _, count in device.windows if count == round(min_window_s / 0.5e-3)]
    assert len(timed) == 2 * MIN_ROUNDS * samples
