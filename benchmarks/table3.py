"""Table 3 on this device: the speed-up of GENets over networks of equal accuracy.

    python benchmarks/table3.py [--batch-size 1] [--time-limit 4] [--device cpu]

The targets are all engines and precisions of this machine, except torch-compile unless --engines
names it. For each target, the twelve networks of Table 3 are timed in turn in one run, each at its
own resolution. Writes benchmarks/results/table3_<device>_b<batch>.json.
"""

from __future__ import annotations

import argparse
from typing import Any

from conditions import write_result
from genets.analysis import Timing, compare, find_networks
from genets.analysis.comparison.findings import rank_correlation, speed_ups
from genets.core.errors import TargetError
from genets.latency import ENGINES, Target
from genets.networks.baselines import published_speed_ups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", nargs="*", default=["torch", "onnxruntime", "openvino"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=4.0, help="seconds for each row")
    options = parser.parse_args()
    names = list(dict.fromkeys(line.network for line in published_speed_ups()))
    candidates = find_networks(names)
    figures: dict[str, Any] = {"time_limit_s": options.time_limit, "targets": {}}
    chosen = targets(options.device, options.engines, options.batch_size)
    for target in chosen:
        comparison = compare(candidates, [target], timing=Timing(time_limit_s=options.time_limit))
        correlation = rank_correlation(comparison.rows)
        figures["targets"][target.name] = {
            "speed_ups": [
                {
                    "reference": line.reference,
                    "genet": line.genet,
                    "times": line.times,
                    "paper_times": line.paper_times,
                    "paper_table": line.paper_table,
                }
                for line in speed_ups(comparison.rows)
            ],
            "rank_correlation_with_the_paper": correlation.to_json() if correlation else None,
            "rows": [row.summary() for row in comparison.rows],
        }
        print(target.name, "done", flush=True)
        write_result(f"table3_{options.device}_b{options.batch_size}", figures, *chosen)


def targets(device: str, engines: list[str], batch_size: int) -> list[Target]:
    """Every precision of the engines that can run here."""
    available = []
    for name in engines:
        for precision in ENGINES[name].precisions:
            target = Target(device, name, precision, batch_size)
            try:
                target.check()
            except TargetError as error:
                print(f"{target.name}: {error}")
                continue
            available.append(target.resolved())
    return available


if __name__ == "__main__":
    main()
