"""Do the addresses of a network in memory change its latency, and does a measurement average this?

    python benchmarks/addresses.py [--times 6] [--threads 1 2] [--engine torch]

Five random structures of the space of the demo are measured in turn with the MasterNet, again and
again, in three ways that take turns:

- `prepared once`: the networks stay where they are in memory.
- `prepared anew`: they are prepared again for each measurement, as in another process.
- `moved`: they are also moved to other addresses before each sample, as genets measures; only for
  an engine that can move networks.

For each way and number of threads, all relative and means over the networks:

- `spread_of_ratio`: the standard deviation of the ratio to the MasterNet over the measurements.
- `spread_of_mean`: the same of the mean ratio of all five; it shows the part of the MasterNet.
- `half_width_of_ratio`: the half-width of the 95 % interval of the ratio in one measurement.

Writes benchmarks/results/addresses.json, or for another engine than torch addresses_<engine>.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conditions import write_result
from genets.latency import ENGINES, PROTOCOLS, Target
from genets.latency.engines import DeviceClock, Prepared
from genets.latency.predictor.probes import build_for_timing
from genets.latency.timing.clock import sample_interleaved
from genets.latency.timing.measurement import Ratio
from genets.structure import DesignSpace, zoo

NETWORKS, CLASSES, SAMPLES = 5, 10, 40
# The number of samples decides, and no interval.
PROTOCOL = replace(PROTOCOLS["genets-1"], samples=SAMPLES, runs=SAMPLES, interval_share=None)
Runs = dict[str, Prepared]
UNKNOWN = Ratio(np.nan, np.nan, np.nan)  # other programs left too few pairs of samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engine", default="torch")
    options = parser.parse_args()
    targets = [Target(engine=options.engine, threads=threads) for threads in options.threads]
    figures = {f"{each.threads} threads": repeat(each, options.times) for each in targets}
    name = "addresses" if options.engine == "torch" else f"addresses_{options.engine}"
    write_result(name, {"times": options.times, "samples": SAMPLES, **figures}, targets[-1])


def repeat(target: Target, times: int) -> dict[str, dict[str, float]]:
    """Measure all networks several times in each way."""
    target = target.resolved()
    master, rng = zoo["master_small"].with_resolution(16), np.random.default_rng(0)
    space, engine = DesignSpace().around(master), ENGINES[target.engine]
    structures = [master, *(space.sample(rng) for _ in range(NETWORKS))]
    nets = {str(structure): build_for_timing(structure, CLASSES) for structure in structures}

    def prepare(*, moves: bool) -> Runs:
        runs = {name: engine.prepare(net, target, master.resolution) for name, net in nets.items()}
        return runs if moves else {name: replace(run, move=None) for name, run in runs.items()}

    with engine.open(target) as clock:
        once = prepare(moves=False)
        ways: dict[str, Callable[[], Runs]] = {
            "prepared once": lambda: once,
            "prepared anew": lambda: prepare(moves=False),
        }
        if all(run.move for run in prepare(moves=True).values()):
            ways["moved"] = lambda: prepare(moves=True)
        ratios: dict[str, list[list[Ratio]]] = {way: [] for way in ways}
        for _ in range(times):
            for way, runs in ways.items():
                ratios[way].append(measure(clock, runs()))
    return {way: summary(each) for way, each in ratios.items()}


def measure(clock: DeviceClock, runs: Runs) -> list[Ratio]:
    """The ratio of each network to the first one."""
    first, *others = runs
    samples = sample_interleaved(clock, runs, PROTOCOL, reference=first, time_limit_s=60)
    return [Ratio.between(samples[name], samples[first]) or UNKNOWN for name in others]


def summary(measured: list[list[Ratio]]) -> dict[str, float]:
    logarithms = np.log([[ratio.median for ratio in ratios] for ratios in measured])
    halves = [(r.high - r.low) / 2 / r.median for ratios in measured for r in ratios]
    return {
        "spread_of_ratio": float(np.nanstd(logarithms, axis=0, ddof=1).mean()),
        "spread_of_mean": float(np.nanstd(logarithms.mean(axis=1), ddof=1)),
        "half_width_of_ratio": float(np.nanmean(halves)),
        "unknown_ratios": int(np.isnan(halves).sum()),
    }


if __name__ == "__main__":
    main()
