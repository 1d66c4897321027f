"""What a measurement says and leaves out while something else uses the CPUs."""

from __future__ import annotations

import gc
import itertools
import json
import os
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from fake_device import FakeActivity, FakeDevice
from genets.latency import Measurement, Target, measure, measure_interleaved
from genets.latency.engines.activity import SystemActivity, other_cpus
from genets.latency.timing.calm import CHECK_S, count_idle_threads, wait_until_calm
from genets.latency.timing.clock import PROTOCOLS, sample_interleaved
from genets.latency.timing.drift import time_in_rounds
from genets.latency.timing.watch import ActivityWatch, fewer_threads, max_other_cpus

RUN_S, WAIT_S = 0.01, 0.005
WAITED = "the runs waited for a CPU in more than 10 % of the samples"
WIDE = "the 95 % interval ended more than 10 % away from the median"


def on(threads: int | None) -> Target:
    return Target(engine="fake", batch_size=1, threads=threads)


@pytest.fixture
def activity(device: FakeDevice) -> FakeActivity:
    device.activity = FakeActivity(device)
    return device.activity


@pytest.fixture
def waiting_in(fake_engine, device, activity):
    """A device whose runs take RUN_S; a thread waits WAIT_S in the runs that are chosen.

    Others use both CPUs.
    """

    def put(is_interrupted) -> None:
        fake_engine(lambda *_: RUN_S)
        activity.others = 2.0

        def slowness(now_s: float) -> float:
            if not is_interrupted():
                return 1.0
            activity.delay_s += WAIT_S
            activity.switches += 1
            return 1 + WAIT_S / RUN_S

        device.slowness = slowness

    return put


def test_one_thread_is_measured_without_the_time_in_which_it_waited(waiting_in) -> None:
    waiting_in(lambda: True)
    m = measure(nn.Identity(), on(1), 8)
    ms = (m.ms_per_image, m.low_ms_per_image, m.high_ms_per_image)
    assert ms == pytest.approx((10, 10, 10))
    assert m.samples_ms == pytest.approx([15.0] * len(m.samples_ms))
    assert (m.interrupted, m.undelayed, m.noisy) == (1.0, True, False)
    assert m.disturbed
    assert str(m).endswith("], disturbed")


def test_a_run_on_one_thread_takes_at_least_its_cpu_time(fake_engine, device, activity) -> None:
    """Another thread of the process may have waited, so the delay may be too large."""
    fake_engine(lambda *_: RUN_S)
    activity.others = 2.0

    def slowness(now_s: float) -> float:
        activity.delay_s += 2 * WAIT_S
        activity.cpu_s += RUN_S
        return 1 + WAIT_S / RUN_S

    device.slowness = slowness
    assert measure(nn.Identity(), on(1), 8).ms_per_image == pytest.approx(1e3 * RUN_S)


def test_of_several_threads_the_samples_without_waiting_count(waiting_in) -> None:
    turns = itertools.count()
    waiting_in(lambda: next(turns) % 3 != 0)
    m = measure(nn.Identity(), on(2), 8)
    assert (m.ms_per_image, m.high_ms_per_image) == pytest.approx((10, 10))
    assert m.interrupted == pytest.approx(2 / 3, abs=0.02)
    assert m.undelayed
    assert m.disturbed


def test_threads_that_always_wait_give_no_latency_of_their_own(waiting_in) -> None:
    waiting_in(lambda: True)
    m = measure(nn.Identity(), on(2), 8, time_limit_s=1)
    assert m.ms_per_image == pytest.approx(15)
    assert (m.undelayed, m.disturbed) == (False, True)


@pytest.mark.parametrize("threads", [1, 2])
def test_waits_for_an_idle_cpu_are_a_part_of_the_latency(waiting_in, activity, threads) -> None:
    """A thread that sleeps between two layers waits until its idle CPU has woken up."""
    waiting_in(lambda: True)
    activity.others = 0.1
    m = measure(nn.Identity(), on(threads), 8)
    assert m.ms_per_image == pytest.approx(15)
    assert (m.interrupted, m.undelayed, m.disturbed) == (0, True, False)
    assert len(m.samples_ms) == 100


@pytest.mark.parametrize(("turns_each", "disturbed"), [(3, True), (20, False)])
def test_context_switches_show_interruptions_where_nothing_else_is_counted(
    waiting_in, activity, turns_each: int, disturbed: bool
) -> None:
    turns = itertools.count()
    waiting_in(lambda: next(turns) % turns_each == 0)
    activity.process = lambda: replace(
        FakeActivity.process(activity), delay_s=None, switches=10 * activity.switches
    )
    activity.machine = lambda: None
    for threads in (1, 2):
        m = measure(nn.Identity(), on(threads), 8)
        assert m.ms_per_image == pytest.approx(10)
        assert m.disturbed == disturbed
        assert m.disturbances == (WAITED,) * disturbed
        assert m.interrupted == pytest.approx(1 / turns_each, abs=0.03)


