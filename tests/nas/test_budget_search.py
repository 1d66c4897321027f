"""The search for structures within a budget, on a device whose true latency is known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
from genets.nas.selection import proposals
from genets.nas.selection.alternatives import block_types
from genets.nas.selection.budget_search import BudgetSearch, OnAttempt
from genets.nas.selection.chain import Floats, make_chain
from genets.nas.selection.fastest import NUM_FASTEST, check_feasible
from genets.nas.selection.learned_latency import LearnedLatency
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.selection.network_latency import LEAST_SHARE, NetworkLatency
from genets.nas.selection.resolutions import take_trained
from genets.nas.study.records import Candidate
from genets.structure import Block, DesignSpace, SearchSpace, Structure, SuperBlock

MASTER = TWO_XX
SPACE = DesignSpace((Block("XX"), Block("DW", 3, 3)), depth_change=2, resolutions=())
AROUND = SPACE.around(MASTER)


def cost(width_in: int, stage: SuperBlock, resolution: int = 16) -> float:
    if stage.type == "Conv":  # every structure has the same stem
        return 0.0 if width_in == 3 else 1e-4 * width_in
    area = (resolution / 16) ** 2
    return 1e-4 * area * stage.depth * (width_in + stage.width)


@dataclass(frozen=True)
class Table:
    """Predicts `scale` times the true latency; `correct` learns the scale from measurements."""

    scale: float = 1.0
    rmspe: float = 0.03
    learns: bool = True

    @property
    def master_ms_per_image(self) -> float:
        return true_ms(MASTER)

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
        return np.array([[self.gain(o) for o in options] for _ in widths])

    def gain(self, s: SuperBlock) -> float:
        return float(np.log(s.depth * s.width) + (s.type == "XX"))

    def predict(self, structure: Structure) -> Prediction:
        return Prediction(sum(map(self.gain, structure.stages)), 0.1, 0.0)


class Device:
    """Measures the true latency times `slowdown`, and records the order of its measurements.

    half_width: Half of the width of the interval, as a share of the latency.
    round_slowdowns: A further slowdown of each of the next calls of `measure`.
    disturbance: The factor by which the second network is measured too slow. The upper end of its
        interval is wrong by the square of that factor.
    structure_slowdown: A further slowdown of a structure, which no table predicts.
    """

    def __init__(
        self,
        slowdown: float = 1.0,
        round_slowdowns: Sequence[float] = (),
        half_width: float = 0.01,
        disturbance: float = 1.0,
        structure_slowdown: Callable[[Structure], float] = lambda structure: 1.0,
    ) -> None:
        self.structure_slowdown = structure_slowdown
        self.slowdown = slowdown
        self.half_width = half_width
        self.disturbance = disturbance
        self.round_slowdowns = [*round_slowdowns]
        self.measured: dict[Structure, NetworkLatency] = {}
        self.order: list[Structure] = []

    def measure(
        self, structures: Sequence[Structure], *, to_refuse: bool = False
    ) -> dict[Structure, NetworkLatency]:
        factor = self.slowdown * (self.round_slowdowns.pop(0) if self.round_slowdowns else 1.0)
        for structure in structures:
            if structure not in self.measured:
                self.order.append(structure)
                network = self._measurement(
                    factor * self.structure_slowdown(structure) * true_ms(structure)
                )
                if len(self.order) == 2 and self.disturbance > 1:
                    ms, high = (self.disturbance**n * network.ms_per_image for n in (1, 2))
                    network = replace(network, ms_per_image=ms, high_ms_per_image=high)
                master_ms = factor * true_ms(MASTER)
                self.measured[structure] = NetworkLatency(
                    network, master_ms, master_ms * (1 - self.half_width)
                )
        return {structure: self.measured[structure] for structure in structures}

    def _measurement(self, ms: float) -> Measurement:
        low, high = ms * (1 - self.half_width), ms * (1 + self.half_width)
        return Measurement(ms, low, high, ms, ms, (ms,), False, {}, "genets-1", Target(), 16)


def context(table: Table, device: Device, budget: str, space: SearchSpace = AROUND) -> Any:
    """The parts of a search context that a budget search reads."""
    return SimpleNamespace(
        master=MASTER,
        space=space,
        budget=Budget.parse(budget),
        latency=SimpleNamespace(table=table, measure=device.measure, measured=device.measured),
        settings=SimpleNamespace(selection="exact"),
        report=lambda phase: lambda *step: None,
        phase=lambda phase: nullcontext(),
    )


def select_top(
    top: int,
    table: Table,
    device: Device,
    budget: str,
    resolution: int | None = None,
    on_attempt: OnAttempt = lambda done, total: None,
) -> list[Candidate]:
    model: Any = Model()
    return BudgetSearch(context(table, device, budget), model, resolution).run(top, on_attempt)


def select_best(table: Table, device: Device, budget: str) -> Candidate:
    return select_top(1, table, device, budget)[0]


def best_by_brute_force(limit_ms: float, resolution: int = 16) -> float:
    model = Model()
    master = MASTER.with_resolution(resolution)
    structures = (
        master.with_stage(0, a).with_stage(1, b)
        for a in AROUND.choices(0)
        for b in AROUND.choices(1)
    )
    return max(model.predict(s).mean for s in structures if true_ms(s) <= limit_ms)


@pytest.mark.parametrize("slowdown", [1.0, 1.25, 0.8])
def test_the_upper_bound_meets_the_budget_with_a_wrong_table(slowdown: float) -> None:
    device = Device(slowdown)
    selected = select_best(Table(), device, "0.06ms")
    assert selected.high_ms <= selected.budget_ms == 0.06
    assert selected.measured_ms == pytest.approx(slowdown * true_ms(selected.structure))
    assert selected.margin == pytest.approx(1 - selected.high_ms / 0.06)
    assert selected.master_ms == pytest.approx(slowdown * true_ms(MASTER))


def test_progress_starts_before_the_first_candidate_is_measured() -> None:
    steps: list[tuple[int, int]] = []
    device = Device()

    def on_attempt(done: int, total: int) -> None:
        steps.append((done, len(device.order)))

    select_top(1, Table(), device, "0.06ms", on_attempt=on_attempt)
    assert steps[0] == (0, 1), "only the MasterNet was measured"
    assert steps[-1] == (5, len(device.order))
    assert steps == sorted(steps)


@pytest.mark.parametrize("table", [Table(), Table(scale=0.5), Table(scale=1.5)])
def test_the_best_structure_within_the_budget_is_selected(table: Table) -> None:
    selected = select_best(table, Device(), "0.06ms")
    # The limit is the budget without the spacing of the candidates and without the interval.
    assert Model().predict(selected.structure).mean >= best_by_brute_force(0.06 * 0.97 / 1.01)


@pytest.mark.parametrize("half_width", [0.0, 0.03, 0.05, 0.1])
def test_a_wide_interval_reduces_the_latency_by_its_width_at_most(half_width: float) -> None:
    selected = select_best(Table(rmspe=0.01), Device(half_width=half_width), "0.06ms")
    assert selected.high_ms <= 0.06
    assert selected.margin < 0.1
    limit = 0.06 * 0.97 / (1 + half_width)
    assert Model().predict(selected.structure).mean >= best_by_brute_force(limit)


class OneWideInterval(Device):
    """The upper end of the interval of the first network is 8 % above its latency."""

    def measure(
        self, structures: Sequence[Structure], *, to_refuse: bool = False
    ) -> dict[Structure, NetworkLatency]:
        found = super().measure(structures, to_refuse=to_refuse)
        wide = next((structure for structure in self.order if structure != MASTER), None)
        if wide in found:
            network = found[wide].network
            network = replace(network, high_ms_per_image=1.08 * network.ms_per_image)
            found[wide] = self.measured[wide] = replace(found[wide], network=network)
        return found


def test_one_wide_interval_does_not_lower_the_aim() -> None:
    """The first networks are too slow, because the table predicts 5 % too little."""
    table = Table(rmspe=0.01, scale=0.95)
    steady = select_best(table, Device(), "0.06ms")
    assert select_best(table, OneWideInterval(), "0.06ms").structure == steady.structure


def half_of_them_are_slow(structure: Structure) -> float:
    return 1.2 if zlib.crc32(f"4 {structure}".encode()) % 100 < 50 else 1.0


def test_slower_structures_are_measured_where_much_of_the_budget_is_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The structures that should need the complete budget are too slow, and the table never learns.

    So structures between those and the first structure within the budget are measured as well.
    """
    table = Table(learns=False)
    selected = select_best(table, Device(structure_slowdown=half_of_them_are_slow), "0.06ms")
    monkeypatch.setattr(proposals, "MAX_UNUSED", 1.0)
    without = select_best(table, Device(structure_slowdown=half_of_them_are_slow), "0.06ms")
    assert selected.margin < 0.06 < 0.1 < without.margin
    assert Model().predict(selected.structure).mean > Model().predict(without.structure).mean


