"""Calm: a wait until other processes leave the CPUs to a target."""

from __future__ import annotations

import time
from collections.abc import Callable

from genets.latency.engines.activity import Activity, SystemActivity, other_cpus
from genets.latency.target import Target
from genets.latency.timing.watch import fewer_threads, max_other_cpus

CHECK_S = 1.0

# Called with the seconds that have passed, and how many CPUs others use (None: unknown).
OnWait = Callable[[float, float | None], None]


def wait_until_calm(
    target: Target,
    limit_s: float,
    *,
    on_wait: OnWait = lambda seconds, others: None,
    activity: Activity | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the device is calm; one check takes CHECK_S.

    Args:
        target: The target; the check counts the CPUs that its threads need. The use of a device
            that is not a CPU cannot be seen, and one check is waited for.
        limit_s: The longest time to wait. The first check is made whatever the limit.
        on_wait: Called after each check, before the next one.
        activity: The counters of the CPUs; by default those of this machine.
        sleep: Waits for some seconds.

    Returns:
        Whether the device is calm. False means that `limit_s` has passed.
    """
    activity = activity or SystemActivity()
    threads = target.resolved().threads
    limit = None if threads is None else max_other_cpus(activity.cpus, threads)
    passed_s, before = 0.0, activity.machine()
    while True:
        sleep(CHECK_S)
        passed_s += CHECK_S
        after = activity.machine()
        others = None if limit is None else other_cpus(before, after)
        if limit is None or others is None or others <= limit:
            return True
        if passed_s + CHECK_S > limit_s:
            return False
        on_wait(passed_s, others)
        before = after


def count_idle_threads(
    target: Target,
    *,
    activity: Activity | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Choose the number of threads of a target for which the CPUs have room now.

    Args:
        target: A target on a CPU.
        activity: The counters of the CPUs; by default those of this machine.
        sleep: Waits for some seconds.

    Returns:
        The threads of the target if the device is calm, otherwise fewer; see `fewer_threads`.
    """
    activity = activity or SystemActivity()
    threads = target.resolved().threads
    assert threads is not None
    before = activity.machine()
    sleep(CHECK_S)
    others = other_cpus(before, activity.machine())
    if others is None or others <= max_other_cpus(activity.cpus, threads):
        return threads
    return fewer_threads(activity.cpus, others, threads)
