import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from fake_device import FakeDevice, FakeEngine, layer_costs_s
from genets.core.errors import TargetError
from genets.latency import ENGINES, LatencyTable, TableSettings, Target, measure
from genets.latency.environment import describe_environment
from genets.latency.predictor import builder
from genets.latency.predictor.builder import choose_probe_batch_size
from genets.latency.predictor.probes import BlockProbe, StemOrHeadProbe, build_for_timing
from genets.latency.target import ENGINE_PROVIDERS
from genets.latency.timing.drift import time_in_rounds
from genets.structure import Block, DesignSpace, Structure
from genets.structure.cost import multiply_adds

pytestmark = pytest.mark.usefixtures("built_once")

MASTER = Structure.parse("Conv3x16s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16")
SPACE = DesignSpace(
    blocks=(Block("XX"), Block("BL", 3, 0.5), Block("DW", 3, 3)),
    width_step=16,
    depth_change=1,
    resolutions=(),
)
CLASSES = 5
PRICES = {"dense": 3e-9, "depth_wise": 9e-9, "layer": 2e-6, "written": 1e-9}


@pytest.fixture
def target(fake_engine, layer_costs) -> Target:
    """A device whose cost is a sum over convolutions, exactly the model of the table."""
    fake_engine(partial(layer_costs, **PRICES))
    return Target(engine="fake", batch_size=4)


