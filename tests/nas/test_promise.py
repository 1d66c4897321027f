"""The promise loop on a device whose true latency is known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_networks import TWO_XX

from genets.core.errors import BusyDeviceError, InfeasibleBudgetError
from genets.latency import Budget, Measurement, Target
from genets.nas.accuracy.model import Prediction
from genets.nas.selection import budget_search
from genets.nas.selection.alternatives import block_types
from genets.nas.selection.budget_search import BudgetSearch, OnAttempt
from genets.nas.selection.chain import Floats, make_chain
from genets.nas.selection.fastest import NUM_FASTEST, check_feasible
from genets.nas.selection.measured import MeasuredNetworks, NetworkLatency
from genets.nas.study.records import Candidate
from genets.structure import Block, DesignSpace, SearchSpace, Structure, SuperBlock

MASTER = TWO_XX
SPACE = DesignSpace((Block("XX"), Block("DW", 3, 3)), depth_change=2, resolutions=())
AROUND = SPACE.around(MASTER)


def cost(width_in: int, stage: SuperBlock, resolution: int = 16) -> float:
    if stage.type == "Conv":  # the stem is part of what every structure costs
        return 0.0 if width_in == 3 else 1e-4 * width_in
    area = (resolution / 16) ** 2
    return 1e-4 * area * stage.depth * (width_in + stage.width)


@dataclass(frozen=True)
class Table:
    """Predicts `scale` times the truth; `correct` learns the scale from what was measured.

    The MasterNet was measured with it, at `pace` times the truth.
    """

    scale: float = 1.0
    rmspe: float = 0.03
    pace: float = 1.0
    learns: bool = True

    @property
    def master_ms_per_image(self) -> float:
        return self.pace * true_ms(MASTER)

    def stage_ms_per_image(
        self,
        index: int,
        widths: Sequence[int],
        options: Sequence[SuperBlock],
        *,
        resolution: int | None = None,
    ) -> Floats:
        costs = [[cost(w, o, resolution or 16) for o in options] for w in widths]
        return self.scale * np.array(costs)

    offset_ms_per_image = 0.01

    def predict_ms_per_image(self, structure: Structure) -> float:
        return 0.01 + self.scale * (true_ms(structure) - 0.01)

    def correct(self, measured: dict[Structure, float]) -> Table:
        if not self.learns:
            return self
        ratios = [(ms - 0.01) / (true_ms(structure) - 0.01) for structure, ms in measured.items()]
        return replace(self, scale=float(np.mean(ratios)))


def true_ms(structure: Structure) -> float:
    return 0.01 + sum(
        cost(structure.input_width(index), structure.stage(index), structure.resolution)
        for index in structure.indices
    )


class Model:
    """More depth and width are better, and XX is better than DW."""

    master = MASTER
    failed: frozenset[Any] = frozenset()
    tried = SimpleNamespace(outside=lambda structure: ())

    def stage_gain(
        self, index: int, widths: Sequence[int], options: Sequence[SuperBlock]
    ) -> Floats:
        return np.array([[self.worth(o) for o in options] for _ in widths])

    def worth(self, s: SuperBlock) -> float:
        return float(np.log(s.depth * s.width) + (s.type == "XX"))

    def predict(self, structure: Structure) -> Prediction:
        return Prediction(sum(map(self.worth, structure.stages)), 0.1, 0.0)


class Device:
    """Measures the truth times `slower`; counts what it measures.

    width: of half of the interval, as a share.
    speeds: of its following rounds of measuring, as factors of the time.
    disturbed: how many times slower the second network it measures comes out, interval and all.
    own: of a structure alone, the factor by which no table can predict it.
    """

    def __init__(
        self,
        slower: float = 1.0,
        speeds: Sequence[float] = (),
        width: float = 0.01,
        disturbed: float = 1.0,
        own: Callable[[Structure], float] = lambda structure: 1.0,
    ) -> None:
        self.own = own
        self.slower = slower
        self.width = width
        self.disturbed = disturbed
        self.speeds = [*speeds]
        self.known: dict[Structure, NetworkLatency] = {}
        self.order: list[Structure] = []

    def measure(
        self, structures: Sequence[Structure], *, to_refuse: bool = False
    ) -> dict[Structure, NetworkLatency]:
        factor = self.slower * (self.speeds.pop(0) if self.speeds else 1.0)
        for structure in structures:
            if structure not in self.known:
                self.order.append(structure)
                network = self._measurement(factor * self.own(structure) * true_ms(structure))
                if len(self.order) == 2 and self.disturbed > 1:
                    ms, high = (self.disturbed**n * network.ms_per_image for n in (1, 2))
                    network = replace(network, ms_per_image=ms, high_ms_per_image=high)
                master_ms = factor * true_ms(MASTER)
                self.known[structure] = NetworkLatency(
                    network, master_ms, master_ms * (1 - self.width)
                )
        return {structure: self.known[structure] for structure in structures}

    def _measurement(self, ms: float) -> Measurement:
        low, high = ms * (1 - self.width), ms * (1 + self.width)
        return Measurement(ms, low, high, ms, ms, (ms,), False, {}, "genets-1", Target(), 16)


def context(table: Table, device: Device, budget: str, space: SearchSpace = AROUND) -> Any:
    """What a budget search reads of a search's context."""
    return SimpleNamespace(
        master=MASTER,
        space=space,
        budget=Budget.parse(budget),
        latency=SimpleNamespace(table=table, measure=device.measure),
        settings=SimpleNamespace(selection="exact"),
    )


