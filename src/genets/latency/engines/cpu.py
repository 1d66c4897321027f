"""The CPU as a device: its clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class CpuClock:
    """`perf_counter`: on a CPU a run returns when it is done."""

    # 1 ms is 10,000 times what reading perf_counter costs.
    min_window_s = 1e-3

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            run()
        return time.perf_counter() - start

    def enqueue_s(self, run: Callable[[], object]) -> None:
        """None: the host itself computes."""