@pytest.mark.parametrize(
    ("threads", "others", "disturbed"),
    [(2, 0.0, False), (2, 0.1, False), (2, 0.5, True), (2, 2.0, True),
     (1, 0.5, False), (1, 1.0, True), (1, 2.0, True)],
)  # fmt: skip
def test_the_load_shows_that_something_else_ran(
    fake_engine, activity, threads: int, others: float, disturbed: bool
) -> None:
    fake_engine(lambda *_: RUN_S)
    activity.others = others
    m = measure(nn.Identity(), on(threads), 8)
    assert m.other_cpus == pytest.approx(others)
    assert m.disturbed == disturbed
    assert m.disturbances == (f"other processes used {others:.1f} CPUs",) * disturbed
    assert m.interrupted == 0


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_interval_that_is_wide_on_either_side_is_disturbed(
    fake_engine, device, factor: float
) -> None:
    """Nine of twenty samples differ, so only one end of the interval is far from the median."""
    order = np.random.default_rng(0).permutation([factor] * 9 + [1.0] * 11)
    speeds = itertools.chain([1.0, 1.0], itertools.cycle(order))  # after a warm-up of two runs
    fake_engine(lambda *_: 0.1)
    device.slowness = lambda now_s: next(speeds)
    m = measure(nn.Identity(), on(1), 8, time_limit_s=0.1 * (2 * sum(order) - 0.5))
    assert len(m.samples_ms) == 40
    ends = (m.low_ms_per_image, m.high_ms_per_image)
    assert m.ms_per_image == pytest.approx(100)
    assert ends == pytest.approx((50, 100) if factor < 1 else (100, 200))
    assert m.noisy
    assert m.disturbed
    assert m.disturbances == (WIDE,)


@pytest.mark.parametrize(("cores", "cause"), [(64, WIDE), (4, "other processes used 3.0 CPUs")])
def test_processes_that_leave_enough_cores_are_not_named(
    fake_engine, device, activity, cores: int, cause: str
) -> None:
    """Beside one thread, other processes may use 31.7 of 64 CPUs, or 1.7 of 4."""
    activity.cores, activity.others = cores, 3.0
    fake_engine(lambda *_: 0.1)
    speeds = itertools.cycle([1.0, 2.0])
    device.slowness = lambda now_s: next(speeds)
    m = measure(nn.Identity(), on(1), 8, time_limit_s=1)
    assert (m.disturbed, m.disturbances) == (True, (cause,))
    record = json.loads(json.dumps(m.to_json()))
    record["target"]["engine"] = "torch"
    assert Measurement.from_json(record).disturbances == (cause,)


def test_a_clock_without_counters_shows_no_interruptions(fake_engine, activity) -> None:
    fake_engine(lambda *_: RUN_S)
    activity.machine = lambda: None
    m = measure(nn.Identity(), on(2), 8)
    assert (m.other_cpus, m.disturbed) == (None, False)


def test_fewer_threads_are_tried_where_the_target_leaves_them_open(
    fake_engine, activity, monkeypatch
) -> None:
    """Two threads wait for each other at each barrier; one thread does not."""
    monkeypatch.setattr("genets.latency.target.physical_cores", lambda: 2)
    fake_engine(lambda network, target, resolution: 0.3 if target.resolved().threads == 2 else 2e-3)
    activity.others = 2.0
    m = measure(nn.Identity(), on(None), 8)
    assert (m.target.threads, m.disturbed) == (1, True)
    assert m.ms_per_image == pytest.approx(2)
    fixed = measure(nn.Identity(), on(2), 8)
    assert (fixed.target.threads, fixed.ms_per_image) == (2, pytest.approx(300))
    activity.others = 0.0
    calm = measure(nn.Identity(), on(None), 8)
    assert (calm.target.threads, calm.disturbed) == (2, False)


def test_networks_measured_in_turn_have_a_load_in_common(fake_engine, activity) -> None:
    fake_engine(lambda *_: RUN_S)
    activity.others = 1.5
    both = measure_interleaved({"a": nn.Identity(), "b": nn.Identity()}, on(2), 8)
    assert [m.disturbed for m in both.values()] == [True, True]


def test_the_new_fields_have_defaults_for_older_records(fake_engine, activity) -> None:
    fake_engine(lambda *_: RUN_S)
    record = measure(nn.Identity(), on(2), 8).to_json()
    record["target"]["engine"] = "torch"
    for name in ("disturbed", "interrupted", "undelayed", "other_cpus", "disturbances"):
        del record[name]
    old = Measurement.from_json(json.loads(json.dumps(record)))
    assert (old.disturbed, old.interrupted, old.undelayed, old.other_cpus) == (False, 0, True, None)
    assert old.disturbances == ()


def test_pieces_of_a_table_are_timed_without_interrupted_windows(device, activity) -> None:
    turns = itertools.count()
    activity.others = 2.0

    def slowness(now_s: float) -> float:
        if next(turns) % 2:
            return 1.0
        activity.delay_s += 0.1
        return 50.0

    device.slowness = slowness
    costs = {"a": 4e-3, "b": 9e-3, "c": 20e-3}
    times = time_in_rounds(
        device,
        {name: device.runner(name, cost) for name, cost in costs.items()},
        rng=np.random.default_rng(0),
        time_limit_s=1e-9,
        on_progress=lambda share: None,
        watch=ActivityWatch(device, 2),
    )
    assert {name: time.seconds for name, time in times.items()} == pytest.approx(costs)


