import numpy as np
import pytest

from genets.latency.rounds import MAX_ROUNDS, MIN_ROUNDS, time_in_rounds, without_drift


def rounds(device, costs: dict[str, float], time_limit_s: float) -> dict[str, float]:
    return time_in_rounds(
        device,
        {name: device.runner(name, cost) for name, cost in costs.items()},
        rng=np.random.default_rng(0),
        time_limit_s=time_limit_s,
        on_progress=lambda share: None,
    )


def test_known_costs_are_recovered(device) -> None:
    costs = {"a": 1e-5, "b": 3e-3, "c": 0.2}
    assert rounds(device, costs, 1.0) == pytest.approx(costs, rel=1e-9)


@pytest.mark.parametrize(("limit", "expected"), [(1e-9, MIN_ROUNDS), (1e9, MAX_ROUNDS)])
def test_number_of_rounds(device, limit: float, expected: int) -> None:
    rounds(device, {"a": 1.0, "b": 1.0}, limit)
    after_warm_up = [name for name, count in device.windows].count("b")
    assert after_warm_up == 2 * expected  # an untimed and a timed window


def test_speed_that_changes_from_round_to_round_is_taken_out() -> None:
    costs = np.array([1.0, 2.0, 5.0, 7.0])
    speed = np.array([[1.0], [1.5], [0.7], [1.1], [1.0]])
    assert without_drift(speed * costs) == pytest.approx(costs)


def test_a_disturbance_of_one_network_changes_no_other() -> None:
    seconds = np.tile([1.0, 2.0, 5.0], (5, 1))
    seconds[2, 1] = 100.0
    assert without_drift(seconds) == pytest.approx([1.0, 2.0, 5.0])
