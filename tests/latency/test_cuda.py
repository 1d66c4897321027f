"""CUDA without a GPU: a queue that runs while the host does other work."""

import ast
import gc
import weakref
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import genets.latency
from genets.latency import ENGINES, Target, measure
from genets.latency.engines import Prepared
from genets.latency.engines import devices as cuda
from genets.latency.engines.base import Stopwatch
from genets.latency.engines.devices import CudaClock, CudaHostClock
from genets.latency.engines.torch_engine import TorchEngine
from genets.latency.engines.torch_graph import TorchGraphEngine


class FakeGpu:
    """Host and device each have a clock. Launching takes host time, running takes device time."""

    def __init__(self) -> None:
        self.host_s = 0.0
        self.done_s = 0.0  # when the device will have finished its queue

    def launch(self, host_s: float, device_s: float) -> None:
        self.host_s += host_s
        self.done_s = max(self.done_s, self.host_s) + device_s

    def synchronize(self, device: object = None) -> None:
        self.host_s = max(self.host_s, self.done_s)

    def event(self, enable_timing: bool) -> "FakeEvent":
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu, self.waited = gpu, False

    def record(self) -> None:
        self.reached_s = max(self.gpu.done_s, self.gpu.host_s)

    def synchronize(self) -> None:
        self.gpu.host_s = max(self.gpu.host_s, self.reached_s)
        self.waited = True

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert end.waited, "an event was read before the device had reached it"
        return (end.reached_s - self.reached_s) * 1e3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    gpu = FakeGpu()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "synchronize", gpu.synchronize)
    monkeypatch.setattr(cuda.time, "perf_counter", lambda: gpu.host_s)
    return gpu


@pytest.mark.parametrize("clock", [CudaClock(), CudaHostClock()])
@pytest.mark.parametrize("count", [1, 10])
def test_the_device_is_timed_and_not_the_launches(gpu, clock, count) -> None:
    gpu.launch(0.0, 5.0)  # earlier work is waited for and not counted
    seconds = clock.time_runs(lambda: gpu.launch(1e-3, 1.0), count)
    assert seconds == pytest.approx(count, rel=2e-3)
    assert gpu.host_s == gpu.done_s


@pytest.mark.parametrize("clock", [CudaClock(), CudaHostClock()])
def test_launching_is_timed_on_an_idle_device(gpu, clock) -> None:
    gpu.launch(0.0, 5.0)
    assert clock.enqueue_s(lambda: gpu.launch(0.25, 1.0)) == pytest.approx(0.25)
    assert gpu.host_s == gpu.done_s


