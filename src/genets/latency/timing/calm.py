"""Calm: a wait until other processes leave the CPUs or the GPU to a target."""

from __future__ import annotations

import time
from collections.abc import Callable

from genets.latency.engines.activity import Activity, SystemActivity, other_cpus
from genets.latency.engines.nvml import GpuCounters, open_gpu
from genets.latency.target import Target
from genets.latency.timing.watch import fewer_threads, max_other_cpus

CHECK_S = 1.0
# This process computes nothing while it waits, so the use of the GPU is that of others. Drawing the
# screen uses some percent.
MAX_GPU_UTILIZATION = 0.2

# Called with the seconds that have passed, and how many CPUs others use (None: unknown).
OnWait = Callable[[float, float | None], None]


def wait_until_calm(
    target: Target,
    limit_s: float,
    *,
    on_wait: OnWait = lambda seconds, others: None,
    activity: Activity | None = None,
    gpu: GpuCounters | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the device is calm; one check takes CHECK_S.

    Args:
        target: The target. On a CPU, the check counts the CPUs that its threads need. On a GPU, the
            check asks the driver how much the GPU computes; where the driver does not say, the
            device counts as calm after one check.
        limit_s: The longest time to wait. The first check is made whatever the limit.
        on_wait: Called after each check, before the next one.
        activity: The counters of the CPUs; by default those of this machine.
        gpu: The counters of the GPU; by default those of the target's device.
        sleep: Waits for some seconds.

    Returns:
        Whether the device is calm. False means that `limit_s` has passed.
    """
    if not target.is_cpu:
        return _wait_until_gpu_is_calm(gpu or open_gpu(target.device), limit_s, on_wait, sleep)
    activity = activity or SystemActivity()
    threads = target.resolved().threads
    assert threads is not None
    limit = max_other_cpus(activity.cores, threads)

    def check() -> tuple[bool, float | None]:
        others = watch_other_cpus(activity, sleep)
        return others is None or others <= limit, others

    return _wait_until(check, limit_s, on_wait)


def watch_other_cpus(activity: Activity, sleep: Callable[[float], None]) -> float | None:
    """How many CPUs others use on average for CHECK_S from now; None where it is unknown.

    Args:
        activity: The counters of the CPUs.
        sleep: Waits for some seconds.
    """
    before = activity.machine()
    sleep(CHECK_S)
    return other_cpus(before, activity.machine())


def _wait_until_gpu_is_calm(
    gpu: GpuCounters | None, limit_s: float, on_wait: OnWait, sleep: Callable[[float], None]
) -> bool:
    def check() -> tuple[bool, float | None]:
        sleep(CHECK_S)
        used = None if gpu is None else gpu.utilization()
        return used is None or used <= MAX_GPU_UTILIZATION, None

    return _wait_until(check, limit_s, on_wait)


def _wait_until(
    check: Callable[[], tuple[bool, float | None]], limit_s: float, on_wait: OnWait
) -> bool:
    """Check again and again, until a check says that the device is calm, or the limit has passed.

    Args:
        check: Takes CHECK_S; returns whether the device is calm, and the CPUs of others.
        limit_s: See `wait_until_calm`.
        on_wait: See `wait_until_calm`.
    """
    passed_s = 0.0
    while True:
        is_calm, others = check()
        passed_s += CHECK_S
        if is_calm:
            return True
        if passed_s + CHECK_S > limit_s:
            return False
        on_wait(passed_s, others)


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
    others = watch_other_cpus(activity, sleep)
    if others is None or others <= max_other_cpus(activity.cores, threads):
        return threads
    return fewer_threads(activity.cores, others, threads)
