"""Fixtures with a device of known cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_device import FakeDevice, FakeEngine, layer_costs_s

from genets.latency import ENGINES
from genets.latency.target import ENGINE_PROVIDERS


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def fake_engine(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., float]], FakeEngine]:
    """Adds an engine named `fake` with the given costs."""

    def put(cost_s: Callable[..., float]) -> FakeEngine:
        engine = FakeEngine(device, cost_s)
        monkeypatch.setitem(ENGINES, "fake", engine)
        monkeypatch.setitem(ENGINE_PROVIDERS, "fake", ())
        return engine

    return put


@pytest.fixture
def layer_costs() -> Callable[..., float]:
    costs: Callable[..., float] = layer_costs_s
    return costs
