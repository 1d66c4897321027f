"""Predicted against measured latency of 30 random whole networks that no fit has seen.

    python benchmarks/latency_predictor.py [--engine torch] [--precision fp32] [--runs 1] [--seed 0]

For each engine and precision named that is here: builds a latency table for the default design
space, 30 networks held out of every fit, and then measures these 30 as `genets measure` does, in
turn with the MasterNet. Predictions are held against both timings: that beside the table's pieces,
and the later one, as it is and at the pace of the machine then: a search measures the MasterNet in
turn with every candidate and corrects the table by it. What the one timing says of the other, at
the same pace, is the noise floor. Writes benchmarks/results/latency_predictor.json, in which other
targets and seeds stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from genets.errors import TargetError
from genets.files import write_atomic
from genets.latency import LatencyTable, Target, measure_interleaved
from genets.latency.probes import build_live
from genets.latency.statistics import rmspe
from genets.structure import DesignSpace, Structure, zoo

MASTER = zoo["master_small"]
CLASSES = 10
NETWORKS = 30
RESULT = Path(__file__).parent / "results" / "latency_predictor.json"


def run(seed: int, target: Target, table_seconds: float) -> dict[str, Any]:
    """One table and one set of networks."""
    start = time.perf_counter()
    table = LatencyTable.build(
        MASTER,
        DesignSpace(resolutions=()),
        target,
        CLASSES,
        seed=seed,
        time_limit_s=table_seconds,
        held_out=NETWORKS,
    )
    seconds = time.perf_counter() - start
    structures = [n.structure for n in table.networks if n.use == "held-out"]
    predicted, beside = np.array(table.held_out_ms_per_image).T
    later, master_later, noisy = measured(structures, target)
    pace = master_later / table.master_ms_per_image
    return {
        "seed": seed,
        "seconds": {"all": seconds, **table.seconds},
        "rmspe": rmspe(predicted, beside),
        "rmspe_later": rmspe(predicted, later),
        "rmspe_later_at_pace": rmspe(predicted * pace, later),
        "largest_error_later_at_pace": float(np.abs(predicted * pace / later - 1).max()),
        "pace": pace,
        "rmspe_of_timing_twice": rmspe(beside, later),
        "rmspe_of_timing_twice_at_pace": rmspe(beside * pace, later),
        "noisy": noisy,
        "timed_pieces": len(table.timed_ms),
        "calibration": table.to_json()["calibration"],
        "networks": [
            {"structure": str(s), "predicted": p, "timed_beside_pieces": b, "measured_later": a}
            for s, p, b, a in zip(
                structures, predicted.tolist(), beside.tolist(), later.tolist(), strict=True
            )
        ],
        "environment": dict(table.environment),
    }


def measured(structures: list[Structure], target: Target) -> tuple[np.ndarray, float, int]:
    """ms per image of each and of the MasterNet, fresh networks; and how many were noisy."""
    names = {str(s): build_live(s, CLASSES) for s in (MASTER, *structures)}
    found = measure_interleaved(names, target, MASTER.resolution, min_samples=25, time_limit_s=1.5)
    ms = np.array([found[str(s)].ms_per_image for s in structures])
    return ms, found[str(MASTER)].ms_per_image, sum(m.noisy for m in found.values())


def keep(path: Path, target: Target, runs: list[dict[str, Any]]) -> None:
    """Put these runs of one target into the file, in place of those of the same seeds."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    targets = record.get("targets", {})
    seeds = {run["seed"] for run in runs}
    old = [run for run in targets.get(target.name, {}).get("runs", []) if run["seed"] not in seeds]
    kept = sorted([*old, *runs], key=lambda run: run["seed"])
    names = ("rmspe", "rmspe_later", "rmspe_later_at_pace", "rmspe_of_timing_twice_at_pace")
    targets[target.name] = {
        **{f"{name}_mean": float(np.mean([run[name] for run in kept])) for name in names},
        "seconds_mean": float(np.mean([run["seconds"]["all"] for run in kept])),
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "target": target.to_json(),
        "runs": kept,
    }
    figures = {"master": str(MASTER), "networks": NETWORKS, "targets": targets}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps(figures, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table-seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    for engine, precision in product(options.engine or ["torch"], options.precision or ["fp32"]):
        target = Target(engine=engine, precision=precision, batch_size=options.batch_size)
        target = target.resolved()
        try:
            target.check()
        except TargetError as error:
            print(error)
            continue
        for seed in range(options.seed, options.seed + options.runs):
            found = run(seed, target, options.table_seconds)
            keep(options.out, target, [found])
            shown = {k: v for k, v in found.items() if isinstance(v, int | float)}
            print(json.dumps({"target": target.name, **shown, **found["seconds"]}), flush=True)


if __name__ == "__main__":
    main()
