"""Measurements of a study: kept in a file, taken again where something disturbed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_networks import TWO_XX

from genets.core.errors import BusyDeviceError
from genets.latency import Budget, Measurement, Target
from genets.latency.timing.measurement import Ratio
from genets.nas import laboratory
from genets.nas.selection.measured import MIN_ATTEMPTS, MeasuredNetworks
from genets.nas.selection.network_latency import (
    BUSY_MARGIN,
    LEAST_SHARE,
    LEAST_SHARE_ONE_THREAD,
    REPEATED_SPREAD,
    NetworkLatency,
)
from genets.structure import Structure

MASTER = TWO_XX
OTHER, ANOTHER = (MASTER.with_stage(1, b) for b in MASTER.super_blocks)


class Engine:
    """Measures in turn; each measurement of a network has an interval of the next width."""

    def __init__(self, widths: dict[str, list[float]]) -> None:
        self.widths = widths
        self.measured: list[set[str]] = []
        self.times_as_long: list[int] = []

    def __call__(
        self, structures: Sequence[Structure], times_as_long: int = 1
    ) -> dict[Structure, Measurement]:
        self.times_as_long.append(times_as_long)
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
    with pytest.raises(BusyDeviceError, match="give the same command again when nothing dis"):
        networks.measure([OTHER, ANOTHER])
    assert len(engine.measured) == MIN_ATTEMPTS
    stored = MeasuredNetworks(tmp_path / "measured.json").stored
    assert [stored[s].disturbed for s in (OTHER, ANOTHER)] == [True, False]


def test_what_stayed_disturbed_is_tried_again_by_the_next_process(tmp_path):
    """Else the advice to try again, where a busy device was the reason, would be of no use."""
    path, engine = tmp_path / "measured.json", Engine({str(OTHER): [0.5] * MIN_ATTEMPTS})
    with pytest.raises(BusyDeviceError):
        networks_on(engine, path).measure([OTHER, ANOTHER])
    networks, before = networks_on(engine, path), len(engine.measured)
    assert not networks.measure([OTHER, ANOTHER])[OTHER].disturbed
    assert networks.measure([OTHER, ANOTHER]) == MeasuredNetworks(path).stored
    assert engine.measured[before:] == [{str(MASTER), str(OTHER)}]


class BusyEngine(Engine):
    """Measures beside others, who leave after some measurements.

    half: half of the interval of a network beside others, as a share.
    ratio: of the other networks to the MasterNet, beside others and alone.
    """

    def __init__(
        self, busy: int, half: float, ratio: tuple[float, float] = (0.5, 0.5), **flags: Any
    ) -> None:
        super().__init__({})
        self.busy, self.half, self.ratio, self.flags = busy, half, ratio, flags

    def _measurement(self, name: str) -> Measurement:
        is_busy = len(self.measured) <= self.busy
        ms = 1.0 if name == str(MASTER) else self.ratio[not is_busy]
        half, flags = (self.half, {"disturbed": True, **self.flags}) if is_busy else (1e-3, {})
        return Measurement(
            ms, (1 - half) * ms, (1 + half) * ms, ms, ms, (ms,), False, {}, "genets-1", Target(),
            16, **flags,
        )  # fmt: skip


class Others:
    """The wait for others; calm: what each wait finds."""

    def __init__(self, *calm: bool) -> None:
        self.calm, self.limits = [*calm], []

    def __call__(self, limit_s: float) -> bool:
        self.limits.append(limit_s)
        return self.calm.pop(0)


def networks_beside(
    others: Others, engine: Engine, path: Path, budget: str, minutes: float = 5
) -> MeasuredNetworks:
    return MeasuredNetworks(
        path / "measured.json", MASTER, engine,
        budget=Budget.parse(budget), wait_for_calm=others, wait_limit_s=60 * minutes,
    )  # fmt: skip


def test_a_budget_in_ms_waits_for_a_calm_device(tmp_path):
    others, engine = Others(True, True), BusyEngine(busy=2, half=1e-3)
    found = networks_beside(others, engine, tmp_path, "0.6ms").measure([OTHER])[OTHER]
    assert not found.disturbed
    assert found.meets(Budget.parse("0.6ms"))
    assert len(engine.measured) == 3
    assert 299 < others.limits[1] <= others.limits[0] <= 300


def test_a_multiple_of_the_master_net_is_decided_beside_others(tmp_path):
    others, engine = Others(), BusyEngine(busy=99, half=0.02)
    found = networks_beside(others, engine, tmp_path, "0.6x").measure([OTHER])[OTHER]
    assert len(engine.measured) == 1
    assert found.disturbed
    assert [found.meets(Budget.parse(text)) for text in ("0.6x", "0.55x", "0.51x", "0.6ms")] == [
        True, False, False, False,
    ]  # fmt: skip


def test_a_ratio_of_waiting_times_decides_nothing(tmp_path):
    others, engine = Others(True), BusyEngine(busy=1, half=1e-3, undelayed=False)
    found = networks_beside(others, engine, tmp_path, "0.6x").measure([OTHER])[OTHER]
    assert not found.disturbed
    assert engine.times_as_long == [1, 1]


def test_an_imprecise_ratio_gets_more_samples_before_the_device_is_waited_for(tmp_path):
    """The ratio is known within 6 %, so it does not decide."""
    others, engine = Others(True), BusyEngine(busy=4, half=0.03)
    found = networks_beside(others, engine, tmp_path, "0.6x").measure([OTHER])[OTHER]
    assert not found.disturbed
    assert engine.times_as_long == [1, 2, 4, 8, 8]
    assert len(others.limits) == 1


def test_beside_others_a_ratio_near_the_budget_neither_meets_nor_refuses_it(tmp_path):
    others, engine = Others(True), BusyEngine(busy=2, half=1e-3)
    networks, budget = networks_beside(others, engine, tmp_path, "0.52x"), Budget.parse("0.52x")
    found = networks.measure([OTHER])[OTHER]
    assert (found.decides(budget), found.meets(budget), found.exceeds(budget)) == (
        True,
        False,
        False,
    )
    assert len(engine.measured) == 1
    found = networks.measure([OTHER], to_refuse=True)[OTHER]
    assert (found.disturbed, found.meets(budget)) == (False, True)
    assert len(engine.measured) == 3


class LongerIsNarrower(Engine):
    """On a calm device the ratio is 0.5; its interval narrows with the length of a measurement."""

    def __call__(
        self, structures: Sequence[Structure], times_as_long: int = 1
    ) -> dict[Structure, Measurement]:
        half = 0.02 / times_as_long
        ratio = Ratio(0.5, 0.5 - half, 0.5 + half)
        measured = super().__call__(structures, times_as_long)
        return {s: each if s == MASTER else replace(each, ratio=ratio)
                for s, each in measured.items()}  # fmt: skip


def test_a_budget_within_the_interval_is_measured_longer_before_it_is_refused(tmp_path):
    budget, engine = Budget.parse("0.525x"), LongerIsNarrower({})
    networks = networks_on(engine, tmp_path / "measured.json").for_budget(budget)
    assert not networks.measure([OTHER])[OTHER].meets(budget)
    assert engine.times_as_long == [1], "it decides, because other networks may meet the budget"
    assert networks.measure([OTHER], to_refuse=True)[OTHER].meets(budget)
    assert engine.times_as_long == [1, 1, 2]
    far = networks.for_budget(Budget.parse("0.4x"))
    assert far.measure([MASTER.with_stage(0, MASTER.stage(1))], to_refuse=True)
    assert engine.times_as_long == [1, 1, 2, 1], "no sample can help"


def test_no_network_is_measured_longer_if_another_one_meets_the_budget(tmp_path):
    fast = MASTER.with_stage(0, MASTER.stage(1))

    class OneIsFast(LongerIsNarrower):
        def __call__(
            self, structures: Sequence[Structure], times_as_long: int = 1
        ) -> dict[Structure, Measurement]:
            measured = super().__call__(structures, times_as_long)
            if fast in measured:
                measured[fast] = replace(measured[fast], ratio=Ratio(0.3, 0.29, 0.31))
            return measured

    networks = networks_on(OneIsFast({}), tmp_path / "measured.json")
    networks = networks.for_budget(Budget.parse("0.525x"))
    networks.measure([OTHER, fast])
    assert networks.undecided([OTHER], to_refuse=True) == [OTHER]
    assert not networks.undecided([OTHER, fast], to_refuse=True)


def test_what_stayed_disturbed_is_tried_again_for_a_budget_in_x(tmp_path):
    """Its precise ratio decides, but a calm device gives a better one."""
    busy, calm = BusyEngine(busy=9, half=0.02), BusyEngine(busy=0, half=1e-3)
    first = networks_beside(Others(), busy, tmp_path, "0.7x").measure([OTHER])[OTHER]
    again = networks_beside(Others(), calm, tmp_path, "0.7x").measure([OTHER])[OTHER]
    assert (first.disturbed, again.disturbed) == (True, False)
    assert calm.times_as_long == [1]


@pytest.mark.parametrize("becomes_calm", [True, False])
def test_a_disturbed_longer_measurement_refuses_no_budget(tmp_path, becomes_calm):
    """It replaces no calm one, so the device is waited for: the first measurement was imprecise."""

    class Disturbed(LongerIsNarrower):
        def __call__(
            self, structures: Sequence[Structure], times_as_long: int = 1
        ) -> dict[Structure, Measurement]:
            measured = super().__call__(structures, times_as_long)
            disturbed = times_as_long > 1 and not others.limits
            return {s: replace(m, disturbed=disturbed) for s, m in measured.items()}

    budget, engine, others = Budget.parse("0.525x"), Disturbed({}), Others(becomes_calm)
    networks = networks_beside(others, engine, tmp_path, "0.525x")
    if becomes_calm:
        assert networks.measure([OTHER], to_refuse=True)[OTHER].meets(budget)
    else:
        with pytest.raises(BusyDeviceError):
            networks.measure([OTHER], to_refuse=True)
        assert not networks.stored[OTHER].disturbed
    assert engine.times_as_long == [1, 2, 4, 8] + [8] * becomes_calm


@pytest.mark.parametrize(
    ("target", "half", "may"),
    [
        (Target(threads=2), 0.019, False),  # the least half-width decides, whatever is measured
        (Target(threads=2), 0.03, True),
        (Target(device="cuda"), 0.009, False),  # as precise as a measurement gets
        (Target(device="cuda"), 0.03, True),
    ],
)
def test_more_samples_help_only_where_they_narrow_the_interval(
    target: Target, half: float, may: bool
) -> None:
    ratio = 0.4873
    near = paired((1 - half) * ratio, ratio, (1 + half) * ratio, target=target)
    assert near.may_meet(Budget.parse(f"{ratio + 1e-4}x")) is may
    assert not near.may_meet(Budget.parse("0.2x"))
    assert not near.may_meet(Budget.parse("0.9x")), "it meets the budget"


def test_the_master_net_meets_its_own_latency(tmp_path):
    """Also measured alone, where no ratio is sampled."""
    networks = networks_on(Engine({}), tmp_path / "measured.json")
    found = networks.for_budget(Budget.parse("1x")).measure([MASTER])[MASTER]
    assert found.meets(Budget.parse("1x"))
    assert not found.meets(Budget.parse("0.99x"))
    assert MeasuredNetworks(tmp_path / "measured.json").stored[MASTER].meets(Budget.parse("1x"))


def test_a_ratio_far_above_the_budget_refuses_it_beside_others(tmp_path):
    others, engine = Others(), BusyEngine(busy=99, half=0.02)
    budget = Budget.parse("0.4x")
    found = networks_beside(others, engine, tmp_path, "0.4x").measure([OTHER], to_refuse=True)
    assert found[OTHER].exceeds(budget)


def test_what_others_slow_down_is_measured_again_when_they_have_ended(tmp_path):
    """Beside others the network takes 0.7 times the MasterNet's latency, and alone 0.5."""
    others, engine = Others(True), BusyEngine(busy=1, half=1e-3, ratio=(0.7, 0.5))
    found = networks_beside(others, engine, tmp_path, "0.66x").measure([OTHER], to_refuse=True)
    assert found[OTHER].meets(Budget.parse("0.66x"))


