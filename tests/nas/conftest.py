"""Fixtures of the search layer's tests."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """Small matrices are solved fastest by one thread."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
