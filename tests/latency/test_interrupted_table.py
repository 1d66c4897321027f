"""A latency table that is interrupted continues, on a device of known cost."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fake_device import FakeActivity, FakeDevice, FakeEngine, layer_costs_s
from genets.core.errors import TargetError
from genets.latency import ENGINES, LatencyTable, TableSettings, Target
from genets.latency.engines.nvml import GpuReading
from genets.latency.predictor import builder, visits
from genets.latency.predictor.readings import Readings
from genets.latency.predictor.visits import VisitFile
from genets.latency.target import ENGINE_PROVIDERS
from genets.latency.timing.drift import RecordError, Visit, time_in_rounds
from genets.nas.laboratory import Laboratory
from genets.nas.study import layout
from genets.structure import Block, DesignSpace, Structure

pytestmark = pytest.mark.usefixtures("built_once")

MASTER = Structure.parse("Conv3x8s2 XX3x8s2 XX3x16 Conv1x16 @8")
SPACE = DesignSpace(blocks=(Block("XX"),), width_step=8, depth_change=1, resolutions=())
PRICES = {"dense": 1e-7, "depth_wise": 3e-7, "layer": 1e-4, "written": 3e-8}


class Interrupting(FakeDevice):
    """Raises an error at a window, counted from the first window of the process."""

    stop_at = 10**9
    error: BaseException = KeyboardInterrupt()

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        if len(self.windows) >= self.stop_at:
            self.pending_s = 0.0
            raise self.error
        return super().time_runs(run, count)


@pytest.fixture
def device() -> FakeDevice:
    return Interrupting()


@pytest.fixture(scope="module")
def complete() -> LatencyTable:
    """The table of a build that is not interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "fake", FakeEngine(FakeDevice(), partial(layer_costs_s, **PRICES)))
        patch.setitem(ENGINE_PROVIDERS, "fake", ())
        return build(None)


@pytest.fixture
def engine(fake_engine) -> FakeEngine:
    engine: FakeEngine = fake_engine(partial(layer_costs_s, **PRICES))
    return engine


def build(file: Path | None, *, seed: int = 0, batch_size: int = 4) -> LatencyTable:
    target = Target("cpu", "fake", batch_size=batch_size)
    return LatencyTable.build(
        MASTER, SPACE, target, 5, time_limit_s=0.5, held_out=3, seed=seed, visits=file
    )


def interrupt(device: FakeDevice, file: Path, at: int, **more: int) -> int:
    """Stop a build at a window; return the number of visits in the file."""
    device.stop_at = at
    with pytest.raises((KeyboardInterrupt, TargetError)):
        build(file, **more)
    device.stop_at = 10**9
    device.windows.clear()
    return sum(line.startswith("[") for line in file.read_text().splitlines())


def same(one: LatencyTable, other: LatencyTable) -> bool:
    return (one.timed_ms, one.networks) == (other.timed_ms, other.networks)


@pytest.mark.parametrize("at", [120, 300, 500])
def test_the_table_is_that_of_an_uninterrupted_build(
    engine, complete, device, tmp_path, at
) -> None:
    file = tmp_path / "t.visits.jsonl"
    finished = interrupt(device, file, at)
    assert finished > 3
    assert same(build(file), complete)
    windows = len(device.windows)
    device.windows.clear()
    assert same(build(None), complete)
    assert windows < len(device.windows) - finished


def test_many_interruptions_end_in_the_same_table(engine, complete, device, tmp_path) -> None:
    file = tmp_path / "t.visits.jsonl"
    finished = [interrupt(device, file, 150) for _ in range(4)]
    assert finished == sorted(set(finished))
    assert same(build(file), complete)


