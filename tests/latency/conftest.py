"""Prices of layers on a device of known cost, and networks that are built once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fake_device import layer_costs_s

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # for stub_device.py


@pytest.fixture
def layer_costs() -> Callable[..., float]:
    return layer_costs_s


@pytest.fixture(scope="module")
def built_once() -> Iterator[None]:
    """For tests that build many tables: an engine of known cost does not change a network."""
    from genets.latency.predictor import builder
    from genets.latency.predictor.probes import build_item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "build_item", cache(build_item))
        yield
