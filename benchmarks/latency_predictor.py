"""Predicted against measured latency of 20 random whole networks that no fit has seen.

    python benchmarks/latency_predictor.py [--runs 1] [--seed 0]

Measures 20 random structures of the default space in turn with the MasterNet, builds a latency
table for that space, and measures them again. Predictions are held against the second measuring,
as they are and at the pace of the machine then: a search measures the MasterNet in turn with every
candidate and corrects the table by it. What the first measuring says of the second, at the same
pace, is the noise floor. Writes benchmarks/results/latency_predictor.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from genets.files import write_atomic
from genets.latency import LatencyTable, Target, measure_interleaved
from genets.latency.probes import build_live
from genets.latency.statistics import rmspe
from genets.structure import DesignSpace, Structure, zoo

MASTER = zoo["master_small"]
CLASSES = 10
NETWORKS = 20
RESULT = Path(__file__).parent / "results" / "latency_predictor.json"


def run(seed: int, target: Target, table_seconds: float) -> dict[str, Any]:
    """One table and one set of networks."""
    master = MASTER
    space = DesignSpace(resolutions=()).around(master)
    rng = np.random.default_rng(1_000_000 + seed)
    structures = [space.sample(rng) for _ in range(NETWORKS)]
    before, master_before, _ = measured(structures, target)
    start = time.perf_counter()
    table = LatencyTable.build(
        master, space, target, CLASSES, seed=seed, time_limit_s=table_seconds
    )
    seconds = time.perf_counter() - start
    assert not {network.structure for network in table.networks} & set(structures)
    actual, master_now, noisy = measured(structures, target)
    predicted = np.array([table.predict_ms_per_image(s) for s in structures])
    pace = master_now / table.master_ms_per_image
    return {
        "seed": seed,
        "build_seconds": seconds,
        "rmspe": rmspe(predicted, actual),
        "rmspe_at_pace": rmspe(predicted * pace, actual),
        "largest_error_at_pace": float(np.abs(predicted * pace / actual - 1).max()),
        "pace": pace,
        "rmspe_of_measuring_twice": rmspe(before, actual),
        "rmspe_of_measuring_twice_at_pace": rmspe(before * master_now / master_before, actual),
        "held_out_rmspe_of_table": table.rmspe,
        "noisy": noisy,
        "networks": [
            {"structure": str(s), "predicted_ms_per_image": p, "measured_ms_per_image": a}
            for s, p, a in zip(structures, predicted.tolist(), actual.tolist(), strict=True)
        ],
        "timed_pieces": len(table.timed_ms),
        "calibration": table.to_json()["calibration"],
        "environment": dict(table.environment),
    }


def measured(structures: list[Structure], target: Target) -> tuple[np.ndarray, float, int]:
    """ms per image of each and of the MasterNet, fresh networks; and how many were noisy."""
    names = {str(s): build_live(s, CLASSES) for s in (MASTER, *structures)}
    found = measure_interleaved(names, target, MASTER.resolution, min_samples=25, time_limit_s=1.5)
    ms = np.array([found[str(s)].ms_per_image for s in structures])
    return ms, found[str(MASTER)].ms_per_image, sum(m.noisy for m in found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table-seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    target = Target().resolved()
    runs = []
    for seed in range(options.seed, options.seed + options.runs):
        runs.append(run(seed, target, options.table_seconds))
        shown = {k: v for k, v in runs[-1].items() if isinstance(v, int | float)}
        print(json.dumps(shown))
    figures = {
        "master": str(MASTER),
        "target": target.to_json(),
        "rmspe_mean": float(np.mean([r["rmspe"] for r in runs])),
        "rmspe_at_pace_mean": float(np.mean([r["rmspe_at_pace"] for r in runs])),
        "rmspe_at_pace_largest": max(r["rmspe_at_pace"] for r in runs),
        "build_seconds_mean": float(np.mean([r["build_seconds"] for r in runs])),
        "runs": runs,
    }
    write_atomic(options.out, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