def test_finished_parts_are_not_prepared_again(engine, device, tmp_path, monkeypatch) -> None:
    """With little memory, the items are timed in parts."""
    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: 400_000)
    file = tmp_path / "t.visits.jsonl"
    complete = build(None)
    windows = len(device.windows)
    device.windows.clear()
    interrupt(device, file, windows // 2)
    kept = file.read_text()
    parts, ended = kept.count('"part"'), kept.count('"end"')
    assert ended >= 2
    assert parts == ended + 1
    prepared: list[object] = []
    prepare = builder.prepare_item
    monkeypatch.setattr(
        builder, "prepare_item", lambda *words: prepared.append(words[1]) or prepare(*words)
    )
    shares: list[float] = []
    target = Target("cpu", "fake", batch_size=4)
    continued = LatencyTable.build(
        MASTER, SPACE, target, 5, time_limit_s=0.5, held_out=3, visits=file,
        on_progress=shares.append,
    )  # fmt: skip
    assert same(continued, complete)
    items = len(complete.timed_ms) + len(complete.networks)
    assert 0 < len(prepared) < items
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_less_memory_than_before(engine, complete, device, tmp_path, monkeypatch, caplog) -> None:
    file = tmp_path / "t.visits.jsonl"
    interrupt(device, file, 300)
    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: 100_000)
    with caplog.at_level(logging.WARNING, "genets"):
        small = build(file)
    assert "the memory has changed" in caplog.text
    assert small.timed_ms == pytest.approx(complete.timed_ms)


def test_a_device_that_fails_keeps_the_finished_visits(engine, complete, device, tmp_path) -> None:
    file = tmp_path / "t.visits.jsonl"
    device.error, device.stop_at = RuntimeError("CUDA error: the device is lost\nmore"), 300
    with pytest.raises(TargetError) as error:
        build(file)
    assert str(error.value) == (
        "device cpu failed while the latency table was timed: CUDA error: the device is lost; "
        f"finished timings are kept in {file}"
    )
    device.stop_at = 10**9
    assert sum(line.startswith("[") for line in file.read_text().splitlines()) > 3
    assert same(build(file), complete)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: "", "it is damaged"),
        (lambda text: "\0" * 100 + "\n", "it is damaged"),
        (lambda text: "[]\n{}\n", "it has another version, target"),
        (lambda text: "3\n{}\n", "it is damaged"),
        (lambda text: text.replace('"version": 3', '"version": 9'), "it has another version"),
        (lambda text: text.replace('"digest": "', '"digest": "0'), "it has other items"),
        (lambda text: text + "[0, NaN, 0.1]\n", "it is damaged"),
        (lambda text: text + "[99999, 0.1, 0.1]\n", "it is damaged"),
        (lambda text: text + "[0, Infinity, 0.1]\n", "it is damaged"),
        (lambda text: text + "[0, 0.1, NaN]\n", "it is damaged"),
        (lambda text: text + "[0, 0.1, 1e999]\n", "it is damaged"),
        (lambda text: text + f"[0, 1{'0' * 400}, 0.1]\n", "it is damaged"),
        (lambda text: text + "[0, -0.1, 0.1]\n", "it is damaged"),
        (lambda text: text + "[0.5, 0.1, 0.1]\n", "it is damaged"),
        (lambda text: text + "[true, 0.1, 0.1]\n", "it is damaged"),
        (lambda text: text + '[0, "0.1", 0.1]\n', "it is damaged"),
        (lambda text: text.replace('{"part": ', '{"part": 1.5'), "it is damaged"),
        (lambda text: re.sub('"part": [0-9]+', '"part": 0', text), "it is damaged"),
        *[
            (lambda text, line=line: text + f'{{"readings": {line}}}\n', "it is damaged")
            for line in ("3", '{"watched_s": NaN}', '{"watched_s": -1.0}', '{"gpu": [7]}')
        ],
        *[
            (
                partial(re.sub, '"piece_batch_size": [0-9]+', f'"piece_batch_size": {size}'),
                "it has other items",
            )
            for size in ("0", "-1", "true", "1e3", "99999", "NaN")
        ],
        (lambda text: text.replace('"torch": "', '"torch": "0'), "it has another torch"),
    ],
)
def test_a_file_that_does_not_fit_is_ignored(
    engine, complete, device, tmp_path, caplog, edit, reason
) -> None:
    file = tmp_path / "t.visits.jsonl"
    interrupt(device, file, 300)
    file.write_text(edit(file.read_text()))
    with caplog.at_level(logging.WARNING, "genets"):
        assert same(build(file), complete)
    assert [record.getMessage() for record in caplog.records if reason in record.getMessage()]


