"""Prices of layers on a device of known cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_device import layer_costs_s

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # for stub_device.py


@pytest.fixture
def layer_costs() -> Callable[..., float]:
    return layer_costs_s