@pytest.mark.parametrize(("launch_s", "bound"), [(0.7e-3, False), (0.9e-3, True), (3e-3, True)])
def test_a_launch_bound_network_is_flagged(gpu, monkeypatch, launch_s, bound) -> None:
    class Engine:
        packages = ()

        @contextmanager
        def open(self, target):
            yield CudaClock()

        def prepare(self, network, target, resolution, calibration=None):
            run = lambda: gpu.launch(launch_s, 1e-3)  # noqa: E731
            return Prepared(run, lambda x: x, (1, 3, 8, 8), memory_bytes=2**20)

    monkeypatch.setitem(ENGINES, "torch-graph", Engine())
    card = SimpleNamespace(name="Abacus 9", major=8, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    result = measure(nn.Identity(), Target("cuda", batch_size=1), 8, min_samples=6)
    assert result.launch_bound is bound
    assert result.launch_share == pytest.approx(launch_s / max(launch_s, 1e-3), rel=0.1)
    assert result.memory_bytes == 2**20
    assert result.ms_per_image == pytest.approx(1e3 * max(launch_s, 1e-3), rel=0.1)


def test_a_cpu_is_never_launch_bound(fake_engine, device) -> None:
    fake_engine(lambda *_: 1e-3)
    target = Target(engine="fake", batch_size=1)
    assert measure(nn.Identity(), target, 8, min_samples=6).launch_bound is None
    device.enqueue_cost_s = 0.9e-3
    assert measure(nn.Identity(), target, 8, min_samples=6).launch_bound


def test_steps_of_the_preparation_wait_for_the_device(gpu) -> None:
    waiting = cuda.make_wait("cuda")
    gpu.launch(0.0, 2.0)
    waiting()
    assert gpu.host_s == 2.0
    gpu.launch(0.0, 2.0)
    cuda.make_wait("cpu")()
    assert gpu.host_s == 2.0


class FakeAllocator:
    """Stands for the statistics of PyTorch's allocator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allocated: int) -> None:
        self.allocated = self.peak = allocated
        for name, fake in (
            ("memory_allocated", lambda device=None: self.allocated),
            ("max_memory_allocated", lambda device=None: self.peak),
            ("reset_peak_memory_stats", self.reset),
            ("synchronize", lambda device=None: None),
        ):
            monkeypatch.setattr(torch.cuda, name, fake)

    def reset(self, device: object = None) -> None:
        self.peak = self.allocated

    def use(self, workspace: int, kept: int = 0) -> None:
        self.peak = max(self.peak, self.allocated + workspace + kept)
        self.allocated += kept


def test_memory_is_that_of_a_run_and_not_that_of_its_preparation(monkeypatch) -> None:
    allocator = FakeAllocator(monkeypatch, allocated=1000)
    allocator.use(10**6)  # of an earlier network
    with cuda.watch_memory("cuda:1") as memory:
        allocator.use(9000, kept=500)  # weights, and the search for algorithms
        cuda.forget_peak("cuda:1")
        allocator.use(3500)
    assert memory.bytes == 4000
    with cuda.watch_memory("cpu") as memory:
        cuda.forget_peak("cpu")
    assert memory.bytes is None


def test_memory_of_a_graph_is_that_of_its_capture(monkeypatch) -> None:
    graphs = FakeGraphs(monkeypatch)
    allocator = FakeAllocator(monkeypatch, allocated=1000)

    def step(images: torch.Tensor) -> torch.Tensor:
        allocator.use(3500 if "begin" in graphs.log else 10**6)
        return images

    with cuda.watch_memory("cuda") as memory:
        allocator.use(0, kept=500)
        cuda.capture_graph(step, torch.zeros(1), cuda.GraphMemory())
    assert memory.bytes == 4000


def test_engine_torch_forgets_the_search_for_algorithms(monkeypatch) -> None:
    """The first run searches, and the next one does not."""
    allocator, runs = FakeAllocator(monkeypatch, allocated=1000), []

    class Inputs(SimpleNamespace):
        device, is_cuda = torch.device("cuda"), True

    def network(images: object) -> object:
        allocator.use(3500 if runs else 10**6)
        runs.append(images)
        return images

    with cuda.watch_memory("cuda") as memory:
        allocator.use(0, kept=500)
        TorchEngine().start(network, Inputs(), Stopwatch(lambda: None))
    assert memory.bytes == 4000
    assert len(runs) == 2


class FakeGraphs:
    """Stands for the CUDA graphs of PyTorch; the log has what was done, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_bytes: int = 2**30) -> None:
        self.log: list[str] = []
        self.pools: list[object] = []
        self.error: RuntimeError | None = None
        log, pools = self.log, self.pools

        class Stream:
            def wait_stream(self, other: object) -> None:
                log.append("wait")

        class Graph:
            def capture_begin(self, pool: object) -> None:
                log.append("begin")
                pools.append(pool)

            def capture_end(self) -> None:
                log.append("end")

            def replay(self) -> None:
                log.append("replay")

        for name, fake in (
            ("Stream", Stream),
            ("current_stream", Stream),
            ("stream", lambda _: nullcontext()),
            ("CUDAGraph", Graph),
            ("synchronize", lambda: log.append("synchronise")),
            ("reset_peak_memory_stats", lambda: None),
            ("graph_pool_handle", object),
            ("memory_reserved", lambda: 3 * 2**20),
            ("memory_allocated", lambda: 2**20),
            ("mem_get_info", lambda: (free_bytes, 2**30)),
            ("empty_cache", lambda: log.append("empty")),
        ):
            monkeypatch.setattr(torch.cuda, name, fake)

    def step(self, images: torch.Tensor) -> torch.Tensor:
        self.log.append("step")
        if self.error and "begin" in self.log:
            raise self.error
        return images + 1


def test_a_graph_is_captured_after_a_warm_up_on_a_side_stream(monkeypatch) -> None:
    graphs = FakeGraphs(monkeypatch)
    run, output = cuda.capture_graph(graphs.step, torch.zeros(1), cuda.GraphMemory())
    run()
    assert graphs.log == [
        "wait", *["step"] * 3, "synchronise", "begin", "step", "end", "wait", "replay",
    ]  # fmt: skip
    assert output.item() == 1


def test_graphs_share_one_memory_and_the_first_one_is_kept(monkeypatch) -> None:
    """PyTorch refuses a pool whose graphs have all been deleted."""
    graphs, memory = FakeGraphs(monkeypatch), cuda.GraphMemory()
    for _ in range(3):
        cuda.capture_graph(graphs.step, torch.zeros(1), memory)
        first = memory.first
    assert graphs.pools == [memory.pool] * 3
    assert memory.first is first is not None


def test_cached_memory_is_returned_where_the_graph_needs_it(monkeypatch) -> None:
    graphs = FakeGraphs(monkeypatch, free_bytes=2**20)
    cuda.capture_graph(graphs.step, torch.zeros(1), cuda.GraphMemory())
    assert graphs.log.index("empty") == graphs.log.index("begin") - 1


