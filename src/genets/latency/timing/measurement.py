"""Measurement: the latency of a network on a target, with its interval and its conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from genets.core.errors import TargetError
from genets.latency.engines import ENGINES, DeviceClock, Prepared
from genets.latency.environment import describe_environment
from genets.latency.target import Target
from genets.latency.timing.clock import Protocol, find_protocol, is_noisy, sample_interleaved
from genets.latency.timing.statistics import Array, median, median_interval

if TYPE_CHECKING:
    from torch import Tensor, nn

NOISY_SHARE = 0.01
LAUNCH_BOUND_SHARE = 0.8


@dataclass(frozen=True)
class Measurement:
    """Device time with inputs resident.

    ms_per_image: the protocol's estimate; the median for `genets-1`.
    low_ms_per_image, high_ms_per_image: 95 % interval of the median, from order statistics.
    p90_ms_per_image, p99_ms_per_image: percentiles of the samples.
    samples_ms: every sample, ms per batch; a short network's sample is a mean over several runs.
    noisy: the interval did not come within 1 % of the median in the time given.
    seconds: what came before the first timed run, step by step: fold, export, quantise,
        compile, load, graph, first_run, whichever the engine has. None of it is latency.
    quantisation: how the network was brought to int8; ranges taken from `noise` give a latency,
        and no network that one could use. None for other precisions.
    launch_bound: on CUDA, True if the host took over 0.8 of the device's time to hand over a
        run, so that the host was measured as much as the device; None on a CPU.
    memory_bytes: device memory of this network at its peak; None where it is not known.
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
    memory_bytes: int | None = None

    @property
    def ms_per_batch(self) -> float:
        return self.ms_per_image * self.target.batch_size

    def to_json(self) -> dict[str, Any]:
        """A record that `json.dumps` takes and `from_json` reads back without loss."""
        return {**asdict(self), "samples_ms": list(self.samples_ms)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Measurement:
        """Raises TargetError if `record` is no measurement."""
        try:
            values = dict(record)
            values["target"] = Target.from_json(values["target"])
            values["samples_ms"] = tuple(values["samples_ms"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise TargetError(f"not a measurement: {error}") from error

    def __str__(self) -> str:
        noisy = ", noisy" if self.noisy else ""
        return (
            f"{self.ms_per_image:.4g} ms/image "
            f"[{self.low_ms_per_image:.4g}, {self.high_ms_per_image:.4g}]{noisy}"
        )


def measure(
    network: nn.Module,
    target: Target,
    resolution: int,
    *,
    protocol: str = "genets-1",
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    calibration: Tensor | None = None,
) -> Measurement:
    """The latency of `network`, which is not changed. Raises TargetError.

    min_samples: in place of the protocol's own number (100 for `genets-1`, 30 for `paper`).
    time_limit_s: of sampling; when it has passed, the result may say `noisy`.
    calibration: (N, channels, resolution, resolution) images for int8; see `Engine.prepare`.
    """
    return measure_interleaved(
        {"": network},
        target,
        resolution,
        protocol=protocol,
        min_samples=min_samples,
        time_limit_s=time_limit_s,
        calibration=None if calibration is None else {"": calibration},
    )[""]


def measure_interleaved(
    networks: Mapping[str, nn.Module],
    target: Target,
    resolution: int | Mapping[str, int],
    *,
    protocol: str = "genets-1",
    min_samples: int | None = None,
    time_limit_s: float = 10.0,
    calibration: Mapping[str, Tensor] | None = None,
    on_error: Callable[[str, TargetError], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Measurement]:
    """Networks that are to be compared, sampled in turn, A B A B, in one run.

    resolution: one for all, or one for each name. time_limit_s: for each network.
    calibration: images for int8, by name; see `Engine.prepare`.
    on_error: told of each network that cannot be prepared, which is then left out.
    on_progress: told the share of the sampling that is done, 0 to 1.
    Raises TargetError; see `measure`.
    """
    rule = find_protocol(protocol)
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
        samples = sample_interleaved(
            clock,
            runs,
            rule,
            min_samples=min_samples,
            time_limit_s=time_limit_s,
            on_progress=on_progress,
        )
        bound = {name: _is_launch_bound(clock, run, samples[name]) for name, run in runs.items()}
    return {
        name: _summary(
            samples[name],
            rule,
            seconds=run.seconds,
            quantisation=run.quantisation,
            memory_bytes=run.memory_bytes,
            launch_bound=bound[name],
            protocol=protocol,
            target=target.resolved(),
            resolution=resolutions[name],
            environment=environment,
        )
        for name, run in runs.items()
    }


def _is_launch_bound(clock: DeviceClock, run: Prepared, samples_s: Array) -> bool | None:
    enqueue_s = clock.enqueue_s(run)
    return None if enqueue_s is None else enqueue_s > LAUNCH_BOUND_SHARE * median(samples_s)


def _summary(samples_s: Array, rule: Protocol, **conditions: Any) -> Measurement:
    batch_size = conditions["target"].batch_size
    per_image = samples_s * 1e3 / batch_size
    low, high = median_interval(per_image)
    p90, p99 = (float(np.quantile(per_image, share)) for share in (0.9, 0.99))
    return Measurement(
        ms_per_image=rule.estimate(per_image),
        low_ms_per_image=low,
        high_ms_per_image=high,
        p90_ms_per_image=p90,
        p99_ms_per_image=p99,
        samples_ms=tuple((samples_s * 1e3).tolist()),
        noisy=is_noisy(per_image, rule.interval_share or NOISY_SHARE),
        **conditions,
    )


def check_time_limit(time_limit_s: float) -> None:
    """Raise TargetError unless it is above 0 and finite."""
    if not 0 < time_limit_s < math.inf:  # without an end noise might never let it stop
        raise TargetError(f"time_limit_s must be above 0 and finite, not {time_limit_s!r}")