def test_waiting_uses_less_of_the_time_limit_than_running(device, activity) -> None:
    """A waiting thread takes a sample of little information, but not for ever."""

    activity.others = 2.0

    def slowness(now_s: float) -> float:
        activity.delay_s += 9 * RUN_S
        return 10.0

    device.slowness = slowness
    runs = {"a": device.runner("a", RUN_S)}
    samples = sample_interleaved(
        device, runs, PROTOCOLS["genets-1"], watch=ActivityWatch(device, 1), min_samples=1000,
        time_limit_s=1.0,
    )["a"]  # fmt: skip
    assert len(samples.wall_s) == 40  # for four times the limit, 0.1 s each


@pytest.mark.parametrize(
    ("cores", "others", "threads", "expected"),
    [(2, 2.0, 2, 1), (2, 1.0, 2, 1), (8, 2.0, 8, 4), (8, 1.0, 8, 6), (8, 8.0, 8, 1),
     (64, 40.0, 8, 1), (8, None, 8, 1)],
)  # fmt: skip
def test_fewer_threads(cores: int, others: float | None, threads: int, expected: int) -> None:
    fewer = fewer_threads(cores, others, threads)
    assert fewer == expected
    if others is not None and expected > 1:
        assert others <= max_other_cpus(cores, expected)
        assert others > max_other_cpus(cores, expected + 1)


class Sleeper:
    """Others use these CPUs in one second after the other."""

    def __init__(self, *others: float) -> None:
        self.device = FakeDevice()
        self.activity = FakeActivity(self.device)
        self.others, self.busy_s, self.slept_s = [*others], 0.0, 0.0
        self.activity.machine = lambda: replace(
            FakeActivity.machine(self.activity), busy_s=self.busy_s
        )

    def sleep(self, seconds: float) -> None:
        self.device.now_s += seconds
        self.slept_s += seconds
        self.busy_s += seconds * self.others.pop(0)


@pytest.mark.parametrize(
    ("others", "limit_s", "calm", "checks"),
    [((0.0,), 0, True, 1), ((2.0, 0.1), 60, True, 2), ((2.0, 1.0, 1.0), 3, False, 3),
     ((2.0,), 0, False, 1), ((1.0, 0.0), 1.5, False, 1)],
)  # fmt: skip
def test_the_wait_ends_when_the_others_end_or_at_the_limit(
    others: tuple[float, ...], limit_s: float, calm: bool, checks: int
) -> None:
    sleeper, seen = Sleeper(*others), []
    found = wait_until_calm(
        Target(threads=2), limit_s, activity=sleeper.activity, sleep=sleeper.sleep,
        on_wait=lambda seconds, used: seen.append((seconds, used)),
    )  # fmt: skip
    assert (found, sleeper.slept_s) == (calm, checks * CHECK_S)
    assert seen == [(CHECK_S * n, pytest.approx(others[n - 1])) for n in range(1, checks)]


def test_a_device_that_shows_no_load_is_waited_for_once() -> None:
    sleeper = Sleeper(2.0)
    cuda = Target(device="cuda", batch_size=1)
    assert wait_until_calm(cuda, 60, activity=sleeper.activity, sleep=sleeper.sleep)
    assert sleeper.slept_s == CHECK_S


@pytest.mark.parametrize(("others", "threads"), [(0.0, 2), (0.2, 2), (1.0, 1), (2.0, 1)])
def test_idle_threads(others: float, threads: int) -> None:
    sleeper = Sleeper(others)
    idle = count_idle_threads(Target(threads=2), activity=sleeper.activity, sleep=sleeper.sleep)
    assert idle == threads


def test_the_counters_of_this_machine_grow() -> None:
    activity = SystemActivity()
    first, start = activity.process(), activity.machine()
    sum(range(200_000))
    second, end = activity.process(), activity.machine()
    assert activity.cores >= 1
    assert second.cpu_s > first.cpu_s
    assert second.switches >= first.switches
    if start is None or end is None:
        pytest.skip("this system does not count the CPU time of all processes")
    assert end.wall_s > start.wall_s
    assert end.busy_s >= start.busy_s > 0
    assert other_cpus(start, end) >= 0
    assert other_cpus(None, end) is None


def test_threads_come_and_go_while_their_delays_are_read() -> None:
    activity, end = SystemActivity(), threading.Event()
    before = activity.process().delay_s
    if before is None:
        pytest.skip("this system does not count the time in which threads wait")
    threads = [threading.Thread(target=end.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert activity.process().delay_s >= before
    assert count_open_counters() >= 6
    end.set()
    for thread in threads:
        thread.join()
    assert activity.process().delay_s is not None
    del activity
    gc.collect()
    assert count_open_counters() == 0


def count_open_counters() -> int:
    """The open files of this process that hold the delays of a thread."""
    count = 0
    for file in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the list of files itself
            count += "schedstat" in os.readlink(f"/proc/self/fd/{file}")
    return count
