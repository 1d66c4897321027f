"""The model of many workers, where its result is known."""

from __future__ import annotations

import pytest

from genets.nas.study.records import Trial, TrialResult
from genets.structure import parse_super_block
from worker_model import Durations, simulate


def trials(count: int, index: int = 0) -> list[Trial]:
    return [Trial(index, parse_super_block("XX3x8"), repeat) for repeat in range(count)]


@pytest.mark.parametrize("workers", [1, 4, 12])
def test_equal_groups_on_workers_that_divide_them_waste_nothing(workers: int) -> None:
    groups = [(trial,) for trial in trials(24)]
    outcome = simulate(groups, lambda group: 5.0, workers)
    assert outcome.seconds == 5.0 * 24 / workers
    assert outcome.computing_s == workers * outcome.seconds


def test_the_last_group_keeps_the_others_waiting() -> None:
    first, *others = ((trial,) for trial in trials(5))
    outcome = simulate([*others, first], lambda group: 8.0 if group == first else 2.0, 4)
    assert outcome.seconds == 2.0 + 8.0


def test_a_driver_that_is_slower_than_the_workers_decides() -> None:
    """It gives the groups, and writes results without a pause from the first one on."""
    groups = [(trial,) for trial in trials(60)]
    outcome = simulate(groups, lambda group: 1.0, 20, record_s=0.5, send_s=0.25)
    assert outcome.driver_s == 60 * 0.75
    assert outcome.seconds == outcome.driver_s  # the first result arrives while it still gives


def test_the_shared_part_of_a_group_follows_from_trials_alone_and_in_groups() -> None:
    """With 2 s for each group and 3 s for each trial, four trials take 14 s."""
    alone = [TrialResult(each, "done", seconds=5.0) for each in trials(4)]
    grouped = [TrialResult(each, "done", seconds=14.0 / 4) for each in trials(4)]
    durations = Durations.of(alone, grouped)
    assert durations.shared_s == pytest.approx((2.0,))
    seconds_of = durations.draw(trials(8))
    assert seconds_of(tuple(trials(8)[:4])) == pytest.approx(14.0)
    assert durations.longer(10).draw(trials(8))((trials(8)[7],)) == pytest.approx(50.0)
