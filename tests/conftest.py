"""Settings of all tests: one thread for each worker, and the same examples in every run."""

import os

# Test workers share the cores; threads of their own would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

settings.register_profile("genets", derandomize=True, deadline=None, database=None)
settings.load_profile("genets")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a GPU are skipped where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip("needs a CUDA device, and PyTorch finds none"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the script library, which takes seconds to bundle."""
    monkeypatch.setattr("genets.report.html._library", lambda: "")
