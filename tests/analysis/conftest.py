"""The lab in place of the clock."""

import pytest
from analysis_lab import Lab, in_lab


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return in_lab(monkeypatch)