@pytest.mark.parametrize("round_slowdowns", [(1.0, 1.7), (1.7, 1.0), (1.7, 1.0, 1.3)])
def test_a_relative_budget_follows_the_speed_of_the_machine(
    round_slowdowns: tuple[float, ...],
) -> None:
    """The MasterNet is measured in turn, so a budget of 0.7x follows a slowdown."""
    selected = select_best(Table(), Device(round_slowdowns=round_slowdowns), "0.7x")
    assert selected.budget_ms == pytest.approx(0.7 * 0.99 * selected.master_ms)
    assert true_ms(selected.structure) * 1.01 <= 0.7 * 0.99 * true_ms(MASTER)
    assert true_ms(selected.structure) >= 0.6 * true_ms(MASTER)


@pytest.mark.parametrize("round_slowdowns", [(1.25, 1.25, 1.0), (1.0, 1.0, 1.25, 1.25, 1.25, 1.25)])
def test_a_budget_in_ms_follows_the_latest_speed_of_the_machine(
    round_slowdowns: tuple[float, ...],
) -> None:
    """The first attempt fails, because the table predicts half of the latency."""
    device = Device(round_slowdowns=round_slowdowns)
    selected = select_best(Table(scale=0.5), device, "0.06ms")
    limit = 0.06 * 0.97 / 1.01 / round_slowdowns[-1]
    assert Model().predict(selected.structure).mean >= best_by_brute_force(limit)