def build(target: Target, **more: object) -> LatencyTable:
    return LatencyTable.build(MASTER, SPACE, target, CLASSES, time_limit_s=1e-3, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    """Built once, because no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "fake", FakeEngine(FakeDevice(), partial(layer_costs_s, **PRICES)))
        patch.setitem(ENGINE_PROVIDERS, "fake", ())
        return build(Target(engine="fake", batch_size=4))


def unseen(table: LatencyTable, count: int) -> list[Structure]:
    rng = np.random.default_rng(99)
    known = {network.structure for network in table.networks}
    drawn = (table.space.sample(rng) for _ in range(10 * count))
    return [structure for structure in drawn if structure not in known][:count]


def test_unseen_structures_on_a_device_of_the_models_form(table, target) -> None:
    assert table.rmspe < 1e-6
    for structure in unseen(table, 10):
        measured = measure(build_for_timing(structure, CLASSES), target, 16, min_samples=6)
        predicted = table.predict_ms_per_image(structure)
        assert predicted == pytest.approx(measured.ms_per_image, rel=1e-6)


def test_stems_and_heads_of_other_widths(target) -> None:
    space = replace(SPACE, stem_width_range=(0.5, 2.0), head_width_range=(0.25, 1.5))
    table = LatencyTable.build(MASTER, space, target, CLASSES, time_limit_s=1e-3)
    assert table.rmspe < 1e-6
    ends = {(n.structure.stem.width, n.structure.head.width) for n in table.networks}
    assert len(ends) > 8
    for stem, head in ((16, 16), (24, 80), (32, 96)):
        stages = [replace(MASTER.stem, width=stem), *MASTER.super_blocks]
        structure = Structure((*stages, replace(MASTER.head, width=head)), 16)
        measured = measure(build_for_timing(structure, CLASSES), target, 16, min_samples=6)
        predicted = table.predict_ms_per_image(structure)
        assert predicted == pytest.approx(measured.ms_per_image, rel=1e-6)
    with pytest.raises(TargetError, match="is for structures with the stem, head and strides"):
        table.predict_ms_per_image(MASTER.with_stage(-1, replace(MASTER.stem, width=40)))


def test_a_device_that_slows_down_while_the_table_is_made(target, device) -> None:
    device.slowness = lambda now_s: 1.0 + now_s / 40
    table = build(target)
    assert device.slowness(device.now_s) > 1.1
    assert table.rmspe < 0.02


def test_prediction_is_the_sum_over_stages(table) -> None:
    for structure in unseen(table, 20):
        total = table.offset_ms_per_image
        for index in structure.indices:
            stage = table.stage_ms_per_image(
                index,
                (16, structure.input_width(index)),
                (MASTER.stage(index), structure.stage(index)),
            )
            assert stage.shape == (2, 2)
            total += float(stage[1, 1])
        assert total == pytest.approx(table.predict_ms_per_image(structure), rel=1e-14)


def test_a_whole_stage_at_once(table) -> None:
    options, inputs = table.space.choices(1), table.space.widths[0]
    result = table.stage_ms_per_image(1, inputs, options)
    assert result.shape == (len(inputs), len(options))
    assert (result > 0).all()
    assert result[0, 5] == table.stage_ms_per_image(1, inputs[:1], options[5:6])[0, 0]


def test_the_same_seed_gives_the_same_table(target) -> None:
    one, two, other = (build(target, seed=seed) for seed in (3, 3, 4))
    assert (one.networks, one.timed_ms) == (two.networks, two.timed_ms)
    assert one.networks != other.networks


def test_held_out_networks_are_not_fitted(table) -> None:
    uses = [network.use for network in table.networks]
    assert (uses.count("calibration"), uses.count("held-out")) == (21, 20)
    assert len(table.held_out_ms_per_image) == 20
    wrong = [
        replace(n, ms_per_batch=2 * n.ms_per_batch) if n.use == "held-out" else n
        for n in table.networks
    ]
    other = replace(table, networks=tuple(wrong))
    assert np.array_equal(other.calibration.factors, table.calibration.factors)
    assert other.rmspe == pytest.approx(0.5)


def test_more_networks_held_out(target) -> None:
    assert len(build(target, held_out=30).held_out_ms_per_image) == 30


def test_with_little_memory_the_same_table_is_timed_in_parts(target, table, monkeypatch) -> None:
    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: 10_000_000)
    turns = []
    monkeypatch.setattr(
        builder,
        "time_in_rounds",
        lambda *args, **more: turns.append(len(args[1])) or time_in_rounds(*args, **more),
    )
    shares: list[float] = []
    small = build(target, on_progress=shares.append)
    assert len(turns) > 3
    in_later_parts = len(turns) - 1  # the MasterNet
    assert sum(turns) == len(small.timed_ms) + len(small.networks) + in_later_parts
    assert small.timed_ms == pytest.approx(table.timed_ms)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_the_device_may_change_its_speed_between_two_parts(
    target, table, device, monkeypatch
) -> None:
    """The second part and those after it run on a device that is half as fast."""
    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: 10_000_000)
    turns: list[int] = []

    def time_part(*args: Any, **more: Any) -> Any:
        turns.append(len(args[1]))
        device.slowness = lambda now_s: 1.0 if len(turns) == 1 else 2.0
        return time_in_rounds(*args, **more)

    monkeypatch.setattr(builder, "time_in_rounds", time_part)
    assert build(target).timed_ms == pytest.approx(table.timed_ms)
    assert len(turns) > 3


def test_probes_of_a_slow_target_are_timed_in_a_small_batch(target, fake_engine) -> None:
    prices = {name: 1e4 * price for name, price in PRICES.items()}
    batches = []

    def costs(network: nn.Module, at: Target, resolution: int) -> float:
        batches.append(at.batch_size)
        return layer_costs_s(network, at, resolution, **prices)

    fake_engine(costs)
    slow = build(replace(target, batch_size=64))
    size = slow.environment["piece_batch_size"]
    assert size < 64
    assert batches.count(64) == len(slow.networks) + 1  # the MasterNet is prepared twice
    assert batches.count(size) >= len(slow.timed_ms)
    assert slow.rmspe < 1e-6
    drawn = [multiply_adds(slow.space.sample(np.random.default_rng(n))) for n in range(100)]
    taken = [multiply_adds(network.structure) for network in slow.networks]
    assert np.mean(taken) < np.quantile(drawn, 0.25)


@pytest.mark.parametrize(
    ("run_s", "batch_size", "expected"),
    [(0.1, 64, 64), (0.2, 64, 64), (0.21, 64, 32), (1.4, 64, 8), (100.0, 64, 1), (9.0, 1, 1),
     (0.5, 3, 1), (0.3, 3, 2)],
)  # fmt: skip
def test_the_batch_of_probes_is_halved_until_a_run_is_short(run_s, batch_size, expected) -> None:
    assert choose_probe_batch_size(run_s, batch_size) == expected


def test_progress_rises_to_one(target) -> None:
    shares: list[float] = []
    build(target, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_several_resolutions(target) -> None:
    space = replace(SPACE, resolutions=(16, 24))
    table = LatencyTable.build(MASTER, space, target, CLASSES, time_limit_s=1e-3)
    structure = MASTER.with_resolution(24)
    measured = measure(build_for_timing(structure, CLASSES), target, 24, min_samples=6)
    assert table.predict_ms_per_image(structure) == pytest.approx(measured.ms_per_image, rel=1e-6)
    small, large = (table.stage_ms_per_image(0, [16], [MASTER.super_blocks[0]], resolution=r)
                    for r in (16, 24))  # fmt: skip
    assert small[0, 0] < large[0, 0]
    with pytest.raises(TargetError, match="has resolution 16 and 24, not 32"):
        table.predict_ms_per_image(MASTER.with_resolution(32))


def test_a_correction_moves_the_prediction_towards_the_measurement(table) -> None:
    chosen = unseen(table, 3)
    before = [table.predict_ms_per_image(s) for s in chosen]
    corrected = table.correct({s: 1.2 * ms for s, ms in zip(chosen, before, strict=True)})
    after = [corrected.predict_ms_per_image(s) for s in chosen]
    ratios = [a / b for a, b in zip(after, before, strict=True)]
    assert all(1.0 < ratio < 1.2 for ratio in ratios), ratios
    assert max(ratios) > 1.05, ratios
    assert corrected.held_out_ms_per_image != table.held_out_ms_per_image
    assert len(corrected.networks) == len(table.networks) + 3


def test_structures_of_other_ends_or_strides_are_refused(table) -> None:
    for text in (
        "Conv3x32s2 XX3x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16",
        "Conv3x16s2 XX3x16 BL3x32r0.5*2 DW3x32s2r3 Conv1x64 @16",
        "Conv3x16s2 XX3x16 BL3x32s2r0.5*2 Conv1x64 @16",
    ):
        with pytest.raises(TargetError, match="is for structures with the stem, head and strides"):
            table.predict_ms_per_image(Structure.parse(text))
    seven = Structure.parse("Conv3x16s2 XX7x16 BL3x32s2r0.5*2 DW3x32s2r3 Conv1x64 @16")
    with pytest.raises(TargetError, match="unknown block of the latency table 'XX7'"):
        table.predict_ms_per_image(seven)


def test_file_round_trip(table, target, tmp_path: Path) -> None:
    corrected = table.correct({MASTER: 1.0})
    corrected.save(tmp_path / "t.json")
    again = LatencyTable.load(tmp_path / "t.json")
    assert again == corrected
    assert again.seconds == table.seconds
    assert set(table.seconds) == {"preparing", "timing"}
    structure = unseen(table, 1)[0]
    assert again.predict_ms_per_image(structure) == corrected.predict_ms_per_image(structure)
    record = json.loads((tmp_path / "t.json").read_text())
    assert record["rmspe"] == corrected.rmspe
    assert record["environment"]["packages"]["torch"]
    assert {"structure", "use", "ms_per_batch", "predicted_ms_per_batch"} == set(
        record["networks"][0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_file_of_the_same_settings_is_taken(table, target, tmp_path: Path) -> None:
    table.save(tmp_path / "t.json")
    expect = TableSettings(SPACE.around(MASTER), target, CLASSES)
    assert LatencyTable.load(tmp_path / "t.json", expect) == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"target": {"batch_size": 8}},
            r"target cpu-fake-fp32-b4-t\d+ in the table, cpu-fake-fp32-b8-t",
        ),
        (
            {"target": {"threads": 77}},
            r"target cpu-fake-fp32-b4-t\d+ in the table, cpu-fake-fp32-b4-t77",
        ),
        ({"num_classes": 9}, "number of classes 5 in the table, 9 here"),
        ({"space": SPACE.around(MASTER.with_resolution(24))}, "MasterNet Conv3x16s2.* @24 here"),
        ({"space": replace(SPACE, depth_change=2).around(MASTER)}, "design space DesignSpace"),
    ],
)
def test_file_of_other_settings_is_refused(
    table, target, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    table.save(tmp_path / "t.json")
    expect = TableSettings(SPACE.around(MASTER), target, CLASSES)
    if isinstance(change.get("target"), dict):
        change = {"target": replace(target, **change["target"])}  # type: ignore[arg-type]
    with pytest.raises(TargetError, match=rf"is for other settings \(.*{message}"):
        LatencyTable.load(tmp_path / "t.json", replace(expect, **change))  # type: ignore[arg-type]


def test_file_of_another_device_is_refused(table, target, tmp_path: Path) -> None:
    other = replace(table, environment={**table.environment, "device_name": "Abacus 9"})
    other.save(tmp_path / "t.json")
    with pytest.raises(TargetError, match="device Abacus 9 in the table"):
        LatencyTable.load(tmp_path / "t.json", TableSettings(SPACE.around(MASTER), target, CLASSES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packages": {"torch": "1.2"}}, r"torch 1\.2 in the table, \d"),
        ({"driver": "570.1"}, r"driver 570\.1 in the table, None here"),
    ],
)
def test_file_of_other_versions_is_refused(
    table, target, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    replace(table, environment={**table.environment, **change}).save(tmp_path / "t.json")
    with pytest.raises(TargetError, match=rf"is for other settings \({message}"):
        LatencyTable.load(tmp_path / "t.json", TableSettings(SPACE.around(MASTER), target, CLASSES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capability": "AVX2"}, "capability AVX2 in the table, .* here"),
        ({"instruction_sets": ["mmx"]}, r"instruction sets \['mmx'\] in the table, \[.* here"),
        ({"onednn_max_isa": "SSE41"}, "limit of oneDNN's instruction sets SSE41 in the table"),
        ({"nominal_mhz": 2000}, "nominal clock 2000 MHz in the table, 2600 MHz here"),
    ],
)
def test_file_of_a_cpu_of_the_same_name_and_another_kind_is_refused(
    table, target, tmp_path: Path, change: dict[str, object], message: str, monkeypatch
) -> None:
    """A cloud gives "AMD EPYC" with AVX-512 and with AVX2."""
    path, expect = tmp_path / "t.json", TableSettings(SPACE.around(MASTER), target, CLASSES)
    here = {**describe_environment(target), "capability": "AVX512", "nominal_mhz": 2600}
    monkeypatch.setattr("genets.latency.predictor.storage.describe_environment", lambda _: here)
    replace(table, environment=here).save(path)
    assert LatencyTable.load(path, expect).environment["capability"] == "AVX512"
    replace(table, environment={**here, **change}).save(path)
    with pytest.raises(TargetError, match=rf"is for other settings \({message}"):
        LatencyTable.load(path, expect)


@pytest.mark.parametrize("mhz", [2590, 2600, 2610, "2 GHz", None])
def test_clocks_of_one_class_and_older_files_without_the_kind_are_accepted(
    table, target, tmp_path: Path, mhz: object, monkeypatch
) -> None:
    path, expect = tmp_path / "t.json", TableSettings(SPACE.around(MASTER), target, CLASSES)
    here = {**describe_environment(target), "nominal_mhz": 2600}
    monkeypatch.setattr("genets.latency.predictor.storage.describe_environment", lambda _: here)
    replace(table, environment={**here, "nominal_mhz": mhz}).save(path)
    assert LatencyTable.load(path, expect).num_classes == CLASSES
    kind = {"capability", "instruction_sets", "onednn_max_isa", "nominal_mhz"}
    older = {name: value for name, value in here.items() if name not in kind}
    replace(table, environment=older).save(path)
    assert LatencyTable.load(path, expect).num_classes == CLASSES


def test_file_of_another_version_of_the_engine_is_refused(
    table, target, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(ENGINES[target.engine], "packages", ("pytest",))
    packages = {**table.environment["packages"], "pytest": "0.1"}
    replace(table, environment={**table.environment, "packages": packages}).save(
        tmp_path / "t.json"
    )
    with pytest.raises(TargetError, match=f"pytest 0.1 in the table, {pytest.__version__} here"):
        LatencyTable.load(tmp_path / "t.json", TableSettings(SPACE.around(MASTER), target, CLASSES))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: re.sub('"entries": .*', '"entries": [1]}', text, flags=re.S),
            r"t\.json is damaged \(.*\); it must be measured again",
        ),
        (
            lambda text: re.sub('"environment": {', '"environment": 3, "e": {', text),
            "is damaged",
        ),
        (
            lambda text: re.sub('"ms": [0-9.e-]+', '"ms": NaN', text, count=1),
            r"is damaged \(a latency is nan ms\)",
        ),
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (
            lambda text: re.sub('"version": 2', '"version": 7', text),
            "has format version 7, and this genets reads versions up to 2; update genets",
        ),
        (
            lambda text: re.sub('"version": 2', '"version": 1', text),
            "has format version 1, and this genets reads versions from 2",
        ),
        (lambda text: text.replace('"XX"', '"ZZ"'), r"is damaged \(unknown block type 'ZZ'"),
        (lambda text: re.sub('"depth": 3', '"deep": 3', text), "is damaged .*'deep'"),
        (lambda text: re.sub('"depth": 3', '"depth": 4', text, count=1), "is damaged"),
        (lambda text: text.replace('"held-out"', '"calibration"'), "is damaged"),
    ],
)
def test_damaged_file(
    table, target, tmp_path: Path, edit: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "t.json"
    table.save(path)
    path.write_text(edit(path.read_text()))
    with pytest.raises(TargetError, match=message):
        LatencyTable.load(path)


def test_a_table_without_the_seconds_that_it_took(table, target, tmp_path: Path) -> None:
    record = table.to_json()
    del record["seconds"]
    (tmp_path / "t.json").write_text(json.dumps(record))
    assert LatencyTable.load(tmp_path / "t.json") == table


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot read latency table .*the file does not exist"):
        LatencyTable.load(tmp_path / "none.json")


def test_probes_have_the_requested_shapes() -> None:
    piece = BlockProbe(2, Block("DW", 5, 6), 24, 40, 2, 8, 3)
    network = piece.network()
    assert len(network) == 3
    import torch

    assert network.eval()(torch.zeros(1, 24, 8, 8)).shape == (1, 40, 4, 4)
    head, stem = (
        StemOrHeadProbe("head", 24, 40, 2).network(7).eval(),
        StemOrHeadProbe("stem", 3, 12, 16).network(7).eval(),
    )
    assert head(torch.zeros(1, 24, 2, 2)).shape == (1, 7)
    assert [m.out_channels for m in head.modules() if isinstance(m, nn.Conv2d)] == [40]
    assert stem(torch.zeros(1, 3, 16, 16)).shape == (1, 12, 8, 8)
    weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(bool((w != 0).all()) for w in weights)


@pytest.mark.parametrize(("depth_change", "networks"), [(0, 1), (1, 4)])
def test_a_space_of_few_structures_has_a_table(target, tmp_path, depth_change, networks) -> None:
    """Even there, a network is held out, if there is one beside the MasterNet."""
    master = Structure.parse("Conv3x16s2 XX3x16 XX3x16 Conv1x64 @16")
    space = DesignSpace(
        blocks=(Block("XX"),), width_range=(1.0, 1.0), depth_change=depth_change, resolutions=()
    )
    table = LatencyTable.build(master, space, target, CLASSES, time_limit_s=1e-3)
    table.save(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json")
    assert len(loaded.networks) == loaded.space.size <= networks
    assert len(loaded.held_out_ms_per_image) == min(1, loaded.space.size - 1)
    assert loaded.rmspe < 1e-6
