"""Predicted against measured latency of 20 random whole networks that no fit has seen.

    python benchmarks/latency_predictor.py [--runs 1] [--seed 0]

Builds a latency table for the default case, then measures 20 random structures of the same
space, interleaved with the MasterNet. Writes benchmarks/results/latency_predictor.json.
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
    start = time.perf_counter()
    table = LatencyTable.build(
        master, space, target, CLASSES, seed=seed, time_limit_s=table_seconds
    )
    seconds = time.perf_counter() - start

    rng = np.random.default_rng(1_000_000 + seed)
    known = {network.structure for network in table.networks}
    structures: list[Structure] = []
    while len(structures) < NETWORKS:
        structure = space.sample(rng)
        if structure not in known:
            structures.append(structure)
            known.add(structure)
    networks = {str(s): build_live(s, CLASSES) for s in (master, *structures)}
    measured = measure_interleaved(
        networks, target, master.resolution, min_samples=25, time_limit_s=1.5
    )
    actual = np.array([measured[str(s)].ms_per_image for s in structures])
    predicted = np.array([table.predict_ms_per_image(s) for s in structures])
    # Between the two halves of a run the device may have become slower or faster as a whole.
    master_then = table.networks[-1].ms_per_batch / target.batch_size
    drift = measured[str(master)].ms_per_image / master_then
    return {
        "seed": seed,
        "build_seconds": seconds,
        "rmspe": rmspe(predicted, actual),
        "largest_error": float(np.abs(predicted / actual - 1).max()),
        "rmspe_without_drift": rmspe(predicted * drift, actual),
        "master_now_over_then": drift,
        "held_out_rmspe_of_table": table.rmspe,
        "noisy": sum(m.noisy for m in measured.values()),
        "networks": [
            {"structure": str(s), "predicted_ms_per_image": p, "measured_ms_per_image": a}
            for s, p, a in zip(structures, predicted.tolist(), actual.tolist(), strict=True)
        ],
        "timed_pieces": len(table.timed_ms),
        "calibration": table.to_json()["calibration"],
        "environment": dict(table.environment),
    }


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
        "rmspe_largest": max(r["rmspe"] for r in runs),
        "build_seconds_mean": float(np.mean([r["build_seconds"] for r in runs])),
        "runs": runs,
    }
    write_atomic(options.out, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