@pytest.mark.parametrize("scale", [0.8, 0.4])
def test_a_table_that_never_learns_still_leads_to_structures_near_the_budget(scale: float) -> None:
    """All proposals are too slow, so the aim falls; with 0.4, only the fastest structures fit."""
    device = Device()
    selected = select_best(Table(scale=scale, learns=False), device, "0.06ms")
    fastest = min(device.order, key=true_ms)
    assert selected.margin < 0.15
    assert (selected.structure == fastest) is False


def test_a_fault_in_the_search_for_closer_structures_costs_no_result() -> None:
    class Ending(Device):
        def measure(
            self, structures: Sequence[Structure], *, to_refuse: bool = False
        ) -> dict[Structure, NetworkLatency]:
            others = [m for structure, m in self.measured.items() if structure != MASTER]
            if any(latency.meets(Budget.parse("0.06ms")) for latency in others):
                raise BusyDeviceError("others keep the device busy")
            return super().measure(structures, to_refuse=to_refuse)

    selected = select_best(Table(scale=0.4, learns=False), Ending(), "0.06ms")
    assert selected.high_ms <= 0.06


def test_the_master_net_shows_that_the_machine_has_become_slower() -> None:
    table = Table()  # exact, but the machine is 1.4 times slower now
    device = Device(slowdown=1.4)
    selected = select_best(table, device, "0.06ms")
    assert selected.predicted_ms == pytest.approx(selected.measured_ms)
    # Every candidate meets the budget, so none was measured to find the slowdown.
    assert all(1.4 * true_ms(structure) <= 0.06 for structure in device.order[1:])


@pytest.mark.parametrize("disturbance", [1.5, 3.0, 10.0])
def test_one_disturbed_measurement_changes_neither_the_table_nor_the_aim(
    disturbance: float,
) -> None:
    selected = select_best(Table(), Device(disturbance=disturbance), "0.06ms")
    limit = 0.06 * 0.94 / 1.01  # at worst, the second of the first candidates
    assert Model().predict(selected.structure).mean >= best_by_brute_force(limit)


