"""Prices of layers on a device of known cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fake_device import layer_costs_s


@pytest.fixture
def layer_costs() -> Callable[..., float]:
    return layer_costs_s
