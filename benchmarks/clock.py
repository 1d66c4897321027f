"""The clock against operations of known duration, on this machine's CPU.

    python benchmarks/clock.py

1. A busy loop of known length, which reads `perf_counter` until its time is up: does the clock
   measure this length?
2. A chain of equal convolutions: do two and four times the depth take two and four times the time?
3. The same network under two names: are the two latencies equal?

Writes benchmarks/results/clock.json.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from conditions import write_result
from genets.latency import PROTOCOLS, Target, measure_interleaved
from genets.latency.engines import ENGINES
from genets.latency.predictor.probes import build_for_timing
from genets.latency.timing.clock import sample_interleaved
from genets.latency.timing.statistics import median, median_interval
from genets.structure import zoo

LENGTHS_S = (20e-6, 1e-3, 20e-3)
DEPTHS = (4, 8, 16)
TARGET = Target(batch_size=8, threads=1)


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def known_costs() -> list[dict[str, float]]:
    """Busy loops of known lengths, timed in turn."""
    runs = {str(length): lambda length=length: busy(length) for length in LENGTHS_S}
    with ENGINES["torch"].open(TARGET) as clock:
        samples = sample_interleaved(clock, runs, PROTOCOLS["genets-1"], time_limit_s=3)
    rows = []
    for length in LENGTHS_S:
        measured = median(samples[str(length)].counted_s)
        low, high = median_interval(samples[str(length)].counted_s)
        rows.append(
            {
                "cost_s": length,
                "told_s": measured,
                "low_s": low,
                "high_s": high,
                "error": measured / length - 1,
            }
        )
    return rows


def depths() -> list[dict[str, Any]]:
    """Chains of equal convolutions, so deep that the fixed cost of a run hardly matters."""
    torch.manual_seed(0)
    chains = {
        str(depth): nn.Sequential(
            nn.Conv2d(3, 64, 1), *(nn.Conv2d(64, 64, 3, padding=1) for _ in range(depth))
        )
        for depth in DEPTHS
    }
    measured = measure_interleaved(chains, TARGET, 32, time_limit_s=6)
    ms = {depth: measured[str(depth)].ms_per_batch for depth in DEPTHS}
    # The first layer and the start of a run take time too; the slopes do not contain this time.
    slopes = [(ms[b] - ms[a]) / (b - a) for a, b in pairwise(DEPTHS)]
    return [
        {
            "depths": [a, b],
            "ms": [ms[a], ms[b]],
            "ms_per_layer": slope,
            "ratio_over_expected": ms[b] / ms[a] / (b / a),
        }
        for (a, b), slope in zip(pairwise(DEPTHS), slopes, strict=True)
    ]


def same_twice() -> dict[str, Any]:
    """One network under two names. `intervals_touch`: the 95 % intervals overlap."""
    network = build_for_timing(zoo["master_small"], 10)
    measured = measure_interleaved({"a": network, "b": network}, TARGET, 16, time_limit_s=6)
    a, b = measured["a"], measured["b"]
    return {
        "ms_per_image": [a.ms_per_image, b.ms_per_image],
        "intervals": [[m.low_ms_per_image, m.high_ms_per_image] for m in (a, b)],
        "ratio": b.ms_per_image / a.ms_per_image,
        "intervals_touch": a.low_ms_per_image <= b.high_ms_per_image
        and b.low_ms_per_image <= a.high_ms_per_image,
    }


if __name__ == "__main__":
    write_result(
        "clock",
        {"known_costs": known_costs(), "depths": depths(), "same_twice": same_twice()},
        TARGET,
    )