@pytest.mark.parametrize("budget", ["0.2x", "0.06ms", "0.001ms"])
@pytest.mark.parametrize("half_width", [0.15, 0.5])
def test_a_busy_device_neither_meets_nor_refuses_a_budget(
    tmp_path: Path, budget: str, half_width: float
) -> None:
    device = Device(half_width=half_width)

    def in_turn(structures: Sequence[Structure], _: int) -> dict[Structure, Measurement]:
        return {structure: device._measurement(true_ms(structure)) for structure in structures}

    busy = context(Table(), device, budget)
    networks = MeasuredNetworks(tmp_path / "m.json", MASTER, in_turn, budget=busy.budget)
    busy.latency.measure, busy.latency.measured = networks.measure, networks.stored
    model: Any = Model()
    with pytest.raises(BusyDeviceError, match="other programs kept the device busy"):
        BudgetSearch(busy, model).run()
    with pytest.raises(BusyDeviceError, match="other programs kept the device busy"):
        check_feasible(busy)


NO_DECISION = (
    "so no measurement could decide on the budget 0.06ms within 2 minutes; finished work is kept, "
    "so give the same command again when nothing disturbs the device, or with a longer --wait"
)


@pytest.mark.parametrize(
    ("network_causes", "master_causes", "sentence"),
    [
        ((), (), f"other programs kept the device busy, {NO_DECISION}"),
        (
            (),
            ("heat slowed the GPU",),
            f"heat slowed the GPU, {NO_DECISION}",
        ),
        (
            ("1 other process computed on the GPU",),
            (),
            f"1 other process computed on the GPU, {NO_DECISION}",
        ),
        (
            ("the power supply slowed the GPU", "2 other processes computed on the GPU"),
            ("the power supply slowed the GPU",),
            "the power supply slowed the GPU and 2 other processes computed on the GPU, "
            f"{NO_DECISION}",
        ),
    ],
)
def test_the_sentence_names_what_disturbed_both_measurements(
    tmp_path: Path, network_causes: tuple[str, ...], master_causes: tuple[str, ...], sentence: str
) -> None:
    """The network itself may be undisturbed, and the MasterNet beside it slowed down."""
    device = Device(half_width=0.5)
    other = MASTER.with_stage(1, MASTER.super_blocks[0])

    def in_turn(structures: Sequence[Structure], _: int) -> dict[Structure, Measurement]:
        measured = {s: device._measurement(true_ms(s)) for s in structures}
        causes = {MASTER: master_causes, other: network_causes}
        return {
            s: replace(m, target=Target("cuda", "torch"), disturbed=True, disturbances=causes[s])
            for s, m in measured.items()
        }

    networks = MeasuredNetworks(
        tmp_path / "m.json", MASTER, in_turn, budget=Budget.parse("0.06ms"), wait_limit_s=120,
        wait_for_calm=lambda limit_s: False,
    )  # fmt: skip
    with pytest.raises(BusyDeviceError) as error:
        networks.measure([other])
    assert str(error.value) == sentence
    stored = MeasuredNetworks(tmp_path / "m.json").stored[other]
    assert stored.disturbances == tuple(dict.fromkeys((*network_causes, *master_causes)))


def test_beside_others_a_ratio_is_decided_with_a_margin(tmp_path: Path) -> None:
    """All latencies are disturbed, and each ratio to the MasterNet is known within 2 %."""
    device = Device(half_width=0.01)

    def in_turn(structures: Sequence[Structure], _: int) -> dict[Structure, Measurement]:
        measured = {s: device._measurement(true_ms(s)) for s in structures}
        return {s: replace(m, disturbed=True) for s, m in measured.items()}

    busy = context(Table(), device, "0.7x")
    networks = MeasuredNetworks(tmp_path / "m.json", MASTER, in_turn, budget=busy.budget)
    busy.latency.measure, busy.latency.measured = networks.measure, networks.stored
    model: Any = Model()
    (selected,) = BudgetSearch(busy, model).run()
    assert selected.disturbed
    assert 0.85 * 0.7 <= true_ms(selected.structure) / true_ms(MASTER) <= 0.7 / 1.1