def promises(
    top: int,
    table: Table,
    device: Device,
    budget: str,
    resolution: int | None = None,
    on_attempt: OnAttempt = lambda done, total: None,
) -> list[Candidate]:
    model: Any = Model()
    return BudgetSearch(context(table, device, budget), model, resolution).run(top, on_attempt)


def promise(table: Table, device: Device, budget: str) -> Candidate:
    return promises(1, table, device, budget)[0]


def best_by_brute_force(limit_ms: float, resolution: int = 16) -> float:
    model = Model()
    master = MASTER.with_resolution(resolution)
    structures = (
        master.with_stage(0, a).with_stage(1, b)
        for a in AROUND.choices(0)
        for b in AROUND.choices(1)
    )
    return max(model.predict(s).mean for s in structures if true_ms(s) <= limit_ms)


@pytest.mark.parametrize("slower", [1.0, 1.25, 0.8])
def test_the_bound_keeps_the_budget_whatever_the_table_errs(slower: float) -> None:
    device = Device(slower)
    selected = promise(Table(), device, "0.06ms")
    assert selected.high_ms <= selected.budget_ms == 0.06
    assert selected.measured_ms == pytest.approx(slower * true_ms(selected.structure))
    assert selected.margin == pytest.approx(1 - selected.high_ms / 0.06)
    assert selected.master_ms == pytest.approx(slower * true_ms(MASTER))


def test_progress_is_told_before_anything_is_measured_for_it() -> None:
    told: list[tuple[int, int]] = []
    device = Device()
    promises(1, Table(), device, "0.06ms",
             on_attempt=lambda done, total: told.append((done, len(device.order))))  # fmt: skip
    assert told[0] == (0, 1), "only the MasterNet was measured"
    assert told[-1] == (5, len(device.order))
    assert told == sorted(told)


@pytest.mark.parametrize("table", [Table(), Table(scale=0.5), Table(scale=1.5)])
def test_of_what_fits_the_best_is_taken(table: Table) -> None:
    selected = promise(table, Device(), "0.06ms")
    # The best there is within the budget less the spacing of the candidates and the interval.
    assert Model().predict(selected.structure).mean >= best_by_brute_force(0.06 * 0.97 / 1.01)


@pytest.mark.parametrize("width", [0.0, 0.03, 0.05, 0.1])
def test_wide_intervals_cost_no_more_than_their_width(width: float) -> None:
    selected = promise(Table(rmspe=0.01), Device(width=width), "0.06ms")
    assert selected.high_ms <= 0.06
    assert selected.margin < 0.1
    limit = 0.06 * 0.97 / (1 + width)
    assert Model().predict(selected.structure).mean >= best_by_brute_force(limit)


def half_are_slow(structure: Structure) -> float:
    return 1.2 if zlib.crc32(f"4 {structure}".encode()) % 100 < 50 else 1.0


