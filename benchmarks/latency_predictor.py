"""Predicted against measured latency of 30 random whole networks that no fit has seen.

    python benchmarks/latency_predictor.py [--engine torch] [--precision fp32] [--runs 1] [--seed 0]
    python benchmarks/latency_predictor.py --master genet_normal --networks 20 --table-only

For each engine and precision named that is here: builds a latency table for the default design
space around a MasterNet, 30 networks held out of every fit, and then measures these 30 as `genets
measure` does, in turn with the MasterNet; with --table-only it does not. Predictions are held
against both timings: that beside the table's pieces, and the later one, as it is and at the pace of
the machine then: a search measures the MasterNet in turn with every candidate and corrects the
table by it. What the one timing says of the other, at the same pace, is the noise floor. Writes
benchmarks/results/latency_predictor.json, in which other targets, MasterNets and seeds stay.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from conditions import PROVENANCE, RESULTS
from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.latency import LatencyTable, Target, measure_interleaved
from genets.latency.predictor.probes import build_for_timing
from genets.latency.timing.statistics import rmspe
from genets.structure import DesignSpace, Structure, zoo

MASTER = "master_small"
CLASSES = {"master_small": 10}  # of the data that a MasterNet is for; 1000 for others
NETWORKS = 30
RESULT = RESULTS / "latency_predictor.json"


def run(
    seed: int, target: Target, master: Structure, classes: int, table_seconds: float, networks: int
) -> tuple[dict[str, Any], LatencyTable]:
    """One table, and what its own networks say of it."""
    start = time.perf_counter()
    table = LatencyTable.build(
        master,
        DesignSpace(resolutions=()),
        target,
        classes,
        seed=seed,
        time_limit_s=table_seconds,
        held_out=networks,
    )
    seconds = time.perf_counter() - start
    held_out = [n.structure for n in table.networks if n.use == "held-out"]
    return {
        "seed": seed,
        "seconds": {"all": seconds, **table.seconds},
        "rmspe": table.rmspe,
        "timed_pieces": len(table.timed_ms),
        "calibration": table.to_json()["calibration"],
        "networks": [
            {"structure": str(s), "predicted": p, "timed_beside_pieces": b}
            for s, (p, b) in zip(held_out, table.held_out_ms_per_image, strict=True)
        ],
        "environment": dict(table.environment),
    }, table


def run_later(table: LatencyTable, target: Target) -> dict[str, Any]:
    """The same networks measured once more, and what that says of the table."""
    structures = [n.structure for n in table.networks if n.use == "held-out"]
    predicted, beside = np.array(table.held_out_ms_per_image).T
    later, master_later, noisy = measured(table, structures, target)
    pace = master_later / table.master_ms_per_image
    return {
        "rmspe_later": rmspe(predicted, later),
        "rmspe_later_at_pace": rmspe(predicted * pace, later),
        "largest_error_later_at_pace": float(np.abs(predicted * pace / later - 1).max()),
        "pace": pace,
        "rmspe_of_timing_twice": rmspe(beside, later),
        "rmspe_of_timing_twice_at_pace": rmspe(beside * pace, later),
        "noisy": noisy,
        "measured_later": later.tolist(),
    }


def measured(
    table: LatencyTable, structures: list[Structure], target: Target
) -> tuple[np.ndarray, float, int]:
    """ms per image of each and of the MasterNet, fresh networks; and how many were noisy."""
    master = table.space.master
    names = {str(s): build_for_timing(s, table.num_classes) for s in (master, *structures)}
    found = measure_interleaved(names, target, master.resolution, min_samples=25, time_limit_s=1.5)
    ms = np.array([found[str(s)].ms_per_image for s in structures])
    return ms, found[str(master)].ms_per_image, sum(m.noisy for m in found.values())


def keep(path: Path, name: str, target: Target, master: Structure, found: dict[str, Any]) -> None:
    """Put this run into the file, in place of that of the same seed."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    targets = record.get("targets", {})
    old = [run for run in targets.get(name, {}).get("runs", []) if run["seed"] != found["seed"]]
    kept = sorted([*old, found], key=lambda run: run["seed"])
    names = ("rmspe", "rmspe_later", "rmspe_later_at_pace", "rmspe_of_timing_twice_at_pace")
    means = {n: float(np.mean([r[n] for r in kept])) for n in names if all(n in r for r in kept)}
    targets[name] = {
        **{f"{name}_mean": mean for name, mean in means.items()},
        "seconds_mean": float(np.mean([run["seconds"]["all"] for run in kept])),
        **PROVENANCE,
        "target": target.to_json(),
        "master": str(master),
        "runs": kept,
    }
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps({"targets": targets}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--master", default=MASTER, help="a name of the zoo")
    parser.add_argument("--resolution", type=int, help="in place of the MasterNet's own")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="held out of every fit")
    parser.add_argument("--table-only", action="store_true", help="measure nothing later")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table-seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    master = zoo[options.master]
    if options.resolution:
        master = master.with_resolution(options.resolution)
    classes = CLASSES.get(options.master, 1000)
    for engine, precision in product(options.engine or ["torch"], options.precision or ["fp32"]):
        target = Target(engine=engine, precision=precision, batch_size=options.batch_size)
        target = target.resolved()
        try:
            target.check()
        except TargetError as error:
            print(error)
            continue
        for seed in range(options.seed, options.seed + options.runs):
            found, table = run(
                seed, target, master, classes, options.table_seconds, options.networks
            )
            if not options.table_only:
                found |= run_later(table, target)
            own = options.master == MASTER and not options.resolution
            name = target.name if own else f"{target.name}, {options.master}@{master.resolution}"
            keep(options.out, name, target, master, found)
            shown = {k: v for k, v in found.items() if isinstance(v, int | float)}
            print(json.dumps({"target": name, **shown, **found["seconds"]}), flush=True)


if __name__ == "__main__":
    main()
