"""The clock of a driver: it leaves out the time in which the driver was stopped.

Ctrl-Z and SIGSTOP stop a driver, while its workers may go on. The driver sees only afterwards what
they did in this time, so the time must not count against them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

CHECK_SECONDS = 30.0  # the longest wait of a driver; it reads its clock at least as often
MAX_STEP_SECONDS = 2 * CHECK_SECONDS  # a longer step between two readings is a stop of the driver


class DriverClock:
    """Gives the time in seconds for which the driver ran, from any origin.

    Args:
        clock: Gives the time in seconds, also while the driver is stopped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at, self._seconds = clock(), 0.0

    def __call__(self) -> float:
        """Read the clock; of a long step since the last reading, `MAX_STEP_SECONDS` count."""
        now = self._clock()
        self._seconds += min(now - self._read_at, MAX_STEP_SECONDS)
        self._read_at = now
        return self._seconds
