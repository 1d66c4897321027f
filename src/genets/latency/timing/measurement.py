"""Measurement: the latency of a network on a target, with its interval and its conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from genets.core.errors import TargetError, check_type, unknown_name
from genets.core.validation import from_plain, to_plain
from genets.latency.engines import ENGINES, DeviceClock, Prepared
from genets.latency.engines.activity import SystemActivity
from genets.latency.engines.base import explain_device_faults
from genets.latency.engines.nvml import open_gpu
from genets.latency.environment import describe_environment
from genets.latency.target import Target
from genets.latency.timing.clock import (
    Precise,
    Protocol,
    Samples,
    find_protocol,
    is_noisy,
    sample_interleaved,
)
from genets.latency.timing.gpu_watch import GpuWatch, watch_gpu
from genets.latency.timing.statistics import MIN_SAMPLES, median, median_interval
from genets.latency.timing.watch import ActivityWatch, fewer_threads

if TYPE_CHECKING:
    from torch import Tensor, nn

NOISY_SHARE = 0.01
DISTURBED_SHARE = 0.1  # half-width of an interval, as a share of the median
MAX_INTERRUPTED_SHARE = 0.1  # of the samples of an undisturbed measurement
LAUNCH_BOUND_SHARE = 0.8


@dataclass(frozen=True)
class Ratio:
    """The latency of a network over that of another one, from samples that were taken in turn.

    Attributes:
        median: The median of the ratios of single samples.
        low, high: The 95 % interval of the median, from order statistics.
    """

    median: float
    low: float
    high: float

    @classmethod
    def between(cls, samples: Samples, reference: Samples) -> Ratio | None:
        """Compare samples; None where waiting for a CPU left too few pairs for an interval."""
        ratios = samples.ratios(reference)
        return cls(median(ratios), *median_interval(ratios)) if len(ratios) >= MIN_SAMPLES else None


@dataclass(frozen=True)
class Measurement:
    """The measured latency of a network: device time, with the inputs in the device's memory.

    Attributes:
        ms_per_image: The protocol's estimate; for `genets-1` the median.
        low_ms_per_image: Lower end of the median's 95 % interval, from order statistics.
        high_ms_per_image: Upper end of the same interval.
        p90_ms_per_image: 90th percentile of all samples.
        p99_ms_per_image: 99th percentile of all samples.
        samples_ms: Every sample, in ms per batch, with the time of waiting for a CPU. A sample of
            a fast network is a mean over several runs.
        noisy: Whether the 95 % interval was still too wide when the time limit passed: more than
            1 % to one side, or more than the `calm_share` of `measure_interleaved`. Where ratios
            alone had to be precise, the interval of the ratio counts.
        seconds: Seconds of each step before the first timed run: fold, export, quantise, compile,
            load, graph or first_run, as the engine has them. They are not part of the latency.
        protocol: The name of the protocol, `genets-1` or `paper`.
        target: The target, with its number of threads.
        resolution: Pixels along one side of the input.
        environment: Device, driver, versions and threads. On a CUDA device, where nvidia-ml-py can
            read them, also the median clocks and power while the networks ran.
        quantisation: How the network was quantised to int8. With `ranges_from` `noise` only the
            latency is valid, and the network itself is useless. None for other precisions.
        launch_bound: Whether launching a run took the host more than 80 % of the device time, so
            that the result depends on the host as well. None on a CPU.
        launch_share: Host time of launching a run, as a share of the device time. None on a CPU.
        memory_bytes: Peak device memory of a run of this network, with weights and inputs, but
            without its preparation; None where it is unknown.
        disturbed: Whether something else used or slowed the device: other processes used CPUs that
            the runs needed (where that is unknown: more than a tenth of the samples were
            interrupted), another process computed on the GPU, heat or the power supply slowed the
            GPU, or an end of the interval is more than 10 % away from the median.
        disturbances: Disturbances of the measurement, such as `heat slowed the GPU`. A wide
            interval is named only where nothing else is known. Empty for an undisturbed
            measurement, and for measurements of older versions.
        interrupted: The share of the samples in which a thread waited for a CPU that others used.
        undelayed: Whether the latency and its interval contain no time of waiting for a CPU. False
            if too few samples were free of it; then all samples count.
        other_cpus: How many CPUs other processes used on average during the sampling; None where
            it is unknown, as on a CUDA device.
        ratio: The ratio to the reference of `measure_interleaved`; None without a reference, and
            where it is unknown.
    """

    ms_per_image: float
    low_ms_per_image: float
    high_ms_per_image: float
    p90_ms_per_image: float
    p99_ms_per_image: float
    samples_ms: tuple[float, ...]
    noisy: bool
    seconds: dict[str, float]
    protocol: str
    target: Target
    resolution: int
    environment: dict[str, Any] = field(default_factory=dict)
    quantisation: dict[str, Any] | None = None
    launch_bound: bool | None = None
    launch_share: float | None = None
    memory_bytes: int | None = None
    disturbed: bool = False
    interrupted: float = 0.0
    undelayed: bool = True
    other_cpus: float | None = None
    disturbances: tuple[str, ...] = ()
    ratio: Ratio | None = None

    @property
    def statistic(self) -> str:
        """The name of the statistic of the samples that `ms_per_image` is, such as `median`."""
        return find_protocol(self.protocol).estimate_name

    @property
    def ms_per_batch(self) -> float:
        """The latency of a whole batch."""
        return self.ms_per_image * self.target.batch_size

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON, which `from_json` reads without loss."""
        return to_plain(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Measurement:
        """Create a measurement from the output of `to_json`.

        Raises:
            TargetError: The record is not a measurement.
        """
        return from_plain(cls, record, kind="field of a measurement", raises=TargetError)

    def __str__(self) -> str:
        words = ", noisy" * self.noisy + ", disturbed" * self.disturbed
        return (
            f"{self.ms_per_image:.4g} ms/image "
            f"[{self.low_ms_per_image:.4g}, {self.high_ms_per_image:.4g}]{words}"
        )


def measure(
    network: nn.Module,
    target: Target,
    resolution: int | None = None,
    *,
    protocol: str = "genets-1",
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    calibration: Tensor | None = None,
) -> Measurement:
    """Measure the latency of a network.

    On a CPU that is busy with something else, a target without a number of threads is measured
    again on fewer threads. The result with the lower bound is returned, and its target says on how
    many threads it was measured.

    Args:
        network: Any network; it is not changed.
        target: Device, engine, precision and batch size.
        resolution: Pixels along one side of the input. None means the size that a network of
            `genets.build`, `genets.load` or timm states.
        protocol: `genets-1` or `paper`.
        min_samples: Replaces the protocol's number of samples (30 samples with 100 runs for
            `genets-1`, 30 for `paper`).
        time_limit_s: Limit of the sampling. A result that is not yet precise is then `noisy`.
        calibration: Images of shape (N, channels, resolution, resolution) that set the ranges of
            int8. None uses normal noise, which is good enough for a latency only.

    Returns:
        The latency with its interval, samples and conditions.

    Raises:
        GenetsError: The network or the target has a wrong type.
        TargetError: This machine cannot run the target, the network cannot run on it, an argument
            is wrong, or the network states no input size and no resolution is given.
    """
    from torch import nn

    check_type("network", network, nn.Module, "a torch.nn.Module, such as from genets.build")
    check_type("target", target, Target, "a Target, such as genets.Target(device='cpu')")
    pixels = _own_resolution(network) if resolution is None else resolution

    def measure_on(chosen: Target) -> Measurement:
        return measure_interleaved(
            {"": network},
            chosen,
            pixels,
            protocol=protocol,
            min_samples=min_samples,
            time_limit_s=time_limit_s,
            calibration=None if calibration is None else {"": calibration},
        )[""]

    measured = measure_on(target)
    threads = measured.target.threads
    if not measured.disturbed or not target.is_cpu or target.threads or threads in (None, 1):
        return measured
    fewer = fewer_threads(SystemActivity().cores, measured.other_cpus, threads)
    again = measure_on(replace(target, threads=fewer))
    return min(measured, again, key=lambda each: (each.disturbed, each.high_ms_per_image))


def _own_resolution(network: nn.Module) -> int:
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    if not size:
        raise TargetError("resolution must be given, because the network states no input size")
    return int(size[-1])


def measure_interleaved(
    networks: Mapping[str, nn.Module],
    target: Target,
    resolution: int | Mapping[str, int],
    *,
    protocol: str = "genets-1",
    reference: str | None = None,
    precise: Precise = "ratios",
    calm_share: float | None = None,
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    calibration: Mapping[str, Tensor] | None = None,
    on_error: Callable[[str, TargetError], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Measurement]:
    """Measure networks that are to be compared: they are sampled in turn, A B A B, in one run.

    Args:
        networks: The networks by name; they are not changed.
        target: Device, engine, precision and batch size.
        resolution: Pixels along one side of the input, for all networks or by name.
        protocol: `genets-1` or `paper`.
        reference: The name of a network, to which each measurement then has its ratio.
        precise: The values that must be precise before the sampling ends: "ratios" to the
            reference, "latencies", or "both". Latencies of different networks can be compared only
            if latencies must be precise, because all networks are then sampled over the same time.
            Without a ratio, latencies must be precise.
        calm_share: The half-width of an interval, as a share of the median, at which a latency or a
            ratio is precise where the CPUs have room. None is that of the protocol, which also
            counts on a busy CPU, on a GPU, and where the use of the CPUs by others is unknown.
        min_samples: Replaces the protocol's number of samples.
        time_limit_s: Limit of the sampling for each network.
        calibration: Images for int8 by name; see `measure`.
        on_error: Called with each network that cannot be prepared, which is then left out. If the
            reference is left out, there are no ratios. Without `on_error` such a network raises
            its error.
        on_progress: Called with the share of the sampling that is done, 0 to 1.

    Returns:
        The measurements by name.

    Raises:
        TargetError: See `measure`; or the reference is unknown.
    """
    rule = find_protocol(protocol)
    if calm_share is not None:
        rule = replace(rule, calm_share=calm_share)
    if precise not in (choices := get_args(Precise)):
        raise TargetError(unknown_name("precise", precise, choices))
    if reference is not None and reference not in networks:
        raise TargetError(unknown_name("reference", reference, networks))
    if min_samples is not None and (not isinstance(min_samples, int) or min_samples < 1):
        raise TargetError(f"min_samples must be an integer above 0, not {min_samples!r}")
    check_time_limit(time_limit_s)
    resolutions = (
        resolution if isinstance(resolution, Mapping) else dict.fromkeys(networks, resolution)
    )
    engine = ENGINES[target.engine]
    runs: dict[str, Prepared] = {}
    with engine.open(target) as clock:
        environment = describe_environment(target)
        for name, network in networks.items():
            try:
                runs[name] = engine.prepare(
                    network, target, resolutions[name], (calibration or {}).get(name)
                )
            except TargetError as error:
                if on_error is None:
                    raise
                on_error(name, error)
        # A network that is measured alone has no ratio.
        base = reference if reference in runs and len(runs) > 1 else None
        watch = ActivityWatch(clock, target.resolved().threads)
        counters = None if target.is_cpu else open_gpu(target.device)
        explained = explain_device_faults(target, "networks were measured")
        with explained, watch_gpu(counters) as gpu:
            samples = sample_interleaved(
                clock,
                runs,
                rule,
                watch=watch,
                reference=base,
                precise=precise,
                min_samples=min_samples,
                time_limit_s=time_limit_s,
                on_progress=on_progress,
            )
        other_cpus, has_room = watch.other_cpus(), watch.has_room()
        with explain_device_faults(target, "the launch of networks was timed"):
            launch_shares = {
                name: _launch_share(clock, run, samples[name]) for name, run in runs.items()
            }
    return {
        name: _summarise(
            samples[name],
            rule,
            None if base is None else samples[base],
            ratio_decides=precise == "ratios",
            seconds=run.seconds,
            quantisation=run.quantisation,
            memory_bytes=run.memory_bytes,
            launch_share=launch_shares[name],
            protocol=protocol,
            target=target.resolved(),
            resolution=resolutions[name],
            environment=environment | gpu.facts(),
            gpu=gpu,
            has_room=has_room,
            other_cpus=other_cpus,
        )
        for name, run in runs.items()
    }


def _launch_share(clock: DeviceClock, run: Prepared, samples: Samples) -> float | None:
    enqueue_s = clock.enqueue_s(run)
    return None if enqueue_s is None else enqueue_s / median(samples.counted_s)


def _summarise(
    samples: Samples,
    rule: Protocol,
    reference: Samples | None,
    *,
    ratio_decides: bool,
    gpu: GpuWatch,
    has_room: bool | None,
    launch_share: float | None,
    **conditions: Any,
) -> Measurement:
    """Summarise the samples of a network, and name their disturbances.

    Args:
        samples: The samples of the network.
        rule: The protocol.
        reference: The samples of the network to which the ratio is given.
        ratio_decides: Whether the ratio, if there is one, had to be precise, not the latency.
        gpu: The readings of the GPU during the sampling.
        has_room: Whether other processes left the runs enough CPUs; None if unknown.
        launch_share: See `Measurement`.
        conditions: Other fields of the measurement.
    """
    batch_size = conditions["target"].batch_size
    counted, wall = samples.counted_s * 1e3 / batch_size, samples.wall_s * 1e3 / batch_size
    low, high = median_interval(counted)
    ratio = None if reference is None else Ratio.between(samples, reference)
    decisive, interval = counted, (median(counted), low, high)
    if ratio_decides and reference is not None:
        decisive, interval = samples.ratios(reference), astuple(ratio) if ratio else interval
    p90, p99 = (float(np.quantile(wall, share)) for share in (0.9, 0.99))
    disturbances = gpu.disturbances()
    if has_room is False:
        disturbances.append(f"other processes used {conditions['other_cpus']:.1f} CPUs")
    elif samples.interrupted_share > MAX_INTERRUPTED_SHARE:
        share = f"{100 * MAX_INTERRUPTED_SHARE:.0f} %"
        disturbances.append(f"the runs waited for a CPU in more than {share} of the samples")
    if not disturbances and is_wide(*interval):
        share = f"{100 * DISTURBED_SHARE:.0f} %"
        disturbances.append(f"the 95 % interval ended more than {share} away from the median")
    return Measurement(
        ms_per_image=rule.estimate(counted),
        low_ms_per_image=low,
        high_ms_per_image=high,
        p90_ms_per_image=p90,
        p99_ms_per_image=p99,
        samples_ms=tuple((samples.wall_s * 1e3).tolist()),
        noisy=is_noisy(decisive, rule.share(has_room=has_room) or NOISY_SHARE),
        launch_share=launch_share,
        launch_bound=None if launch_share is None else launch_share > LAUNCH_BOUND_SHARE,
        disturbed=bool(disturbances),
        disturbances=tuple(disturbances),
        interrupted=samples.interrupted_share,
        undelayed=samples.has_enough_undelayed,
        ratio=ratio,
        **conditions,
    )


def is_wide(middle: float, low: float, high: float) -> bool:
    """Whether an end of an interval is so far from the median that something disturbed it."""
    return high > (1 + DISTURBED_SHARE) * middle or low < (1 - DISTURBED_SHARE) * middle


def check_time_limit(time_limit_s: float) -> None:
    """Raise TargetError unless the limit is above 0 and finite."""
    if not 0 < time_limit_s < math.inf:  # without a limit, noise might never let sampling stop
        raise TargetError(f"time_limit_s must be above 0 and finite, not {time_limit_s!r}")
