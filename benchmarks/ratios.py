"""How precise is the ratio of a network's latency to that of the MasterNet, and does it repeat?

    python benchmarks/ratios.py [--times 10] [--threads 1 2]

Five random structures of the space of the demo are measured in turn with the MasterNet, again and
again, as in a search: until the ratios are precise, in at most 2.5 s for each network.

- `seconds` for the six networks.
- `half_width_of_ratio`: mean half-width of the 95 % interval of the ratio of paired samples.
- `half_width_of_both`: the same, combined from the separate intervals of both latencies.
- `spread_of_ratio`: standard deviation of the ratio over the repeated measurements, relative, mean
  of the networks. `spread_of_medians`: the same of the ratio of both medians.

Writes benchmarks/results/ratios.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from conditions import write_result
from genets.latency import Measurement, Target, measure_interleaved
from genets.latency.predictor.probes import build_for_timing
from genets.nas.selection.network_latency import narrow_share
from genets.structure import DesignSpace, zoo

NETWORKS, LIMIT_S, CLASSES = 5, 2.5, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    figures = {f"{threads} threads": repeat(threads, options.times) for threads in options.threads}
    write_result("ratios", {"times": options.times, **figures})


def repeat(threads: int, times: int) -> dict[str, float]:
    """Measure all networks several times."""
    master, rng = zoo["master_small"].with_resolution(16), np.random.default_rng(0)
    space = DesignSpace().around(master)
    structures = [master, *(space.sample(rng) for _ in range(NETWORKS))]
    nets = {str(structure): build_for_timing(structure, CLASSES) for structure in structures}
    target, runs = Target(threads=threads), list[dict[str, Any]]()
    for _ in range(times):
        start_s = time.monotonic()
        measured = measure_interleaved(
            nets, target, master.resolution, reference=str(master),
            calm_share=narrow_share(target), time_limit_s=LIMIT_S,
        )  # fmt: skip
        runs.append(describe([*measured.values()], time.monotonic() - start_s))
    return summary(runs)


def describe(measured: list[Measurement], seconds: float) -> dict[str, Any]:
    """The figures of one measurement. measured: The MasterNet first."""
    master, *networks = measured
    low = master.low_ms_per_image / master.ms_per_image
    ratios = [m.ratio for m in networks if m.ratio is not None]
    return {
        "seconds": seconds,
        "samples": len(master.samples_ms),
        "ratios": [ratio.median for ratio in ratios],
        "of_medians": [m.ms_per_image / master.ms_per_image for m in networks],
        "half": float(np.mean([ratio.high / ratio.median - 1 for ratio in ratios])),
        "both": float(np.mean([m.high_ms_per_image / m.ms_per_image / low - 1 for m in networks])),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in runs]))

    def spread(name: str) -> float:
        values = np.array([run[name] for run in runs])
        return float(np.mean(values.std(axis=0, ddof=1) / values.mean(axis=0)))

    return {
        "seconds": mean("seconds"),
        "samples": mean("samples"),
        "half_width_of_ratio": mean("half"),
        "half_width_of_both": mean("both"),
        "spread_of_ratio": spread("ratios"),
        "spread_of_medians": spread("of_medians"),
    }


if __name__ == "__main__":
    main()
