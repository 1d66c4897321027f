"""A device of known cost that counts launches and checks that the host waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from genets.latency import Target
from genets.latency.engines import Prepared
from genets.latency.engines.activity import MachineCounters, ProcessCounters
from genets.latency.engines.memory import Footprint


class FakeDevice:
    """Runs are queued and take no host time; only `time_runs` waits and returns the time."""

    min_window_s = 1e-3

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pending_s = 0.0
        self.launches: list[str] = []
        self.windows: list[tuple[str, int]] = []
        self.enqueue_cost_s: float | None = None
        self.slowness: Callable[[float], float] = lambda now_s: 1.0
        self.activity: FakeActivity | None = None

    def runner(self, name: str, cost_s: float) -> Callable[[], None]:
        def run() -> None:
            self.launches.append(name)
            self.pending_s += cost_s * self.slowness(self.now_s + self.pending_s)

        return run

    def time_runs(self, run: Callable[[], object], count: int) -> float:
        assert self.pending_s == 0, "a window started before the previous window ended"
        for _ in range(count):
            run()
        seconds, self.pending_s = self.pending_s, 0.0
        self.now_s += seconds
        self.windows.append((self.launches[-1], count))
        return seconds

    def enqueue_s(self, run: Callable[[], object]) -> float | None:
        """None, as on a CPU, or the seconds that a test sets for launching a run."""
        return self.enqueue_cost_s


class FakeActivity:
    """Counters of a machine on which others use `others` CPUs.

    delay_s: the seconds that threads have waited for a CPU; a test adds to them.
    """

    def __init__(self, device: FakeDevice, *, cores: int = 2, others: float = 0.0) -> None:
        self.device, self.cores, self.others = device, cores, others
        self.cpu_s, self.switches = 0.0, 0
        self.delay_s: float | None = 0.0

    def process(self) -> ProcessCounters:
        return ProcessCounters(self.cpu_s, self.switches, self.delay_s)

    def machine(self) -> MachineCounters | None:
        wall_s = self.device.now_s
        return MachineCounters(wall_s, self.cpu_s, self.cpu_s + self.others * wall_s)


class FakeEngine:
    """An engine in which a run takes `cost_s(network, target, resolution)` seconds."""

    precisions = ("fp32",)
    packages = ()

    def __init__(self, device: FakeDevice, cost_s: Callable[..., float]) -> None:
        self.device, self.cost_s = device, cost_s
        self.is_open = False

    def table_source(self, target: Target) -> Target | None:
        return None

    def check(self, target: Target) -> None:
        pass

    def place(self, target: Target) -> str:
        return "cpu"

    def footprint(self, target: Target) -> Footprint:
        return Footprint(weight_bytes=8, value_bytes=4)

    @contextmanager
    def open(self, target: Target) -> Iterator[FakeDevice]:
        self.is_open = True
        yield self.device
        self.is_open = False

    def prepare(
        self,
        network: nn.Module,
        target: Target,
        resolution: int,
        calibration: Any = None,
        *,
        latency_only: bool = False,
    ) -> Prepared:
        assert self.is_open
        cost_s = self.cost_s(network, target, resolution)
        run = self.device.runner(getattr(network, "label", "network"), cost_s)
        shape = (target.batch_size, 3, resolution, resolution)
        return Prepared(run, lambda images: images.mean((2, 3)), shape, {"load": 0.5})


# Seconds of a run of one image, by network, and by its resolution and prices.
_image_costs_s: WeakKeyDictionary[nn.Module, dict[Any, float]] = WeakKeyDictionary()


def layer_costs_s(network: nn.Module, target: Target, resolution: int, **kinds: float) -> float:
    """Seconds of one run: the cost of each convolution by its own counts, plus the rest.

    This oracle is independent of the package: it reads the tensors of a forward pass.
    """
    costs_s = _image_costs_s.setdefault(network, {})
    key = (resolution, *sorted(kinds.items()))
    if key not in costs_s:
        costs_s[key] = _image_cost_s(network, resolution, kinds)
    return costs_s[key] * target.batch_size


def _image_cost_s(network: nn.Module, resolution: int, kinds: Mapping[str, float]) -> float:
    total = 0.0

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            area = output.shape[-2] * output.shape[-1]
            window = module.kernel_size[0] ** 2
            per_channel = area * window * output.shape[1]
            if module.groups > 1:
                total += kinds["depth_wise"] * per_channel
            else:
                total += kinds["dense"] * per_channel * module.in_channels
            total += kinds["layer"]
            total += kinds["written"] * output[0].numel()
        elif isinstance(module, nn.Linear):
            total += kinds["layer"]

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    convolution = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    network = network.eval()
    with torch.no_grad():
        network(torch.zeros(1, convolution.in_channels, resolution, resolution))
    for hook in hooks:
        hook.remove()
    return total
