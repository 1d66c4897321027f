"""The lab in place of the clock."""

import pytest
from analysis_lab import Lab

from genets.analysis.comparison import compare as comparison


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab({})
    monkeypatch.setattr(comparison, "measure_interleaved", lab.measure)
    environment = {"device_name": "a device", "threads": 1, "packages": {}}
    monkeypatch.setattr(
        "genets.analysis.comparison.rows.describe_environment", lambda t: environment
    )
    return lab
