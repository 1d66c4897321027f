"""Progress, and the wall time of phases, also of those that are interrupted."""

from __future__ import annotations

import time

import pytest

from genets.core.errors import StudyError
from genets.core.progress import PhaseTimer, Progress, Reporter, TimeLeft


class Clock:
    """Advances only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def stop_after(self, seconds: float, error: type[BaseException]) -> None:
        self.now += seconds
        raise error


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_progress_counts_whole_and_partial_steps() -> None:
    assert Progress("trials", 0, 0).detail == ""
    assert Progress("measuring", 1.5, 3, "gernet_s").done == 1.5
    for done, total in ((2, 1), (-1, 1)):
        with pytest.raises(AssertionError):
            Progress("trials", done, total)


def test_the_time_left_is_that_of_the_steps_so_far() -> None:
    left = TimeLeft(Progress("trials", 16, 64), now=100.0)
    assert left.seconds(130.0) is None, "no step of this process has ended"
    left.update(Progress("trials", 16, 64, "preparing"), now=110.0)
    assert left.seconds(130.0) is None
    left.update(Progress("trials", 20, 64), now=140.0)
    assert left.seconds(140.0) == pytest.approx(44 * 10)
    assert left.seconds(170.0) == pytest.approx(44 * 10 - 30)
    assert left.seconds(900.0) == pytest.approx(40), "a slow step does not end in no time left"
    left.update(Progress("trials", 64, 64), now=910.0)
    assert left.seconds(911.0) == 0
    assert left.elapsed(911.0) == 811


def test_the_time_left_of_a_phase_that_is_complete_at_once() -> None:
    assert TimeLeft(Progress("trials", 2, 2), now=0.0).seconds(5.0) == 0


def test_the_action_of_the_running_step_is_reported() -> None:
    steps: list[Progress] = []
    reporter = Reporter(steps.append)
    reporter.action("nothing runs yet")
    reporter.step(Progress("selection", 1, 5, "24 pixels"))
    reporter.action("measuring 4 networks")
    assert reporter.words == "measuring 4 networks"
    reporter.action("measuring 4 networks")
    reporter.step(Progress("selection", 5, 5))
    reporter.action("the phase has ended")
    assert steps == [
        Progress("selection", 1, 5, "24 pixels"),
        Progress("selection", 1, 5, "measuring 4 networks"),
        Progress("selection", 5, 5),
    ]
    silent = Reporter(None)
    assert silent.words == ""
    silent.step(Progress("selection", 1, 5, "24 pixels"))
    assert silent.words == "24 pixels"


def test_times_add_up_over_runs(clock: Clock) -> None:
    stored: list[dict[str, float]] = []
    timer = PhaseTimer({"trials": 5.0}, lambda seconds: stored.append(dict(seconds)))
    for seconds in (2.0, 3.0):
        with timer.phase("trials"):
            clock.now += seconds
    with timer.phase("final training"):
        clock.now += 1.0
    assert timer.seconds == {"trials": 10.0, "final training": 1.0}
    assert [record["trials"] for record in stored] == [7.0, 10.0, 10.0]
    assert stored[-1] == timer.seconds


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StudyError, SystemExit])
def test_the_time_of_an_interrupted_phase_is_kept(clock: Clock, stop: type[BaseException]) -> None:
    stored: list[dict[str, float]] = []
    timer = PhaseTimer({}, lambda seconds: stored.append(dict(seconds)))
    with pytest.raises(stop), timer.phase("trials"):
        clock.stop_after(4.0, stop)
    assert stored == [{"trials": 4.0}]


def test_a_full_disk_does_not_hide_why_the_phase_failed(clock: Clock) -> None:
    def store(seconds: dict[str, float]) -> None:
        raise StudyError("cannot use study: No space left on device")

    timer = PhaseTimer({}, store)
    with pytest.raises(ZeroDivisionError), timer.phase("trials"):
        clock.stop_after(4.0, ZeroDivisionError)
    assert timer.seconds == {"trials": 4.0}
    with pytest.raises(StudyError, match="No space left"), timer.phase("trials"):
        clock.now += 1.0
    assert timer.seconds == {"trials": 5.0}
