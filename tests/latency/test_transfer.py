from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fake_device import FakeDevice, FakeEngine, layer_costs_s
from genets.latency import ENGINES, LatencyTable, TableSettings, Target, measure
from genets.latency.engines.base import Engine
from genets.latency.predictor import transfer
from genets.latency.predictor.probes import (
    BlockProbe,
    Probe,
    StemOrHeadProbe,
    build_for_timing,
)
from genets.latency.predictor.transfer import (
    MAX_NETWORKS,
    Transfer,
    choose_networks,
    network_parts,
)
from genets.latency.target import ENGINE_PROVIDERS, PRECISIONS
from genets.latency.timing.statistics import rmspe
from genets.nas.laboratory import Laboratory
from genets.nas.study import layout
from genets.structure import Block, DesignSpace, Structure

pytestmark = pytest.mark.usefixtures("built_once")

MASTER = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16")
SPACE = DesignSpace(
    blocks=(Block("XX"), Block("BL", 3, 0.5), Block("DW", 3, 3), Block("DW", 5, 6)),
    width_step=8,
    depth_change=2,
    resolutions=(),
)
FEW = DesignSpace(blocks=SPACE.blocks[:1], width_range=(1.0, 1.0), depth_change=0, resolutions=())
CLASSES = 5
FAST = {"dense": 3e-9, "depth_wise": 9e-9, "layer": 2e-6, "written": 1e-9}
SLOW = {"dense": 0.6e-9, "depth_wise": 5e-9, "layer": 1e-6, "written": 1e-9}


class CountingEngine(FakeEngine):
    """Counts the networks that it prepares."""

    prepared = 0

    def prepare(self, *words, **more):
        self.prepared += 1
        return super().prepare(*words, **more)


@contextmanager
def engines(**prices: dict[str, float]) -> Iterator[None]:
    """Engines with these prices, by name."""
    with pytest.MonkeyPatch.context() as patch:
        for name, of_engine in prices.items():
            engine = CountingEngine(FakeDevice(), partial(layer_costs_s, **of_engine))
            patch.setitem(ENGINES, name, engine)
            patch.setitem(ENGINE_PROVIDERS, name, ())
        yield


@pytest.fixture(scope="module", autouse=True)
def fast_and_slow() -> Iterator[None]:
    with engines(fast=FAST, slow=SLOW), pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "DRAWN", 300)
        yield


@pytest.fixture(scope="module")
def source() -> LatencyTable:
    return build(Target(engine="fast", batch_size=4))


@pytest.fixture(scope="module")
def table(source: LatencyTable) -> LatencyTable:
    """The table of the slow engine; no test changes it."""
    return build(Target(engine="slow", batch_size=4), source=source)


def build(target: Target, space: DesignSpace = SPACE, **more: object) -> LatencyTable:
    return LatencyTable.build(MASTER, space, target, CLASSES, time_limit_s=1e-3, **more)  # type: ignore[arg-type]


def error_on_unseen(table: LatencyTable, source: LatencyTable) -> tuple[float, float]:
    """RMSPE on unseen networks as fast as those of a search: of the table, and of one factor."""
    rng = np.random.default_rng(99)
    drawn = sorted((table.space.sample(rng) for _ in range(60)), key=source.predict_ms_per_image)
    measured = np.array(
        [
            measure(build_for_timing(s, CLASSES), table.target, 16, min_samples=6).ms_per_image
            for s in drawn[:30]
        ]
    )
    of_source = np.array([source.predict_ms_per_image(s) for s in drawn[:30]])
    of_table = np.array([table.predict_ms_per_image(s) for s in drawn[:30]])
    scaled = of_source * np.median(measured / of_source)
    return rmspe(of_table, measured), rmspe(scaled, measured)


def test_an_engine_with_other_costs(table, source) -> None:
    error, of_one_factor = error_on_unseen(table, source)
    assert error < 0.05 < 0.12 < of_one_factor
    assert table.rmspe == pytest.approx(error, abs=0.03)
    assert table.source_name == source.target.name
    assert "piece_batch_size" in source.environment.keys() - table.environment.keys()