def test_the_wait_has_a_limit(tmp_path):
    others, engine = Others(False, False, False), BusyEngine(busy=99, half=1e-3)
    networks = networks_beside(others, engine, tmp_path, "0.6ms", minutes=0)
    with pytest.raises(BusyDeviceError, match=r"on the budget 0\.6ms within 0 min") as caught:
        networks.measure([OTHER])
    assert caught.value.exit_status == 4
    assert "--wait" in str(caught.value)
    assert others.limits == [0.0] * MIN_ATTEMPTS


def test_noise_of_a_calm_device_ends_at_the_limit_too(tmp_path):
    """The wait finds a calm device each time, but the interval stays wide."""
    others, engine = Others(*[True] * 9), BusyEngine(busy=99, half=0.5)
    with pytest.raises(BusyDeviceError):
        networks_beside(others, engine, tmp_path, "0.6ms", minutes=0).measure([OTHER])
    assert len(engine.measured) == MIN_ATTEMPTS


def test_an_interval_that_is_wide_below_is_disturbed() -> None:
    """A search once exported "4.876 ms, 95 % interval 0.9528 to 5.187", which takes 0.12 ms."""
    network = Measurement(
        4.876, 0.9528, 5.187, 5.2, 5.3, (4.876,), True, {}, "genets-1", Target(), 16
    )
    for latency in (
        NetworkLatency(network, 5.0, 4.99, 5.01),
        NetworkLatency(replace(network, low_ms_per_image=4.87), 5.0, 4.99, 5.01, True),
        NetworkLatency(replace(network, low_ms_per_image=4.87), 5.0, 4.99, 9.0),
    ):
        assert latency.disturbed
        assert not latency.meets(Budget.parse("10ms"))