@pytest.mark.parametrize("more", [{"seed": 1}, {"batch_size": 8}])
def test_a_file_of_other_settings_is_ignored(
    engine, complete, device, tmp_path, caplog, more
) -> None:
    file = tmp_path / "t.visits.jsonl"
    interrupt(device, file, 400, **more)
    with caplog.at_level(logging.WARNING, "genets"):
        assert same(build(file), complete)
    assert "is ignored: it has another" in caplog.text


def test_a_line_that_a_kill_has_cut_off_is_left_out(engine, complete, device, tmp_path) -> None:
    file = tmp_path / "t.visits.jsonl"
    interrupt(device, file, 300)
    file.write_text(file.read_text()[:-7])
    interrupt(device, file, 100)
    assert same(build(file), complete)


def test_visits_in_another_order_are_made_again(engine, complete, device, tmp_path, caplog) -> None:
    file = tmp_path / "t.visits.jsonl"
    interrupt(device, file, 300)
    head, rest = file.read_text().splitlines()[:3], file.read_text().splitlines()[3:]
    file.write_text("\n".join([*head, *reversed(rest)]) + "\n")
    with caplog.at_level(logging.WARNING, "genets"):
        assert same(build(file), complete)
    assert "some recorded visits do not fit" in caplog.text


def test_a_folder_that_cannot_be_written_costs_no_table(engine, complete, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING, "genets"):
        assert same(build(tmp_path / "missing" / "t.visits.jsonl"), complete)
    assert "the visits are not kept" in caplog.text


def test_the_laboratory_continues_and_removes_the_file(engine, complete, device, tmp_path) -> None:
    path = tmp_path / "t.json"
    expected = TableSettings(SPACE.around(MASTER), Target("cpu", "fake", batch_size=4), 5)

    def prepare() -> LatencyTable:
        return Laboratory().prepare_table(path, expected, seed=0, time_limit_s=0.5)

    device.stop_at = 300
    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert [file.name for file in tmp_path.iterdir()] == ["t.visits.jsonl"]
    assert layout.list_tables(tmp_path) == []
    device.stop_at = 10**9
    assert prepare().space == complete.space
    assert [file.name for file in tmp_path.iterdir()] == ["t.json"]


def test_a_file_that_cannot_be_removed_costs_no_table(
    engine, complete, tmp_path, caplog, monkeypatch
) -> None:
    path = tmp_path / "t.json"
    expected = TableSettings(SPACE.around(MASTER), Target("cpu", "fake", batch_size=4), 5)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with caplog.at_level(logging.WARNING, "genets"):
        table = Laboratory().prepare_table(path, expected, seed=0, time_limit_s=0.5)
    assert path.exists()
    assert table.space == complete.space
    assert "t.visits.jsonl stays, because it cannot be removed" in caplog.text


def slowed(table: LatencyTable, times: float) -> LatencyTable:
    """A table whose held-out networks took so many times as long."""
    networks = [
        replace(each, ms_per_batch=times * each.ms_per_batch) if each.use == "held-out" else each
        for each in table.networks
    ]
    return replace(table, networks=tuple(networks))


class BusyLaboratory(Laboratory):
    """Its device becomes calm, or does not; `asked` counts how often that was asked."""

    def __init__(self, *, becomes_calm: bool) -> None:
        self.becomes_calm, self.asked = becomes_calm, 0

    def wait_for_calm(self, *words: object) -> bool:
        self.asked += 1
        return self.becomes_calm