def test_the_error_of_an_infeasible_budget_has_the_fastest_structure() -> None:
    fastest = min(
        true_ms(MASTER.with_stage(0, a).with_stage(1, b))
        for a in AROUND.choices(0)
        for b in AROUND.choices(1)
    )
    with pytest.raises(InfeasibleBudgetError, match=r"meets 0\.001 ms per image") as caught:
        select_best(Table(), Device(), "0.001ms")
    assert caught.value.exit_status == 3
    assert caught.value.fastest_ms == pytest.approx(fastest * 1.01)
    assert true_ms(Structure.parse(caught.value.fastest)) == pytest.approx(fastest)
    with pytest.raises(InfeasibleBudgetError):
        check_feasible(context(Table(), Device(), "0.001ms"))


def test_alternatives_have_different_types_and_each_meets_the_budget() -> None:
    device = Device(slowdown=1.2)
    candidates = select_top(3, Table(), device, "0.06ms")
    types = [block_types(selected.structure) for selected in candidates]
    assert len(set(types)) == len(types) == 3
    assert all(selected.high_ms <= 0.06 for selected in candidates)
    values = [selected.predicted_accuracy for selected in candidates]
    assert values == sorted(values, reverse=True)
    alone = select_best(Table(), Device(slowdown=1.2), "0.06ms")
    assert candidates[0].structure == alone.structure
    assert len(device.order) <= 1 + 2 * 4  # each call measures two of the best types and two others


@pytest.mark.parametrize("resolution", [12, 16, 24])
def test_the_best_structure_of_each_resolution_is_selected(resolution: int) -> None:
    candidates = select_top(2, Table(), Device(slowdown=1.2), "0.06ms", resolution)
    for selected in candidates:
        assert selected.structure.resolution == resolution
        assert selected.high_ms <= selected.budget_ms == 0.06
        assert selected.measured_ms == pytest.approx(1.2 * true_ms(selected.structure))
        assert selected.predicted_ms == pytest.approx(selected.measured_ms)
        assert selected.master_ms == pytest.approx(1.2 * true_ms(MASTER))
    limit = 0.06 / 1.2 * 0.97 / 1.01
    assert Model().predict(candidates[0].structure).mean >= best_by_brute_force(limit, resolution)


def test_no_accuracy_is_predicted_at_a_resolution_without_trials() -> None:
    (own,) = select_top(1, Table(), Device(), "0.06ms", 16)
    (other,) = select_top(1, Table(), Device(), "0.06ms", 24)
    assert own.predicted_accuracy == Model().predict(own.structure).value
    assert (other.predicted_accuracy, other.predicted_accuracy_std) == (None, None)


def test_a_budget_that_one_resolution_meets_is_feasible() -> None:
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
        select_top(1, Table(), Device(), budget, 16)
    with pytest.raises(InfeasibleBudgetError, match="of the design space meets") as caught:
        check_feasible(context(Table(), Device(), "0.001ms", around))
    assert Structure.parse(caught.value.fastest).resolution == 4
    assert caught.value.fastest_ms == pytest.approx(1.01 * fastest[4])


def test_blocks_whose_trials_all_failed_are_not_selected() -> None:
    failed = frozenset({(1, Block("DW", 3, 3))})
    chain = make_chain(AROUND, Table(), Model().stage_gain, failed)
    assert {option.type for option in chain[1].options} == {"XX", "DW"}
    assert {option.type for option in chain[2].options} == {"XX"}
    assert chain[2].distinct_output_widths == AROUND.widths[1]


def test_there_is_one_alternative_for_each_combination_of_types() -> None:
    assert len(select_top(9, Table(), Device(), "0.06ms")) == 4
    with pytest.raises(InfeasibleBudgetError):
        select_top(3, Table(), Device(), "0.001ms")


def test_only_the_master_net_is_measured_before_a_feasible_budget_is_accepted() -> None:
    device = Device()
    check_feasible(context(Table(), device, "0.06ms"))
    assert device.order == [MASTER]


def test_structures_are_measured_before_a_pessimistic_table_refuses_a_budget() -> None:
    device = Device()
    check_feasible(context(Table(scale=100.0), device, "0.06ms"))
    assert len(device.order) == 1 + NUM_FASTEST


