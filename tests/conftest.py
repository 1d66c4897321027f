"""Settings of all tests: one thread for each worker, and the same examples in every run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

# Test workers share the cores; threads of their own would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# A search uses published weights that are on this machine, and no test may depend on these.
os.environ["HF_HUB_CACHE"] = os.path.join(os.path.dirname(__file__), "no-downloads")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fake_device import FakeDevice, FakeEngine

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


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Files need not survive a power failure, and each of some 10,000 would wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def device() -> FakeDevice:
    from fake_device import FakeDevice

    return FakeDevice()


@pytest.fixture
def fake_engine(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., float]], FakeEngine]:
    """Adds an engine named `fake` with the given costs."""
    from fake_device import FakeEngine
    from genets.latency import ENGINES
    from genets.latency.target import ENGINE_PROVIDERS

    def put(cost_s: Callable[..., float]) -> FakeEngine:
        engine = FakeEngine(device, cost_s)
        monkeypatch.setitem(ENGINES, "fake", engine)
        monkeypatch.setitem(ENGINE_PROVIDERS, "fake", ())
        return engine

    return put


@pytest.fixture
def own_block_types() -> Iterator[None]:
    """Block types that the test registers exist in this test alone."""
    from genets.networks import own_blocks
    from genets.networks.build import BLOCKS
    from genets.structure import BLOCK_TYPES

    tables: tuple[dict[Any, Any], ...] = (BLOCK_TYPES, BLOCKS, own_blocks._loaded)
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the script library, which takes seconds to bundle."""
    from genets.report import html

    monkeypatch.setattr(html, "_library", lambda: "")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of pictures that no test looks at; drawing takes a second."""
    from genets.report import charts
    from genets.report.rank import charts as rank_charts  # has its own name for the function

    for module in (charts, rank_charts):
        monkeypatch.setattr(module, "png_bytes", lambda chart: b"a picture")
