import copy
import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from fake_device import FakeActivity
from genets.core.errors import TargetError
from genets.latency import Measurement, Target, measure, measure_interleaved
from genets.latency.engines.devices import CpuClock
from genets.latency.engines.torch_engine import cpu_has_bf16
from genets.latency.timing.clock import is_noisy
from genets.networks import build
from genets.structure import Structure

SMALL = Structure.parse("Conv3x8s2 XX3x8 DW3x16s2r3 Conv1x16 @16")


def quick(network: nn.Module, target: Target, resolution: int = 16, **more: object) -> Measurement:
    return measure(network, target, resolution, min_samples=6, time_limit_s=0.01, **more)


def test_the_callers_network_and_process_are_not_changed() -> None:
    network = build(SMALL, 5)
    network.train()
    network.stages[0].eval()
    before = copy.deepcopy(network.state_dict())
    training = [module.training for module in network.modules()]
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    quick(network, Target(batch_size=2, threads=1))
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()
    assert [module.training for module in network.modules()] == training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.is_inference_mode_enabled()


def test_a_run_is_the_folded_network_in_inference_mode_with_pinned_threads() -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not isinstance(x, torch.fx.Proxy):
                seen.append((x, torch.get_num_threads(), torch.is_inference_mode_enabled()))
            return self.conv(x)

    quick(Spy(), Target(batch_size=4, threads=1, precision="fp32"))
    inputs, threads, inference = seen[-1]
    assert inputs.shape == (4, 3, 16, 16)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert abs(float(inputs.std()) - 1) < 0.1
    assert (threads, inference) == (1, True)
    assert all(x.data_ptr() == inputs.data_ptr() for x, *_ in seen)


def test_the_resolution_is_the_one_that_the_network_states() -> None:
    target = Target(batch_size=1, threads=1)
    measured = measure(build(SMALL, 5), target, min_samples=2, time_limit_s=0.01)
    assert measured.resolution == 16
    with pytest.raises(TargetError, match="resolution must be given, because the network states"):
        measure(nn.Conv2d(3, 4, 1), target)


def test_measurement_of_a_known_device(fake_engine) -> None:
    fake_engine(lambda network, target, resolution: 4e-3 * target.batch_size)
    m = measure(nn.Identity(), Target(engine="fake", batch_size=8), 16)
    values = (m.ms_per_image, m.low_ms_per_image, m.high_ms_per_image)
    assert values == pytest.approx((4.0, 4.0, 4.0))
    assert (m.p90_ms_per_image, m.p99_ms_per_image) == pytest.approx((4.0, 4.0))
    assert m.ms_per_batch == pytest.approx(32.0)
    assert m.samples_ms == pytest.approx([32.0] * 100)
    assert not m.noisy
    assert m.seconds == {"load": 0.5}
    assert (m.quantisation, m.launch_bound, m.memory_bytes) == (None, None, None)


def test_a_network_twice_as_deep_takes_twice_as_long(fake_engine) -> None:
    fake_engine(lambda network, target, resolution: 1e-3 * len(network))
    deep = {str(n): nn.Sequential(*(nn.Identity() for _ in range(n))) for n in (1, 2, 4)}
    result = measure_interleaved(deep, Target(engine="fake", batch_size=1), 8)
    assert [m.ms_per_image for m in result.values()] == pytest.approx([1, 2, 4])


def test_few_samples_are_noisy_where_they_scatter(fake_engine, device) -> None:
    factors = iter([1.0] * 1000)
    fake_engine(lambda *_: 1.0)
    device.slowness = lambda now_s: 1.5 if int(now_s) % 2 else next(factors)
    m = measure(nn.Identity(), Target(engine="fake"), 8, time_limit_s=5)
    assert m.noisy
    assert m.low_ms_per_image < m.high_ms_per_image


def test_one_resolution_for_each_network(fake_engine) -> None:
    fake_engine(lambda network, target, resolution: 1e-3 * resolution)
    networks = {"a": nn.Identity(), "b": nn.Identity()}
    target = Target(engine="fake", batch_size=1)
    result = measure_interleaved(networks, target, {"a": 8, "b": 24})
    assert (result["a"].ms_per_image, result["b"].ms_per_image) == pytest.approx((8, 24))