def test_several_fast_structures_are_measured_before_a_budget_is_refused() -> None:
    """Structures of other types are equally fast, and only the first is slower than predicted."""
    fastest = MASTER.with_stage(0, AROUND.choices(0)[0]).with_stage(1, AROUND.choices(1)[0])
    budget = f"{1.02 * true_ms(fastest)}ms"
    device = Device()
    check_feasible(context(Table(scale=1.1), device, budget))
    first, second = device.order[1:3]
    assert true_ms(first) == true_ms(second) == true_ms(fastest)

    def slowdown(structure: Structure) -> float:
        return 1.5 if block_types(structure) == block_types(first) else 1.0

    check_feasible(context(Table(scale=1.1), Device(structure_slowdown=slowdown), budget))
    selected = select_best(
        Table(scale=1.1, learns=False), Device(structure_slowdown=slowdown), budget
    )
    assert block_types(selected.structure) != block_types(first)


def test_a_scaled_master_net_that_measured_too_slow_is_not_proposed_again() -> None:
    """The table, which never learns, still predicts that it meets the budget."""
    model: Any = Model()
    device = Device(structure_slowdown=lambda structure: 1.3)
    search = BudgetSearch(context(Table(learns=False), device, "0.06ms"), model)
    proposed: list[Structure] = []
    while not search._learned.fitting:
        (scaled,) = search._proposals.scaled()
        assert scaled not in proposed
        proposed.append(scaled)
        search._learned.measure([scaled])
    assert len(proposed) > 1
    assert search._proposals.widest_scaled(list(search._learned.fitting)) == proposed[-1]


@pytest.mark.parametrize(("budget", "bound"), [("0.5x", 1 + LEAST_SHARE), ("0.02ms", 1.01)])
def test_before_any_measurement_the_aim_leaves_room_for_the_least_interval(
    budget: str, bound: float
) -> None:
    """Screened structures are chosen then, and must meet the budget when they are measured."""
    device, asked = Device(half_width=0.0), Budget.parse(budget)
    latency: Any = SimpleNamespace(table=Table(), measured=device.measured, measure=device.measure)
    learned = LearnedLatency(latency, asked, MASTER)
    budget_ms = asked.ms_per_image(true_ms(MASTER))
    assert learned.aim_ms == pytest.approx(budget_ms / bound)
    learned.measure([MASTER.with_stage(0, MASTER.stage(1))])
    assert learned.aim_ms == pytest.approx(budget_ms), "the intervals of this device have no width"


@pytest.mark.parametrize("disturbed", [False, True])
def test_latencies_of_earlier_searches_correct_the_table_unless_they_are_disturbed(
    disturbed: bool,
) -> None:
    """They do not count as measured, so the search may propose their structures."""
    known, slower = MASTER.with_stage(0, MASTER.stage(1)), 1.5
    device = Device(half_width=0.0, structure_slowdown=lambda s: slower if s != MASTER else 1.0)
    device.measure([MASTER, known])
    if disturbed:
        latency = device.measured[known]
        network = replace(latency.network, disturbed=True)
        device.measured[known] = replace(latency, network=network)
    asked = Budget(0.9 * true_ms(known), "ms")
    target: Any = SimpleNamespace(table=Table(), measured=device.measured, measure=device.measure)
    learned = LearnedLatency(target, asked, MASTER, [known, MASTER.with_stage(1, MASTER.stage(0))])
    assert not learned.measured
    assert learned.too_slow == (set() if disturbed else {known})
    predicted = learned.table.predict_ms_per_image(known)
    assert predicted == pytest.approx(true_ms(known) * (1.0 if disturbed else slower))


def test_trained_structures_come_in_the_order_of_the_predictions() -> None:
    """Where nothing is wrong any more, the gains are equal, and the order still differs."""

    class Saturated(Model):
        def predict(self, structure: Structure) -> Prediction:
            fall: Any = SimpleNamespace(
                mean=super().predict(structure).mean, interval=lambda deviations: (0.0, 1.0)
            )
            return Prediction(1.0, 0.1, 0.0, fall)

    model: Any = Saturated()
    device = Device()
    stage = MASTER.stage(1)
    trained = [MASTER.with_stage(1, replace(stage, depth=depth)) for depth in (1, 3, 2)]
    device.measure(trained)
    candidates = take_trained(context(Table(), device, "1ms"), model, trained)
    assert [each.structure.stage(1).depth for each in candidates] == [3, 2, 1]
    assert [each.measured_ms for each in candidates] == [true_ms(s.structure) for s in candidates]
