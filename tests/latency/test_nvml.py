"""What a measurement reads of a GPU, with a driver that the tests play."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fake_device import FakeDevice
from genets.latency import ENGINES, LatencyTable, Target, measure
from genets.latency.engines import Prepared, nvml
from genets.latency.engines.nvml import GpuReading, NvmlCounters, open_gpu
from genets.latency.predictor import builder, visits
from genets.latency.timing.calm import wait_until_calm
from genets.latency.timing.gpu_watch import GpuWatch, watch_gpu
from genets.report.tables import measurement_table
from genets.structure import Block, DesignSpace, Structure

OWN, OTHER = os.getpid(), os.getpid() + 1
CARD, SLICE = "card", "slice"
UUID = "3f8a9c1e-0000-0000-0000-000000000001"


class NVMLError(Exception):
    def __init__(self, text: str, value: int = 3) -> None:
        super().__init__(text)
        self.value = value


class FakeNvml(ModuleType):
    """The functions of `pynvml` that genets calls; a value of None is refused."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.handles = {f"GPU-{UUID}": CARD}
        self.clocks: dict[int, int | None] = {1: 1980, 2: 3201}
        self.milliwatts: int | None = 412_000
        self.bits: int | None = 0
        self.holders: list[int] | None = [OWN]
        self.uses: list[tuple[int, int, int]] | None = []  # process, time stamp, percent
        self.gpu_percent: int | None = 0
        self.no_driver = False

    def nvmlInit(self) -> None:  # noqa: N802
        if self.no_driver:
            raise NVMLError("Driver Not Loaded")

    def _given(self, value: Any) -> Any:
        if value is None:
            raise NVMLError("Not Supported")
        return value

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return self._given(self.handles.get(uuid))

    def nvmlDeviceIsMigDeviceHandle(self, handle: str) -> bool:  # noqa: N802
        return handle == SLICE

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        assert handle == SLICE
        return CARD

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        assert handle == CARD
        return self._given(self.clocks[kind])

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return self._given(self.milliwatts)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802
        return self._given(self.bits)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self._given(self.holders)]

    def nvmlDeviceGetProcessUtilization(self, handle: str, since: int) -> list[Any]:  # noqa: N802
        assert handle == CARD
        newer = [use for use in self._given(self.uses) if use[1] > since]
        if not newer:
            raise NVMLError("Not Found", 6)
        return [SimpleNamespace(pid=p, timeStamp=t, smUtil=percent) for p, t, percent in newer]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._given(self.gpu_percent))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    properties = SimpleNamespace(uuid=UUID, name="Abacus 9", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    driver = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


@pytest.fixture
def gpu_engine(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine `torch` for a CUDA device whose runs take 1 ms and 30 ms of real time."""

    class Engine:
        packages = ()

        @contextmanager
        def open(self, target):
            yield device

        def prepare(self, network, target, resolution, calibration=None):
            return Prepared(device.runner("network", 1e-3), lambda x: x, (1, 3, 8, 8))

    monkeypatch.setitem(ENGINES, "torch", Engine())


def counters(driver: FakeNvml) -> NvmlCounters:
    opened = open_gpu("cuda", driver)
    assert isinstance(opened, NvmlCounters)
    return opened


def test_a_gpu_is_found_by_its_uuid_and_not_by_its_number(driver: FakeNvml) -> None:
    driver.handles["GPU-another"] = "another card"
    assert counters(driver).read() == GpuReading(1980, 3201, 412.0, frozenset())


def test_a_slice_of_a_card_reads_the_clocks_of_its_card(driver: FakeNvml) -> None:
    driver.handles = {f"MIG-{UUID}": SLICE}
    slice_ = counters(driver)
    assert slice_.is_slice
    assert slice_.read().sm_mhz == 1980
    driver.holders = [OWN, OTHER]  # of the slice
    assert slice_.other_processes() == 1
    assert slice_.utilization() is None


def test_a_measurement_on_a_slice_says_so(driver, device, gpu_engine) -> None:
    driver.handles, driver.milliwatts = {f"MIG-{UUID}": SLICE}, None
    result = measure(nn.Identity(), Target("cuda", "torch", batch_size=1), 8, min_samples=6)
    assert result.environment["mig"]
    assert result.environment["power_w"] is None
    words = [
        str(cell) for column in measurement_table("net", result).columns for cell in column.cells
    ]
    assert "1980 MHz, memory 3201 MHz, on a slice of the card (MIG)" in words


def test_values_that_the_driver_refuses_are_none(driver: FakeNvml) -> None:
    gpu = counters(driver)
    driver.clocks = {1: None, 2: None}
    driver.milliwatts = driver.bits = driver.gpu_percent = driver.holders = driver.uses = None
    assert gpu.read() == GpuReading(None, None, None, None)
    assert gpu.utilization() is None
    assert gpu.other_processes() is None
    assert GpuWatch(gpu).facts() == {
        "clock_mhz": None,
        "memory_clock_mhz": None,
        "power_w": None,
        "clock_limits": None,
        "other_gpu_processes": None,
        "mig": False,
    }


@pytest.mark.parametrize(
    ("holders", "uses", "others"),
    [
        ([OWN], [(OWN, 20, 90)], 0),
        ([OWN, OTHER], [(OWN, 20, 90), (OTHER, 20, 30)], 1),
        ([OWN, OTHER], [(OTHER, 20, 30)], 1),  # launching keeps this process below one percent
        ([OWN, OTHER], [(OWN, 20, 90), (OTHER, 20, 0)], 0),  # an idle notebook
        ([OWN], [(OWN, 20, 90), (OTHER, 20, 5)], 0),  # a program that draws the screen
        ([OWN, OTHER], [(OTHER, 9, 30), (OWN, 20, 90)], 0),  # ended before the measurement
        ([OWN, OTHER], None, 1),  # a card that does not report the use of each process
        ([71, 72], [(71, 20, 90), (72, 20, 30)], 1),  # in a container
        ([71], [(71, 20, 90)], 0),
        ([OWN, OTHER], [], 0),  # too short for the driver to take a sample
        ([], None, 0),
    ],
)
def test_only_processes_that_computed_meanwhile_count(driver, holders, uses, others) -> None:
    gpu = counters(driver)
    driver.uses = [(OWN, 10, 50)]
    gpu.begin()
    driver.holders, driver.uses = holders, uses
    assert gpu.other_processes() == others


@pytest.mark.parametrize(
    ("bits", "limits", "cause"),
    [
        (0x001, {}, None),  # idle
        (0x002, {"application clocks": 1.0}, None),
        (0x004, {"power cap": 1.0}, None),
        (0x008, {"hardware slowdown": 1.0}, "heat or the power supply"),
        (0x048, {"hardware slowdown": 1.0, "hardware thermal slowdown": 1.0}, "heat"),
        (0x060, {"hardware thermal slowdown": 1.0, "software thermal slowdown": 1.0}, "heat"),
        (0x084, {"power brake": 1.0, "power cap": 1.0}, "the power supply"),
        (
            0x0C8,
            {"hardware slowdown": 1.0, "hardware thermal slowdown": 1.0, "power brake": 1.0},
            "heat and the power supply",
        ),
    ],
)
def test_heat_and_power_supply_disturb_but_a_limit_of_the_card_does_not(
    driver, device, gpu_engine, bits, limits, cause
) -> None:
    driver.bits, disturbed = bits, cause is not None
    result = measure(nn.Identity(), Target("cuda", "torch", batch_size=1), 8, min_samples=6)
    assert result.environment["clock_limits"] == limits
    assert result.disturbed is disturbed
    assert result.disturbances == ((f"{cause} slowed the GPU",) if disturbed else ())
    assert result.environment["clock_mhz"] == 1980


def test_another_process_disturbs_a_measurement(driver, device, gpu_engine) -> None:
    driver.holders, driver.uses = [OWN, OTHER], None
    result = measure(nn.Identity(), Target("cuda", "torch", batch_size=1), 8, min_samples=6)
    assert result.disturbed
    assert result.disturbances == ("1 other process computed on the GPU",)
    table = measurement_table("net", result)
    words = [str(cell) for column in table.columns for cell in column.cells]
    assert "1980 MHz, memory 3201 MHz, 412 W, 1 other processes" in words


def test_clocks_are_read_while_the_block_runs(driver: FakeNvml) -> None:
    gpu, enough, before = counters(driver), threading.Event(), threading.active_count()
    read, number = gpu.read, itertools.count()

    def read_next() -> GpuReading:
        started = next(number)  # the first reading is of an idle card
        driver.clocks[1] = 1980 if started else 345
        if started > 3:
            enough.set()
        return read()

    gpu.read = read_next  # type: ignore[method-assign]
    with watch_gpu(gpu, interval_s=1e-3) as watch:
        assert enough.wait(10)
    assert watch.facts()["clock_mhz"] == 1980
    assert threading.active_count() == before


def test_several_blocks_belong_to_one_watch(driver: FakeNvml) -> None:
    watch = GpuWatch(counters(driver))
    driver.holders, driver.uses = [OWN, OTHER], None
    with watch.reading():
        pass
    driver.clocks[1] = 345
    driver.holders = [OWN]
    between = len(watch.readings)
    with watch.reading():
        driver.clocks[1] = 1980
    assert [each.sm_mhz for each in watch.readings] == [1980] * 2
    assert between == 1
    assert watch.other_processes == 1, "the other process disturbed a part of the timings"


@pytest.mark.parametrize("free", [10**9, 400_000])
def test_the_clocks_of_a_table_are_those_of_its_timings(
    driver, device, fake_engine, layer_costs, monkeypatch, free
) -> None:
    """Networks are prepared while the GPU waits. With little memory there are several parts."""
    timed = 0

    def cost_s(network: nn.Module, target: Target, resolution: int) -> float:
        driver.clocks[1], driver.bits = 345, 0x008
        return layer_costs(
            network, target, resolution, dense=1e-7, depth_wise=3e-7, layer=1e-4, written=3e-8
        )

    def time_runs(run: Any, count: int) -> float:
        nonlocal timed
        timed += driver.clocks[1] == 345
        driver.clocks[1], driver.bits = 1980, 0
        return FakeDevice.time_runs(device, run, count)

    fake_engine(cost_s)
    device.time_runs = time_runs
    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: free)
    read: list[GpuReading] = []
    monkeypatch.setattr(
        NvmlCounters, "read", lambda self, read_now=NvmlCounters.read: read.append(
            read_now(self)) or read[-1])  # fmt: skip
    master = Structure.parse("Conv3x8s2 XX3x8s2 XX3x16 Conv1x16 @8")
    space = DesignSpace(blocks=(Block("XX"),), width_step=8, depth_change=1, resolutions=())
    table = LatencyTable.build(
        master, space, Target("cuda", "fake", batch_size=4), 5, time_limit_s=0.5, held_out=3
    )
    assert {each.sm_mhz for each in read} == {1980}
    assert (timed > 3) is (free < 10**6), "the parts"
    assert table.environment["clock_mhz"] == 1980
    assert table.environment["clock_limits"] == {}


@pytest.mark.parametrize("end", ["killed in a part", "stopped in a part", "after the last part"])
def test_the_conditions_of_a_resumed_table_are_those_of_all_its_timings(
    driver, device, fake_engine, layer_costs, monkeypatch, tmp_path, end
) -> None:
    """The card was hot and shared while the first process timed a part of the items."""
    file, kept, stop_at = tmp_path / "t.visits.jsonl", "", 10**9
    fake_engine(partial(layer_costs, dense=1e-7, depth_wise=3e-7, layer=1e-4, written=3e-8))

    def time_runs(run: Any, count: int) -> float:
        nonlocal kept
        if len(device.windows) == stop_at:
            kept, device.pending_s = file.read_text(), 0.0
            raise KeyboardInterrupt
        return FakeDevice.time_runs(device, run, count)

    def build() -> LatencyTable:
        master = Structure.parse("Conv3x8s2 XX3x8s2 XX3x16 Conv1x16 @8")
        space = DesignSpace(blocks=(Block("XX"),), width_step=8, depth_change=1, resolutions=())
        return LatencyTable.build(
            master, space, Target("cuda", "fake", batch_size=4), 5, time_limit_s=0.5, held_out=3,
            visits=file,
        )  # fmt: skip

    monkeypatch.setattr(builder, "max_prepared_bytes", lambda target: 400_000)
    monkeypatch.setattr(visits, "FLUSH_S", 0.0)
    build()
    windows = len(device.windows)
    assert file.read_text().count('"end"') > 2
    file.unlink()
    device.windows.clear()
    device.time_runs = time_runs
    driver.clocks[1], driver.bits, driver.holders, driver.uses = 1000, 0x040, [OWN, OTHER], None
    if end == "after the last part":
        build()
    else:
        stop_at = windows // 2
        with pytest.raises(KeyboardInterrupt):
            build()
        if end == "killed in a part":
            file.write_text(kept)
    stop_at = 10**9
    driver.clocks[1], driver.bits, driver.holders, driver.uses = 1980, 0, [OWN], []
    resumed = build().environment
    assert resumed["other_gpu_processes"] == 1
    hot_share = resumed["clock_limits"]["hardware thermal slowdown"]
    if end == "after the last part":
        assert (resumed["clock_mhz"], resumed["power_w"], hot_share) == (1000, 412.0, 1.0)
    else:
        assert 0 < hot_share < 1


def test_a_slowdown_in_few_readings_does_not_disturb(driver: FakeNvml) -> None:
    watch = GpuWatch(counters(driver))
    fine = GpuReading(1980, 3201, 412.0, frozenset())
    hot = GpuReading(1500, 3201, 412.0, frozenset({"hardware thermal slowdown"}))
    watch.readings = [hot, *[fine] * 10]
    assert watch.disturbances() == []
    watch.readings = [hot, *[fine] * 8]
    assert watch.disturbances() == ["heat slowed the GPU"]


def test_without_the_package_one_sentence_is_said_once(driver, monkeypatch) -> None:
    nvml._warn_once.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.warns(UserWarning, match=r"genets: pip install '\.\[gpu\]'"):
        assert open_gpu("cuda") is None
    assert open_gpu("cuda") is None  # a second warning would be an error
    with watch_gpu(None) as watch:
        pass
    assert watch.facts() == {}
    assert watch.disturbances() == []


def test_a_driver_that_gives_no_access_leaves_the_clocks_out(driver: FakeNvml) -> None:
    driver.no_driver = True
    assert open_gpu("cuda") is None
    driver.no_driver, driver.handles = False, {}
    assert open_gpu("cuda") is None


@pytest.mark.parametrize(("percents", "calm", "checks"), [([0], True, 1), ([80, 60, 3], True, 3),
                                                          ([80] * 9, False, 5)])  # fmt: skip
def test_a_busy_gpu_is_waited_for(driver, percents, calm, checks) -> None:
    slept: list[float] = []
    used = iter(percents)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        driver.gpu_percent = next(used)

    target = Target("cuda", "torch")
    assert wait_until_calm(target, 5, gpu=counters(driver), sleep=sleep) is calm
    assert len(slept) == checks