def test_ratios_to_a_reference(fake_engine, device) -> None:
    fake_engine(lambda network, target, resolution: 1e-3 * len(network))
    device.slowness = lambda now_s: 1 + 0.3 * now_s  # hardly changes between samples in turn
    deep = {str(n): nn.Sequential(*(nn.Identity() for _ in range(n))) for n in (2, 3, 4)}
    target = Target(engine="fake", batch_size=1)
    result = measure_interleaved(deep, target, 8, reference="2", time_limit_s=5)
    for name, expected in (("2", 1.0), ("3", 1.5), ("4", 2.0)):
        ratio = result[name].ratio
        assert ratio is not None
        assert (ratio.median, ratio.low, ratio.high) == pytest.approx((expected,) * 3, rel=0.02)
        assert not result[name].noisy
        assert not result[name].disturbed  # although the speed of the device changed
    assert Measurement.from_json(json.loads(json.dumps(result["3"].to_json()))) == result["3"]
    without = measure_interleaved(deep, target, 8, time_limit_s=5)
    assert {m.ratio for m in without.values()} == {None}
    assert all(m.noisy for m in without.values())


@pytest.mark.parametrize(("others", "is_shorter"), [(0.0, True), (2.0, False)])
def test_on_a_calm_device_a_wider_interval_is_enough(
    fake_engine, device, others: float, *, is_shorter: bool
) -> None:
    fake_engine(lambda network, target, resolution: 1e-3 * len(network))
    device.activity = FakeActivity(device, others=others)
    nets = {str(n): nn.Sequential(*(nn.Identity() for _ in range(n))) for n in (2, 4)}
    target = Target(engine="fake", batch_size=1, threads=1)

    def measure_within(share: float | None) -> Measurement:
        noise = np.random.default_rng(0)
        device.slowness = lambda now_s: math.exp(noise.normal(0, 0.1))
        return measure_interleaved(nets, target, 8, reference="2", calm_share=share)["4"]

    usual, wide = measure_within(None), measure_within(0.05)
    assert (len(wide.samples_ms) < len(usual.samples_ms)) == is_shorter
    assert not wide.noisy
    assert wide.ratio is not None
    share = 0.05 if is_shorter else 0.01
    assert wide.ratio.high <= (1 + share) * wide.ratio.median
    few = measure_interleaved(nets, target, 8, reference="2", calm_share=0.05, time_limit_s=1e-3)[
        "4"
    ]
    assert few.noisy
    with pytest.raises(TargetError, match="unknown precise 'ratio'; did you mean ratios"):
        measure_interleaved(nets, target, 8, precise="ratio")  # type: ignore[arg-type]


@pytest.mark.parametrize("precise", ["latencies", "both"])
def test_latencies_must_be_precise_beside_a_ratio(fake_engine, device, precise: str) -> None:
    fake_engine(lambda network, target, resolution: 1e-3 * len(network))
    device.slowness = lambda now_s: 1 + 0.3 * now_s
    nets = {str(n): nn.Sequential(*(nn.Identity() for _ in range(n))) for n in (2, 4)}
    target = Target(engine="fake", batch_size=1)
    result = measure_interleaved(nets, target, 8, reference="2", precise=precise)
    assert result["4"].noisy
    assert result["4"].ratio is not None
    assert result["4"].ratio.median == pytest.approx(2.0, rel=0.02)


def test_the_reference_alone_is_measured_as_without_a_reference(fake_engine, device) -> None:
    fake_engine(lambda *_: 1e-3)
    device.slowness = lambda now_s: 1 + 3 * now_s
    nets, target = {"a": nn.Identity()}, Target(engine="fake", batch_size=1)
    result = measure_interleaved(nets, target, 8, reference="a", time_limit_s=2.0)["a"]
    assert result.noisy
    assert result.ratio is None


def test_an_unknown_reference(fake_engine) -> None:
    fake_engine(lambda *_: 1e-3)
    nets, target = {"net": nn.Identity(), "other": nn.Identity()}, Target(engine="fake")
    with pytest.raises(TargetError, match="unknown reference 'nets'; did you mean net"):
        measure_interleaved(nets, target, 8, reference="nets")