def paired(low: float, median: float, high: float, **changes: Any) -> NetworkLatency:
    """A network whose own interval is wide, but whose ratio to a MasterNet of 4 ms is known."""
    network = Measurement(
        2.1, 1.7, 2.6, 2.6, 2.6, (2.1,), False, {}, "genets-1", Target(), 16,
        ratio=Ratio(median, low, high),
    )  # fmt: skip
    return NetworkLatency(replace(network, **changes), 4.0, 3.2, 4.9)


def test_the_ratio_decides_on_a_relative_budget() -> None:
    latency, half = paired(0.485, 0.5, 0.515), Budget.parse("0.5x")
    assert not latency.disturbed
    assert latency.has_precise_ratio
    width = REPEATED_SPREAD * 0.03
    assert latency.median_ms(half) == pytest.approx(2.0)
    assert latency.interval_ms(half) == pytest.approx((2 * (1 - width), 2 * (1 + width)))
    assert latency.budget_ms(half) == pytest.approx(2.0)
    assert not latency.meets(half)
    assert latency.meets(Budget.parse(f"{0.5 * (1 + width) + 1e-6}x"))
    assert not latency.meets(Budget.parse(f"{0.5 * (1 + width) - 1e-6}x"))


@pytest.mark.parametrize(
    ("target", "share"),
    [
        (Target(threads=2), LEAST_SHARE),
        (Target(threads=1), LEAST_SHARE_ONE_THREAD),
        (Target(device="cuda"), REPEATED_SPREAD * 0.002),
    ],
)
def test_a_precise_ratio_may_be_another_one_in_another_minute(target: Target, share: float) -> None:
    precise, half = paired(0.499, 0.5, 0.501, target=target), Budget.parse("0.5x")
    assert precise.interval_ms(half) == pytest.approx((2 * (1 - share), 2 * (1 + share)))
    itself = paired(1.0, 1.0, 1.0, target=target)
    assert itself.interval_ms(half) == (4.0, 4.0)
    assert itself.meets(Budget.parse("1x"))