def test_where_much_of_the_budget_is_left_what_lies_between_is_measured_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is predicted to reach the budget turns out too slow, whatever the table is told."""
    table = Table(learns=False)
    selected = promise(table, Device(own=half_are_slow), "0.06ms")
    monkeypatch.setattr(budget_search, "MAX_UNUSED", 1.0)
    without = promise(table, Device(own=half_are_slow), "0.06ms")
    assert selected.margin < 0.06 < 0.1 < without.margin
    assert Model().predict(selected.structure).mean > Model().predict(without.structure).mean


@pytest.mark.parametrize("speeds", [(1.0, 1.7), (1.7, 1.0), (1.7, 1.0, 1.3)])
def test_a_relative_budget_follows_the_speed_of_the_machine(speeds: tuple[float, ...]) -> None:
    """The MasterNet is measured in between: half of its time is half, fast or slow."""
    selected = promise(Table(), Device(speeds=speeds), "0.7x")
    assert selected.budget_ms == pytest.approx(0.7 * 0.99 * selected.master_ms)
    assert true_ms(selected.structure) * 1.01 <= 0.7 * 0.99 * true_ms(MASTER)
    assert true_ms(selected.structure) >= 0.6 * true_ms(MASTER)


def test_a_slower_machine_than_the_tables_is_told_by_the_master_net() -> None:
    table = Table()  # right, but for a machine that has become 1.4 times slower since
    device = Device(slower=1.4)
    selected = promise(table, device, "0.06ms")
    assert selected.predicted_ms == pytest.approx(selected.measured_ms)
    # Nothing had to be measured to find that out: every candidate fits.
    assert all(1.4 * true_ms(structure) <= 0.06 for structure in device.order[1:])


@pytest.mark.parametrize("disturbed", [1.5, 3.0, 10.0])
def test_one_disturbed_measurement_neither_corrects_the_table_nor_lowers_the_aim(
    disturbed: float,
) -> None:
    selected = promise(Table(), Device(disturbed=disturbed), "0.06ms")
    limit = 0.06 * 0.94 / 1.01  # the second best of the first candidates, at the worst
    assert Model().predict(selected.structure).mean >= best_by_brute_force(limit)


@pytest.mark.parametrize("budget", ["0.2x", "0.06ms", "0.001ms"])
@pytest.mark.parametrize("width", [0.15, 0.5])
def test_a_busy_device_neither_meets_nor_refuses_a_budget(
    tmp_path: Path, budget: str, width: float
) -> None:
    device = Device(width=width)

    def in_turn(structures: Sequence[Structure], _: int) -> dict[Structure, Measurement]:
        return {structure: device._measurement(true_ms(structure)) for structure in structures}

    busy = context(Table(), device, budget)
    networks = MeasuredNetworks(tmp_path / "m.json", MASTER, in_turn, budget=busy.budget)
    busy.latency.measure = networks.measure
    model: Any = Model()
    with pytest.raises(BusyDeviceError, match="too busy with something else"):
        BudgetSearch(busy, model).run()
    with pytest.raises(BusyDeviceError, match="too busy with something else"):
        check_feasible(busy)


def test_beside_others_a_ratio_is_decided_with_a_margin(tmp_path: Path) -> None:
    """All latencies are disturbed, and each ratio to the MasterNet is known within 2 %."""
    device = Device(width=0.01)

    def in_turn(structures: Sequence[Structure], _: int) -> dict[Structure, Measurement]:
        measured = {s: device._measurement(true_ms(s)) for s in structures}
        return {s: replace(m, disturbed=True) for s, m in measured.items()}

    busy = context(Table(), device, "0.7x")
    networks = MeasuredNetworks(tmp_path / "m.json", MASTER, in_turn, budget=busy.budget)
    busy.latency.measure = networks.measure
    model: Any = Model()
    (selected,) = BudgetSearch(busy, model).run()
    assert selected.disturbed
    assert 0.85 * 0.7 <= true_ms(selected.structure) / true_ms(MASTER) <= 0.7 / 1.1


def test_an_infeasible_budget_carries_the_fastest_structure() -> None:
    fastest = min(
        true_ms(MASTER.with_stage(0, a).with_stage(1, b))
        for a in AROUND.choices(0)
        for b in AROUND.choices(1)
    )
    with pytest.raises(InfeasibleBudgetError, match=r"meets 0\.001 ms per image") as caught:
        promise(Table(), Device(), "0.001ms")
    assert caught.value.exit_status == 3
    assert caught.value.fastest_ms == pytest.approx(fastest * 1.01)
    assert true_ms(Structure.parse(caught.value.fastest)) == pytest.approx(fastest)
    with pytest.raises(InfeasibleBudgetError):
        check_feasible(context(Table(), Device(), "0.001ms"))


def test_alternatives_differ_in_types_and_each_keeps_the_budget() -> None:
    device = Device(slower=1.2)
    found = promises(3, Table(), device, "0.06ms")
    types = [block_types(selected.structure) for selected in found]
    assert len(set(types)) == len(types) == 3
    assert all(selected.high_ms <= 0.06 for selected in found)
    worths = [selected.predicted_accuracy for selected in found]
    assert worths == sorted(worths, reverse=True)
    alone = promise(Table(), Device(slower=1.2), "0.06ms")
    assert found[0].structure == alone.structure
    assert len(device.order) <= 1 + 2 * 4  # in common rounds: two of the best types, two others


@pytest.mark.parametrize("resolution", [12, 16, 24])
def test_at_each_resolution_the_best_of_what_fits_is_taken(resolution: int) -> None:
    found = promises(2, Table(), Device(slower=1.2), "0.06ms", resolution)
    for selected in found:
        assert selected.structure.resolution == resolution
        assert selected.high_ms <= selected.budget_ms == 0.06
        assert selected.measured_ms == pytest.approx(1.2 * true_ms(selected.structure))
        assert selected.predicted_ms == pytest.approx(selected.measured_ms)
        assert selected.master_ms == pytest.approx(1.2 * true_ms(MASTER))
    limit = 0.06 / 1.2 * 0.97 / 1.01
    assert Model().predict(found[0].structure).mean >= best_by_brute_force(limit, resolution)


def test_no_accuracy_is_claimed_at_a_resolution_without_trials() -> None:
    (own,) = promises(1, Table(), Device(), "0.06ms", 16)
    (other,) = promises(1, Table(), Device(), "0.06ms", 24)
    assert own.predicted_accuracy == Model().predict(own.structure).value
    assert (other.predicted_accuracy, other.predicted_accuracy_std) == (None, None)


def test_a_budget_that_one_resolution_keeps_is_feasible() -> None:
    around = replace(SPACE, resolutions=(4, 32)).around(MASTER)
    fastest = {
        r: min(
            true_ms(MASTER.with_resolution(r).with_stage(0, a).with_stage(1, b))
            for a in around.choices(0)
            for b in around.choices(1)
        )
        for r in around.resolutions
    }
    assert list(fastest) == [4, 16, 32]
    assert fastest[4] < fastest[16] / 1.3
    budget = f"{1.02 * fastest[4]}ms"
    check_feasible(context(Table(), Device(), budget, around))
    with pytest.raises(InfeasibleBudgetError, match="no structure of the design space at 16 pix"):
        promises(1, Table(), Device(), budget, 16)
    with pytest.raises(InfeasibleBudgetError, match="of the design space meets") as caught:
        check_feasible(context(Table(), Device(), "0.001ms", around))
    assert Structure.parse(caught.value.fastest).resolution == 4
    assert caught.value.fastest_ms == pytest.approx(1.01 * fastest[4])


def test_blocks_that_always_failed_are_no_options() -> None:
    failed = frozenset({(1, Block("DW", 3, 3))})
    chain = make_chain(AROUND, Table(), Model().stage_gain, failed)
    assert {option.type for option in chain[1].options} == {"XX", "DW"}
    assert {option.type for option in chain[2].options} == {"XX"}
    assert chain[2].distinct_output_widths == AROUND.widths[1]


def test_there_are_no_more_alternatives_than_types() -> None:
    assert len(promises(9, Table(), Device(), "0.06ms")) == 4
    with pytest.raises(InfeasibleBudgetError):
        promises(3, Table(), Device(), "0.001ms")


def test_a_feasible_budget_costs_no_measurement_before_the_trials() -> None:
    device = Device()
    check_feasible(context(Table(), device, "0.06ms"))
    assert device.order == [MASTER]


def test_a_pessimistic_table_is_not_believed_without_measuring() -> None:
    device = Device()
    check_feasible(context(Table(scale=100.0), device, "0.06ms"))
    assert len(device.order) == 1 + NUM_FASTEST


def test_more_than_the_fastest_by_prediction_are_measured_before_a_budget_is_refused() -> None:
    """Those of other types are as fast here, and the first alone is slower than any table says."""
    fastest = MASTER.with_stage(0, AROUND.choices(0)[0]).with_stage(1, AROUND.choices(1)[0])
    budget = f"{1.02 * true_ms(fastest)}ms"
    told = Device()
    check_feasible(context(Table(scale=1.1), told, budget))
    first, second = told.order[1:3]
    assert true_ms(first) == true_ms(second) == true_ms(fastest)

    def own(structure: Structure) -> float:
        return 1.5 if block_types(structure) == block_types(first) else 1.0

    check_feasible(context(Table(scale=1.1), Device(own=own), budget))
    kept = promise(Table(scale=1.1, learns=False), Device(own=own), budget)
    assert block_types(kept.structure) != block_types(first)