def test_without_its_reference_a_network_is_measured_as_if_none_was_asked_for(
    fake_engine, device
) -> None:
    def cost_s(network: nn.Module, *_: object) -> float:
        if isinstance(network, nn.ReLU):
            raise TargetError("it cannot be prepared")
        return 1e-3

    fake_engine(cost_s)
    device.slowness = lambda now_s: 1 + 0.3 * now_s
    nets = {"a": nn.ReLU(), "b": nn.Identity(), "c": nn.Identity()}
    target, errors = Target(engine="fake", batch_size=1), dict[str, str]()
    result = measure_interleaved(
        nets, target, 8, reference="a", time_limit_s=2.0,
        on_error=lambda name, error: errors.update({name: str(error)}),
    )  # fmt: skip
    assert errors == {"a": "it cannot be prepared"}
    assert {name: (m.ratio, m.noisy) for name, m in result.items()} == {
        "b": (None, True), "c": (None, True),
    }  # fmt: skip
    with pytest.raises(TargetError, match="it cannot be prepared"):
        measure_interleaved(nets, target, 8, reference="a")


def test_too_few_pairs_give_no_ratio(fake_engine) -> None:
    fake_engine(lambda *_: 1.0)
    nets = {"a": nn.Identity(), "b": nn.Identity()}
    target = Target(engine="fake", batch_size=1)
    result = measure_interleaved(nets, target, 8, reference="a", min_samples=3, time_limit_s=0.1)
    assert {m.ratio for m in result.values()} == {None}
    assert all(m.noisy for m in result.values())


def test_json_round_trip() -> None:
    m = quick(build(SMALL, 5), Target(batch_size=2))
    assert Measurement.from_json(json.loads(json.dumps(m.to_json()))) == m
    assert m.environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert m.environment["threads"] == m.target.threads
    assert "device_name" in m.environment
    assert re.match(r"[\d.e-]+ ms/image \[", str(m))
    with pytest.raises(TargetError, match="field of a measurement ms_per_image must be given"):
        Measurement.from_json({"target": {}})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions_on_a_cpu(precision: str) -> None:
    network, target = build(SMALL, 5), Target(batch_size=2, precision=precision)
    if precision == "bf16" and not cpu_has_bf16():
        with pytest.raises(TargetError, match="bf16 is not supported by this CPU; use fp32"):
            quick(network, target)
    else:
        assert quick(network, target).ms_per_image > 0


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        (3, "resolution must be at least 4, the product of the network's strides, not 3"),
        (0, "resolution must be an integer above 0, not 0"),
        (-1, "resolution must be an integer above 0, not -1"),
        (16.0, "resolution must be an integer above 0, not 16.0"),
    ],
)
def test_wrong_resolution(resolution: int, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        quick(build(SMALL, 5), Target(batch_size=1), resolution)


def test_a_network_that_cannot_run() -> None:
    with pytest.raises(TargetError, match="the network does not run on cpu-torch-fp32-b1-t"):
        quick(nn.Sequential(nn.Conv2d(3, 4, 7)), Target(batch_size=1), 4)


def test_a_device_without_memory() -> None:
    class Large(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(TargetError, match="does not fit into the memory of cpu; use a smaller"):
        quick(Large(3, 4, 1), Target(batch_size=1))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"min_samples": 0}, "min_samples must be an integer above 0, not 0"),
        ({"time_limit_s": 0}, "time_limit_s must be above 0 and finite, not 0"),
        ({"time_limit_s": float("nan")}, "time_limit_s must be above 0 and finite, not nan"),
        ({"time_limit_s": float("inf")}, "time_limit_s must be above 0 and finite, not inf"),
        ({"protocol": "papr"}, "unknown protocol 'papr'; did you mean paper?"),
    ],
)
def test_wrong_limits(more: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=re.escape(message)):
        measure(nn.Conv2d(3, 4, 1), Target(batch_size=1), 8, **more)  # type: ignore[arg-type]


def test_the_cpu_clock_counts_runs() -> None:
    calls = []
    assert CpuClock().time_runs(lambda: calls.append(1), 5) > 0
    assert len(calls) == 5


def test_too_few_samples_for_an_interval_are_noisy():
    assert is_noisy(np.full(5, 1.0), 0.01)
    assert not is_noisy(np.full(6, 1.0), 0.01)