@pytest.mark.parametrize(
    ("builds", "becomes_calm", "kept"),
    [
        ([1.0], True, 1.0),
        ([1.5, 1.0], True, 1.0),
        ([1.5, 2.0], True, 1.5),
        ([2.0, 1.5], True, 1.5),
        ([1.5], False, 1.5),
        ([1.5, TargetError("the device failed")], True, 1.5),
        ([1.5, KeyboardInterrupt()], True, 1.5),
    ],
)
def test_a_table_with_a_large_error_is_built_once_more(
    engine, complete, tmp_path, monkeypatch, builds, becomes_calm, kept
) -> None:
    """The better table stays. builds: the times on held-out networks, or the error, of each."""
    path, left, visits = tmp_path / "t.json", list(builds), []

    def build(*words: object, **options: object) -> LatencyTable:
        visits.append(options["visits"])
        times = left.pop(0)
        if isinstance(times, BaseException):
            raise times
        return slowed(complete, times)

    monkeypatch.setattr(LatencyTable, "build", build)
    expected = TableSettings(SPACE.around(MASTER), Target("cpu", "fake", batch_size=4), 5)
    lab = BusyLaboratory(becomes_calm=becomes_calm)
    is_interrupted = isinstance(builds[-1], KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) if is_interrupted else nullcontext():
        table = lab.prepare_table(path, expected, seed=0, time_limit_s=0.5)
        assert same(table, slowed(complete, kept))
    assert same(LatencyTable.load(path), slowed(complete, kept))
    assert left == []
    assert lab.asked == (builds[0] > 1)
    # The visits of the first table would give the same table again.
    assert visits == [layout.visits_path(path), None][: len(builds)]
    assert [file.name for file in tmp_path.iterdir()] == ["t.json"]