def test_it_prepares_few_networks(table, source) -> None:
    assert len(table.networks) == MAX_NETWORKS
    assert len(source.timed_ms) > 4 * MAX_NETWORKS
    assert sum(n.use == "held-out" for n in table.networks) == transfer.HELD_OUT


def test_an_engine_that_is_faster_by_one_factor(source) -> None:
    with engines(faster={name: 0.4 * price for name, price in FAST.items()}):
        table = build(Target(engine="faster", batch_size=4), source=source)
        assert ENGINES["faster"].prepared == MAX_NETWORKS
    assert table.rmspe < 0.01
    for structure in choose_networks(source, seed=7)[1]:
        assert table.predict_ms_per_image(structure) == pytest.approx(
            0.4 * source.predict_ms_per_image(structure), rel=0.01
        )


def test_the_stored_table(table, tmp_path: Path) -> None:
    table.save(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json")
    assert loaded == table
    assert loaded.predict_ms_per_image(MASTER) == table.predict_ms_per_image(MASTER)


def test_parts_add_up(source) -> None:
    rng = np.random.default_rng(3)
    for structure in (MASTER, *(source.space.sample(rng) for _ in range(20))):
        total = sum(network_parts(source, structure).values()) + source.calibration.offset_ms
        expected = source.predict_ms_per_image(structure) * source.target.batch_size
        assert total == pytest.approx(expected, rel=1e-9)


def test_probes_contain_the_calibration_of_the_source_once(source) -> None:
    """Without effects, the fast engine's table comes back, though its stages are calibrated."""
    networks = [
        replace(n, ms_per_batch=n.ms_per_batch * (0.7 + 0.05 * n.structure.super_blocks[0].depth))
        for n in source.networks
    ]
    calibrated = replace(source, networks=tuple(networks))
    factors = calibrated.calibration.factors
    assert factors.max() < 0.95
    assert np.ptp(factors) > 0.02
    back = replace(source, timed_ms=Transfer(2.0, {}).probes(calibrated), networks=())
    for network in source.networks:
        of_stages = (
            calibrated.predict_ms_per_image(network.structure) - calibrated.offset_ms_per_image
        )
        assert back.predict_ms_per_image(network.structure) == pytest.approx(2 * of_stages)


def test_an_effect_of_projections_changes_first_blocks_alone(source) -> None:
    plain = Transfer(1.0, {}).probes(source)
    dearer = Transfer(1.0, {("projection", "XX"): 0.5}).probes(source)
    chains = [p for p in plain if isinstance(p, BlockProbe) and p.block.type == "XX"]
    assert {probe.depth for probe in chains} == {1, 3}
    changing = [p for p in chains if p.stride > 1 or p.input_width != p.width]
    assert 0 < len(changing) < len(chains)
    for probe in changing:
        added = 0.5 * plain[replace(probe, depth=1)]
        assert dearer[probe] == pytest.approx(plain[probe] + added)
    assert all(dearer[probe] == plain[probe] for probe in plain.keys() - set(changing))


def test_the_overhead_of_probes_does_not_count(source) -> None:
    """Entering and leaving a probe takes 0.01 ms more; the head is only entered."""

    def added(probe: Probe) -> float:
        if isinstance(probe, StemOrHeadProbe):
            return 0.005 * (probe.name == "head")
        return 0.01

    timed_ms = {probe: ms + added(probe) for probe, ms in source.timed_ms.items()}
    expected = Transfer(1.0, {}).probes(source)
    found = Transfer(1.0, {}).probes(replace(source, timed_ms=timed_ms))
    assert found == pytest.approx(expected)


def test_chosen_networks(source) -> None:
    chosen, held_out = choose_networks(source, seed=1)
    assert (chosen, held_out) == choose_networks(source, seed=1) != choose_networks(source, seed=2)
    assert len({MASTER, *chosen, *held_out}) == MAX_NETWORKS
    rng = np.random.default_rng(0)
    drawn = [source.space.sample(rng) for _ in range(300)]
    by_latency = sorted(drawn, key=source.predict_ms_per_image)
    slowest = max(map(source.predict_ms_per_image, [*chosen, *held_out]))
    assert slowest < source.predict_ms_per_image(by_latency[180])
    others = [by_latency[n] for n in rng.permutation(150)[: len(chosen)]]
    assert information(source, chosen) > information(source, others) + 5


def information(source: LatencyTable, structures: list[Structure]) -> float:
    """The logarithm of the determinant by which measured networks narrow the effects down."""
    costs = [network_parts(source, structure) for structure in (MASTER, *structures)]
    columns = transfer._columns(costs)
    rows = np.array([transfer._sum_effects(each, columns) / sum(each.values()) for each in costs])
    rows = np.column_stack((rows, np.ones(len(rows))))
    spread = (rows * transfer._variances(columns)) @ rows.T / transfer.NOISE_STD**2
    return float(np.linalg.slogdet(np.eye(len(rows)) + spread)[1])


def test_the_choice_is_the_most_informative() -> None:
    """Brute force: each further row makes the determinant of the covariance smallest."""
    rows = np.random.default_rng(0).normal(size=(30, 4))
    variances = np.array([1.0, 0.25, 4.0, 0.01])
    chosen = [0]
    for _ in range(6):
        determinants = {
            number: np.linalg.slogdet(
                np.diag(1 / variances)
                + rows[[*chosen, number]].T @ rows[[*chosen, number]] / transfer.NOISE_STD**2
            )[1]
            for number in set(range(30)) - set(chosen)
        }
        chosen.append(max(determinants, key=determinants.__getitem__))
    assert transfer._most_informative(rows, variances, 6) == chosen[1:]


def test_a_space_with_few_structures() -> None:
    source = build(Target(engine="fast", batch_size=4), FEW)
    assert 1 < source.space.size < MAX_NETWORKS
    slow = Target(engine="slow", batch_size=4)
    table = build(slow, FEW, source=source)
    assert len(table.networks) == source.space.size
    for network in table.networks:
        predicted = table.predict_ms_per_image(network.structure) * slow.batch_size
        assert predicted == pytest.approx(network.ms_per_batch, rel=0.05)


def test_a_space_of_the_masternet_alone() -> None:
    master = Structure.parse("Conv3x16s2 XX3x16 XX3x32s2 Conv1x64 @16")
    slow = Target(engine="slow", batch_size=4)
    source = LatencyTable.build(
        master, FEW, replace(slow, engine="fast"), CLASSES, time_limit_s=1e-3
    )
    with engines(slow=SLOW):
        table = LatencyTable.build(master, FEW, slow, CLASSES, time_limit_s=1e-3, source=source)
        assert ENGINES["slow"].prepared == 1
    assert table.source_name == source.target.name
    assert table.predict_ms_per_image(master) == pytest.approx(table.master_ms_per_image, rel=0.01)


class CompilingEngine(CountingEngine):
    """Its tables are made from those of engine `fast`."""

    def table_source(self, target: Target) -> Target:
        return replace(target, engine="fast")


@pytest.fixture
def compiling(monkeypatch) -> CompilingEngine:
    engine = CompilingEngine(FakeDevice(), partial(layer_costs_s, **SLOW))
    monkeypatch.setitem(ENGINES, "compiling", engine)
    monkeypatch.setitem(ENGINE_PROVIDERS, "compiling", ())
    monkeypatch.setitem(ENGINES, "fast", CountingEngine(FakeDevice(), ENGINES["fast"].cost_s))
    return engine


def prepare(
    path: Path, engine: str = "compiling", shares: list[float] | None = None
) -> LatencyTable:
    target = Target(engine=engine, batch_size=4)
    expected = TableSettings(FEW.around(MASTER), target, CLASSES)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Laboratory().prepare_table(
        path, expected, seed=0, time_limit_s=1e-3,
        on_progress=(shares if shares is not None else []).append,
    )  # fmt: skip


def test_a_search_makes_the_table_of_the_faster_engine_first(compiling, tmp_path) -> None:
    path, shares = tmp_path / "latency" / "slow.json", []
    table = prepare(path, shares=shares)
    source = path.parent / layout.SOURCES / f"{table.source_name}.json"
    assert LatencyTable.load(source).source_name is None
    assert layout.list_tables(path.parent) == [path]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    prepared = compiling.prepared, ENGINES["fast"].prepared
    assert prepare(path) == table
    path.unlink()
    assert prepare(path) == table  # from the stored table of the faster engine
    assert (compiling.prepared, ENGINES["fast"].prepared) == (2 * prepared[0], prepared[1])


def test_a_table_of_the_study_is_the_source(compiling, tmp_path) -> None:
    own = layout.table_path(tmp_path / "latency", Target(engine="fast", batch_size=4).name)
    prepare(own, engine="fast")
    prepared = ENGINES["fast"].prepared
    prepare(own.with_name("slow.json"))
    assert ENGINES["fast"].prepared == prepared
    assert not (own.parent / layout.SOURCES).exists()


@pytest.mark.parametrize("damage", [("", "{"), ('"device_name": "', '"device_name": "another ')])
def test_an_unusable_table_of_the_study_stays_and_is_no_source(
    compiling, tmp_path, caplog, damage: tuple[str, str]
) -> None:
    own = layout.table_path(tmp_path / "latency", Target(engine="fast", batch_size=4).name)
    prepare(own, engine="fast")
    stored = own.read_text().replace(*damage, 1)
    own.write_text(stored)
    with caplog.at_level("WARNING", "genets"):
        prepare(own.with_name("slow.json"))
    assert own.read_text() == stored
    assert layout.source_path(own, own.stem).exists()
    assert f"{own} is " in caplog.text
    assert "it is not used" in caplog.text


def test_an_interrupted_table_continues(compiling, tmp_path, monkeypatch) -> None:
    path = tmp_path / "latency" / "slow.json"
    complete = prepare(tmp_path / "other" / "slow.json")
    first = compiling.prepared
    time_runs, windows = compiling.device.time_runs, []

    def stop(*words):
        windows.append(words)
        if len(windows) == 60:
            raise KeyboardInterrupt
        return time_runs(*words)

    monkeypatch.setattr(compiling.device, "time_runs", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(path)
    fast = ENGINES["fast"].prepared
    table = prepare(path)
    assert (table.networks, table.timed_ms) == (complete.networks, complete.timed_ms)
    assert ENGINES["fast"].prepared == fast
    assert compiling.prepared <= 3 * first
    assert not layout.visits_path(path).exists()


def all_targets() -> list[Target]:
    return [
        Target(device, engine, precision, provider=provider)
        for device, engine, precision in product(("cpu", "cuda"), ENGINE_PROVIDERS, PRECISIONS)
        for provider in (None, *ENGINE_PROVIDERS[engine])
    ]


def test_sources_are_timed_themselves() -> None:
    """A source is another target on the same device, with a precision that its engine has."""
    sources = {}
    for target in all_targets():
        engine: Engine = ENGINES[target.engine]
        if target.precision not in engine.precisions:
            continue
        source = engine.table_source(target)
        if source is None:
            continue
        sources[target.engine, target.provider] = source.engine
        assert ENGINES[source.engine].table_source(source) is None
        assert source.precision in ENGINES[source.engine].precisions
        assert (source.device, source.batch_size) == (target.device, target.batch_size)
    assert set(sources) == {
        ("torch-compile", None), ("onnxruntime", "tensorrt"), ("openvino", None)
    }  # fmt: skip


def ridge(design: np.ndarray, target: np.ndarray, prior: np.ndarray) -> np.ndarray:
    precision = design.T @ design / transfer.NOISE_STD**2 + np.diag(1 / prior)
    return np.linalg.solve(precision, design.T @ target / transfer.NOISE_STD**2)


@pytest.mark.parametrize("noise", [0.001, 0.05, 0.4])
def test_leave_one_out_errors_choose_the_spread_of_the_effects(noise) -> None:
    """Brute force: every fit without one network."""
    rng = np.random.default_rng(4)
    design, variances = rng.normal(size=(24, 6)), np.full(6, 0.04)
    target = design @ rng.normal(size=6) * 0.2 + rng.normal(size=24) * noise
    errors = {}
    for multiple in transfer.MULTIPLES:
        rest = [np.arange(24) != number for number in range(24)]
        fits = [ridge(design[each], target[each], multiple * variances) for each in rest]
        errors[multiple] = sum(
            float(target[n] - design[n] @ fit) ** 2 for n, fit in enumerate(fits)
        )
    best = min(errors, key=errors.__getitem__)
    expected = ridge(design, target, best * variances)
    assert transfer._ridge(design, target, variances) == pytest.approx(expected, rel=1e-6)
