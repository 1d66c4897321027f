"""The monitor of a search: the work of its workers, their faults, and a request to stop.

The first Ctrl-C lets the running trainings end, because each of them may have taken hours. The
second one stops them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from genets.core.errors import StudyError, counted
from genets.core.log import get_logger

_log = get_logger(__name__)


class Monitor:
    """Shared by the workers, the heartbeat and the reaction to Ctrl-C.

    Args:
        on_stop: Called with a sentence at the first Ctrl-C. With None, the first Ctrl-C stops the
            search at once.
        on_fault: Called with a sentence for each lost worker and each training that runs again.

    Attributes:
        running: The number of trials or candidates that are trained now.
        is_stopping: Whether no further group may begin.
    """

    def __init__(
        self,
        on_stop: Callable[[str], None] | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self._on_stop, self._on_fault = on_stop, on_fault
        self.running = 0
        self.is_stopping = False

    def report_fault(self, sentence: str) -> None:
        """Log and keep a fault."""
        _log.warning("%s", sentence)
        if self._on_fault is not None:
            with suppress(StudyError):  # a full disk, which the next result will name
                self._on_fault(sentence)

    def check_stop(self) -> None:
        """Raise KeyboardInterrupt where a stop was asked for; call this when nothing runs."""
        if self.is_stopping:
            raise KeyboardInterrupt

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let the first Ctrl-C during the block end it after the trainings that run.

        A program with another reaction to Ctrl-C keeps it, and so does a thread that gets none.
        """
        if (
            self._on_stop is None
            or threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return
        owner, on_stop = os.getpid(), self._on_stop

        def stop(number: int, frame: object) -> None:
            if os.getpid() != owner:  # a process that reads images, which the driver ends
                return
            if self.is_stopping or not self.running:
                raise KeyboardInterrupt
            self.is_stopping = True
            count = counted(self.running, "running training")
            on_stop(f"The search stops after {count}; press Ctrl-C again to stop now.")

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.running = 0
