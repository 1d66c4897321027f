"""The reason of a failure on one line."""

import pytest

from genets.core.errors import first_line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("\n  sizes differ \n at layer 3"), "sizes differ"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(" \n"), "MemoryError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("x" * 501), "x" * 500),
    ],
)
def test_first_line(error: Exception, reason: str) -> None:
    assert first_line(error) == reason