def test_a_budget_in_ms_is_decided_by_the_latency_itself() -> None:
    wide = paired(0.485, 0.5, 0.515)
    for text in ("2.5ms", "2.7ms"):
        budget = Budget.parse(text)
        assert (wide.decides(budget), wide.meets(budget), wide.exceeds(budget)) == (False,) * 3
    narrow = replace(
        paired(0.485, 0.5, 0.515, low_ms_per_image=2.0, high_ms_per_image=2.2),
        master_low_ms_per_image=3.9, master_high_ms_per_image=4.1,
    )  # fmt: skip
    assert narrow.interval_ms(Budget.parse("2.3ms")) == (2.0, 2.2)
    assert narrow.meets(Budget.parse("2.3ms"))
    assert narrow.exceeds(Budget.parse("2.1ms"))
    assert not narrow.exceeds(Budget.parse("2.2ms"))


def test_on_a_busy_device_a_ratio_must_be_clear_of_the_budget() -> None:
    busy = paired(0.499, 0.5, 0.501, disturbed=True)
    width = REPEATED_SPREAD * 0.002
    limit = BUSY_MARGIN * 0.5 * (1 + width)
    assert busy.meets(Budget.parse(f"{limit + 1e-6}x"))
    assert not busy.meets(Budget.parse(f"{limit - 1e-6}x"))
    assert not busy.exceeds(Budget.parse("0.5x"))
    assert busy.exceeds(Budget.parse(f"{0.5 * (1 - width) / BUSY_MARGIN - 1e-6}x"))
    assert not paired(0.4, 0.5, 0.501, disturbed=True).decides(Budget.parse("1x"))  # imprecise
    assert not busy.meets(Budget.parse("9ms"))


