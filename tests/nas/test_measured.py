"""Measurements of a study: kept in a file, taken again where something disturbed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from small_networks import TWO_XX

from genets.latency import Measurement, Target
from genets.nas.selection.measured import MAX_ATTEMPTS, MeasuredNetworks
from genets.structure import Structure

MASTER = TWO_XX
OTHER, ANOTHER = (MASTER.with_stage(1, b) for b in MASTER.super_blocks)


class Engine:
    """Measures in turn; each measurement of a network has an interval of the next width."""

    def __init__(self, widths: dict[str, list[float]]) -> None:
        self.widths = widths
        self.measured: list[set[str]] = []

    def __call__(self, structures: Sequence[Structure]) -> dict[Structure, Measurement]:
        self.measured.append(set(map(str, structures)))
        return {structure: self._measurement(str(structure)) for structure in structures}

    def _measurement(self, name: str) -> Measurement:
        left = self.widths.get(name, [])
        width = left.pop(0) if left else 0.01
        return Measurement(
            1.0, 1 - width, 1 + width, 1.0, 1.0, (1.0,), False, {}, "genets-1", Target(), 16
        )


def networks_on(engine: Engine, path: Path) -> MeasuredNetworks:
    return MeasuredNetworks(path, MASTER, engine)


def test_a_steady_measurement_is_taken_once_and_outlives_the_process(tmp_path):
    engine = Engine({})
    networks = networks_on(engine, tmp_path / "measured.json")
    first = networks.measure([OTHER])
    again = networks_on(engine, tmp_path / "measured.json")
    assert again.measure([OTHER]) == first == MeasuredNetworks(tmp_path / "measured.json").stored
    assert engine.measured == [{str(MASTER), str(OTHER)}]


def test_only_what_was_disturbed_is_measured_again(tmp_path):
    engine = Engine({str(OTHER): [0.5, 0.02]})
    networks = networks_on(engine, tmp_path / "measured.json")
    found = networks.measure([OTHER, ANOTHER])
    assert not found[OTHER].disturbed
    assert found[OTHER].network.high_ms_per_image == 1.02
    assert engine.measured[1:] == [{str(MASTER), str(OTHER)}]


def test_a_disturbed_master_net_disturbs_what_was_measured_beside_it(tmp_path):
    engine = Engine({str(MASTER): [0.5]})
    networks_on(engine, tmp_path / "measured.json").measure([OTHER, ANOTHER])
    assert engine.measured == [{str(MASTER), str(OTHER), str(ANOTHER)}] * 2


def test_it_gives_up_on_a_device_that_is_always_busy(tmp_path):
    engine = Engine({str(OTHER): [0.5] * 99})
    networks = networks_on(engine, tmp_path / "measured.json")
    assert networks.measure([OTHER])[OTHER].disturbed
    assert len(engine.measured) == MAX_ATTEMPTS


def test_what_stayed_disturbed_is_tried_again_by_the_next_process(tmp_path):
    """Else the advice to try again, where a busy device was the reason, would be of no use."""
    path, engine = tmp_path / "measured.json", Engine({str(OTHER): [0.5] * MAX_ATTEMPTS})
    assert networks_on(engine, path).measure([OTHER, ANOTHER])[OTHER].disturbed
    networks, before = networks_on(engine, path), len(engine.measured)
    assert not networks.measure([OTHER, ANOTHER])[OTHER].disturbed
    assert networks.measure([OTHER, ANOTHER]) == MeasuredNetworks(path).stored
    assert engine.measured[before:] == [{str(MASTER), str(OTHER)}]