def test_a_table_of_pytorch_continues(tmp_path, monkeypatch) -> None:
    """Times differ, but the visits of the first process stay, and the others follow them."""
    file, shares = tmp_path / "t.visits.jsonl", []
    target = Target("cpu", "torch", batch_size=1, threads=1)

    def stop(share: float) -> None:
        shares.append(share)
        if file.exists() and file.read_text().count("[") > 5:
            raise KeyboardInterrupt

    def build_here(on_progress: Callable[[float], None] | None) -> LatencyTable:
        return LatencyTable.build(
            MASTER, SPACE, target, 5, time_limit_s=0.01, held_out=3, visits=file,
            on_progress=on_progress,
        )  # fmt: skip

    monkeypatch.setattr(visits, "FLUSH_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        build_here(stop)
    first = file.read_text().splitlines()
    table = build_here(None)
    assert file.read_text().splitlines()[: len(first)] == first
    assert len(file.read_text().splitlines()) > 2 * len(first)
    assert table.rmspe < 2


def test_visits_reach_the_file_every_two_seconds(tmp_path, monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr(visits.time, "monotonic", lambda: now)
    file = VisitFile(tmp_path / "v.jsonl", {}, {})
    file.begin({})
    file.begin_part(3)
    counts = []
    for seconds in (0.0, 1.0, 3.0, 3.5):
        now = 100.0 + seconds
        file.add(Visit(0, 1.0, 1.0))
        counts.append(sum(line.startswith("[") for line in file.path.read_text().splitlines()))
    file.close()
    assert counts == [1, 1, 3, 3]


WARM = GpuReading(1980, 3201, 412.0, frozenset({"power cap"}))
HOT = GpuReading(1500, None, 300.5, frozenset({"power cap", "hardware thermal slowdown"}))
IDLE = GpuReading(345, 405, None, None)


def test_readings_outlive_a_process_that_is_killed(tmp_path, monkeypatch) -> None:
    """Each visit is flushed here, and what the killed process does later is undone."""
    monkeypatch.setattr(visits, "FLUSH_S", 0.0)
    path = tmp_path / "v.jsonl"
    hot, warm = Readings(2.0, 1.0, (HOT, HOT), 1), Readings(6.0, 1.0, (WARM,), 0)
    killed = VisitFile(path, {}, {}, lambda: hot)
    killed.begin({})
    killed.begin_part(3)
    killed.add(Visit(0, 1.0, 1.0))
    kept = path.read_bytes()
    killed.close()
    path.write_bytes(kept)
    file = VisitFile(path, {}, {}, lambda: warm)
    file.begin({})
    assert file.next_part().visits == [Visit(0, 1.0, 1.0)]
    file.begin_part(3)
    file.add(Visit(1, 1.0, 1.0))
    file.end_part()
    assert file.readings() == Readings(8.0, 2.0, (HOT, HOT, WARM), 1)
    facts = file.readings().facts(None)
    assert facts["other_cpus"] == pytest.approx(2.0 / 8.0)
    assert facts["clock_limits"] == {"power cap": 1.0, "hardware thermal slowdown": 0.667}
    assert facts["other_gpu_processes"] == 1
    file.close()


def test_readings_without_a_visit_do_not_count(tmp_path) -> None:
    """A process may end after the last visit and before the mark; then the card is idle."""
    path = tmp_path / "v.jsonl"
    file = VisitFile(path, {}, {}, lambda: Readings(gpu=(HOT,)))
    file.begin({})
    file.begin_part(1)
    file.add(Visit(0, 1.0, 1.0))
    file.close()
    again = VisitFile(path, {}, {}, lambda: Readings(gpu=(IDLE,)))
    again.begin({})
    again.begin_part(1)
    again.add_readings()
    again.end_part()
    again.close()
    assert again.readings() == Readings(gpu=(HOT,))


def test_a_file_of_an_older_version_has_no_readings(engine, complete, device, tmp_path) -> None:
    file = tmp_path / "t.visits.jsonl"
    device.activity = FakeActivity(device, cores=64, others=2.0)
    interrupt(device, file, 300)
    lines = file.read_text().splitlines(keepends=True)
    old = [line for line in lines if '"readings"' not in line]
    assert len(old) < len(lines)
    file.write_text("".join(old))
    device.activity.others = 1.0
    continued = build(file)
    assert same(continued, complete)
    assert continued.environment["other_cpus"] == pytest.approx(1.0)


def test_the_load_of_a_resumed_table_is_that_of_all_its_timings(engine, device, tmp_path) -> None:
    device.activity = FakeActivity(device, cores=64, others=2.0)
    finished, interrupted = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert build(finished).environment["other_cpus"] == pytest.approx(2.0)
    device.windows.clear()
    interrupt(device, interrupted, 300)
    device.activity.others = 0.0
    assert build(finished).environment["other_cpus"] == pytest.approx(2.0), "nothing is timed again"
    assert 0.2 < build(interrupted).environment["other_cpus"] < 1.8


def test_recorded_visits_must_be_those_of_the_generator(device) -> None:
    import numpy as np

    runs = {name: device.runner(name, 1e-3) for name in "ab"}
    wrong = [Visit(0, 1e-3, 0.1), Visit(0, 1e-3, 0.1)]
    with pytest.raises(RecordError):
        time_in_rounds(
            device, runs, rng=np.random.default_rng(0), time_limit_s=1.0,
            on_progress=lambda share: None, recorded=wrong,
        )  # fmt: skip


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {folders!r}
import pytest
import test_interrupted_table as lab
from genets.latency import ENGINES
from genets.latency.predictor import visits
from genets.latency.target import ENGINE_PROVIDERS

class Killing(lab.FakeDevice):
    def time_runs(self, run, count):
        if len(self.windows) >= 300:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().time_runs(run, count)

visits.FLUSH_S = 0.0
ENGINE_PROVIDERS["fake"] = ()
ENGINES["fake"] = lab.FakeEngine(Killing(), lab.partial(lab.layer_costs_s, **lab.PRICES))
lab.build(Path({file!r}))
"""


def test_a_process_that_is_killed(engine, complete, device, tmp_path) -> None:
    file = tmp_path / "t.visits.jsonl"
    folders = [str(folder) for folder in Path(__file__).parents[:2]]
    script = KILLED.format(folders=folders, file=str(file))
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert json.loads(file.read_text().splitlines()[0])["version"] == visits.VERSION
    assert file.read_text().count("[") > 20
    assert same(build(file), complete)