def test_a_capture_that_fails_is_ended_and_keeps_its_error(monkeypatch) -> None:
    graphs = FakeGraphs(monkeypatch)
    graphs.error = RuntimeError("operation not permitted when stream is capturing")
    memory = cuda.GraphMemory()
    used = memory.pool
    with pytest.raises(RuntimeError, match="not permitted"):
        cuda.capture_graph(graphs.step, torch.zeros(1), memory)
    assert graphs.log[-1] == "end"
    assert gc.isenabled()
    assert memory.pool is not used, "a capture that failed leaves its pool unusable"


@pytest.mark.parametrize("held", ["run", "predict"])
def test_a_graph_holds_its_weights(monkeypatch, held) -> None:
    """A graph holds the addresses of the weights alone."""
    graphs = FakeGraphs(monkeypatch)
    engine, network = TorchGraphEngine(), nn.Linear(3, 3)
    engine._memory, alive = cuda.GraphMemory(), weakref.ref(network)
    run, predict = engine.start(network, torch.zeros(1, 3), Stopwatch(lambda: None))
    kept = {"run": run, "predict": predict}[held]
    del network, run, predict
    gc.collect()
    assert alive() is not None, kept
    del kept
    gc.collect()
    assert alive() is None, graphs.log


@pytest.mark.parametrize("latency_only", [True, False])
def test_the_output_of_a_graph_is_kept_for_predictions_alone(monkeypatch, latency_only) -> None:
    """An output that is kept pins its block of the memory that all graphs share."""
    FakeGraphs(monkeypatch)
    outputs: list[weakref.ref[torch.Tensor]] = []

    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            output = images + 1
            outputs.append(weakref.ref(output))
            return output

    engine, images = TorchGraphEngine(), torch.full((1, 3), 2.0)
    engine._memory = cuda.GraphMemory()
    held = engine.start(
        Network(), torch.zeros(1, 3), Stopwatch(lambda: None), latency_only=latency_only
    )
    assert len(outputs) == 5, "the first run, three to warm up, and the capture"
    assert [output() is None for output in outputs] == [True] * 4 + [latency_only]
    if latency_only:
        assert torch.equal(held[1](images), images + 1)


def test_items_of_a_table_share_inputs_of_one_shape(monkeypatch) -> None:
    FakeGraphs(monkeypatch)
    engine, target = TorchGraphEngine(), Target("cuda", precision="fp16")
    monkeypatch.setattr(TorchGraphEngine, "place", lambda self, target: "cpu")
    engine._memory = cuda.GraphMemory()
    first = engine.make_inputs((2, 3, 4, 4), target, latency_only=True)
    assert first.dtype == torch.float16
    assert engine.make_inputs((2, 3, 4, 4), target, latency_only=True) is first
    assert engine.make_inputs((1, 3, 4, 4), target, latency_only=True) is not first
    alone = engine.make_inputs((2, 3, 4, 4), target, latency_only=False)
    assert alone is not first, "a prediction writes into its inputs"
    run, _ = engine.start(nn.Identity(), first, Stopwatch(lambda: None))
    shared = weakref.ref(first)
    del first, _
    gc.collect()
    assert shared() is not None, "the replay reads its inputs"
    del run
    gc.collect()
    assert shared() is None
    assert list(engine._memory.inputs) == []


def test_the_graph_engine_predicts_with_the_replay_and_keeps_its_inputs(monkeypatch) -> None:
    """The contract of the engine runs on a GPU only; here, a replay computes on the CPU."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 5)).eval()
    inputs, images = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    outputs = torch.empty(2, 5)

    def capture(step, inputs, memory):
        return lambda: outputs.copy_(step(inputs)), outputs

    monkeypatch.setattr("genets.latency.engines.torch_graph.capture_graph", capture)
    engine, before = TorchGraphEngine(), inputs.clone()
    engine._memory = cuda.GraphMemory.__new__(cuda.GraphMemory)
    watch = Stopwatch(lambda: None)
    with torch.inference_mode():
        run, predict = engine.start(network, inputs, watch)
        assert torch.equal(predict(images), network(images))
        run()
        assert torch.equal(outputs, network(before))
    assert set(watch.seconds) == {"first_run", "graph"}


def test_precision_and_number_of_a_device(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: False)
    assert cuda.check_device("cuda:1") == 1
    with pytest.raises(ValueError, match="precision bf16 is not supported by device 'cuda:1'"):
        TorchEngine().check(Target("cuda:1", precision="bf16"))
    TorchEngine().check(Target("cuda", precision="fp16"))


def test_clocks_are_read_in_few_places() -> None:
    """A file that reads a clock must wait for the device first; check that, then list it here."""
    folder = Path(genets.latency.__file__).parent
    readers = {
        path.relative_to(folder).as_posix()
        for path in [*folder.glob("engines/*.py"), *folder.glob("timing/*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("perf_counter", "elapsed_time", "time")
    }
    # engines/activity.py reads it beside the counters of the CPUs, and times no device.
    assert readers == {"engines/activity.py", "engines/base.py", "engines/devices.py"}