def test_records_of_older_studies_are_read() -> None:
    network = Engine({})._measurement("a")
    latency = NetworkLatency(network, 2.0, 1.9, 2.1, True, False, ("heat slowed the GPU",))
    record = latency.to_json()
    assert NetworkLatency.from_json(record) == latency
    for name in ("high_ms_per_image", "disturbed", "undelayed", "disturbances"):
        del record[f"master_{name}"]
    assert NetworkLatency.from_json(record) == NetworkLatency(latency.network, 2.0, 1.9)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("threads", "share"), [(1, 0.015), (2, 0.02)])
def test_the_laboratory_gives_ratios_to_the_first_network(
    monkeypatch: pytest.MonkeyPatch, threads: int, share: float, *, relative: bool
) -> None:
    given: dict[str, Any] = {}

    def measure(networks: Any, target: Target, resolution: Any, **options: Any) -> Any:
        given.update(options)
        return Engine({})([MASTER, OTHER]) | {str(s): None for s in (MASTER, OTHER)}

    monkeypatch.setattr(laboratory, "measure_interleaved", measure)
    target = Target(threads=threads)
    laboratory.Laboratory().measure([MASTER, OTHER], target, 10, 1.0, relative=relative)
    precise = "ratios" if relative else "latencies"
    assert (given["reference"], given["precise"]) == (str(MASTER), precise)
    assert given["calm_share"] == (share if relative else None)
    laboratory.Laboratory().measure([MASTER], target, 10, 1.0, relative=relative)
    assert given["calm_share"] is None, "the MasterNet alone has no ratio"
