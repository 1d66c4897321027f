"""Predicted against measured latency of 30 random networks that are held out of every fit.

    python benchmarks/latency_predictor.py [--engine torch] [--precision fp32] [--runs 1] [--seed 0]
    python benchmarks/latency_predictor.py --master genet_normal --networks 20 --table-only

For each named engine and precision on this machine, the benchmark builds a latency table for the
default design space around a MasterNet, with 30 networks held out of every fit. Unless --table-only
is given, it then measures these 30 networks as `genets measure` does, in turn with the MasterNet.
Predictions are compared with two timings: the timing during the construction of the table, and the
later one. The later comparison is made twice: with the plain prediction, and with the prediction
times the slowdown of the MasterNet since then (a search measures the MasterNet in turn with every
candidate and corrects the table in this way). The difference between the two timings, corrected for
the slowdown, is the noise floor. Writes benchmarks/results/latency_predictor.json; results of other
targets, MasterNets and seeds stay in the file.

The table of an engine that prepares networks slowly, such as torch-compile, is made from that of a
faster engine, as in a search. Then the 30 networks are in no table; they are measured twice, and
`rmspe_of_one_factor` is the error of the faster engine's table times one factor. With --all-timed,
all pieces are timed on the slow engine itself.
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
from genets.latency import ENGINES, LatencyTable, Target, measure_interleaved
from genets.latency.predictor.probes import build_for_timing
from genets.latency.timing.statistics import rmspe
from genets.structure import DesignSpace, Structure, zoo

MASTER = "master_small"
CLASSES = {"master_small": 10}  # number of classes by MasterNet; 1000 for all others
NETWORKS = 30
RESULT = RESULTS / "latency_predictor.json"


def build_table(
    seed: int,
    target: Target,
    master: Structure,
    classes: int,
    table_seconds: float,
    networks: int,
    source: LatencyTable | None,
) -> tuple[dict[str, Any], LatencyTable]:
    """Build one table, and compare it with the networks that were timed with it."""
    start = time.perf_counter()
    table = LatencyTable.build(
        master,
        DesignSpace(resolutions=()),
        target,
        classes,
        seed=seed,
        time_limit_s=table_seconds,
        held_out=networks,
        source=source,
    )
    seconds = time.perf_counter() - start
    held_out = [n.structure for n in table.networks if n.use == "held-out"]
    return {
        "seed": seed,
        "seconds": {"all": seconds, **table.seconds},
        "source": table.source_name,
        **({"source_seconds": sum(source.seconds.values())} if source else {}),
        "rmspe": table.rmspe,
        "timed_pieces": len(table.timed_ms),
        "calibration": table.to_json()["calibration"],
        "networks": [
            {"structure": str(s), "predicted": p, "timed_beside_pieces": b}
            for s, (p, b) in zip(held_out, table.held_out_ms_per_image, strict=True)
        ],
        "environment": dict(table.environment),
    }, table


def measure_later(table: LatencyTable, target: Target) -> dict[str, Any]:
    """Measure the held-out networks once more, and compare the table with that."""
    structures = [n.structure for n in table.networks if n.use == "held-out"]
    predicted, earlier = np.array(table.held_out_ms_per_image).T
    later, master_later, noisy = measure(table, structures, target)
    slowdown = master_later / table.master_ms_per_image
    return {
        "rmspe_later": rmspe(predicted, later),
        "rmspe_later_at_pace": rmspe(predicted * slowdown, later),
        "largest_error_later_at_pace": float(np.abs(predicted * slowdown / later - 1).max()),
        "pace": slowdown,
        "rmspe_of_timing_twice": rmspe(earlier, later),
        "rmspe_of_timing_twice_at_pace": rmspe(earlier * slowdown, later),
        "noisy": noisy,
        "measured_later": later.tolist(),
    }


def measure_unseen(
    table: LatencyTable, source: LatencyTable, target: Target, seed: int
) -> dict[str, Any]:
    """Measure networks that are in no table twice, and compare the table with the means."""
    rng, known = np.random.default_rng(seed), {n.structure for n in table.networks}
    drawn = dict.fromkeys(table.space.sample(rng) for _ in range(10 * NETWORKS))
    structures = [structure for structure in drawn if structure not in known][:NETWORKS]
    (first, master_first, noisy), (second, master_second, _) = (
        measure(table, structures, target) for _ in range(2)
    )
    measured = (first + second) / 2
    pace = (master_first + master_second) / 2 / table.master_ms_per_image
    predicted = np.array([table.predict_ms_per_image(s) for s in structures])
    of_source = np.array([source.predict_ms_per_image(s) for s in structures])
    return {
        "rmspe_later": rmspe(predicted, measured),
        "rmspe_later_at_pace": rmspe(predicted * pace, measured),
        "rmspe_of_one_factor": rmspe(of_source * np.median(measured / of_source), measured),
        "pace": pace,
        "rmspe_of_timing_twice_at_pace": rmspe(first * master_second / master_first, second),
        "noisy": noisy,
        "unseen": [str(structure) for structure in structures],
        "measured_later": measured.tolist(),
    }


def measure(
    table: LatencyTable, structures: list[Structure], target: Target
) -> tuple[np.ndarray, float, int]:
    """ms per image of newly built structures and of the MasterNet, and how many were noisy."""
    master = table.space.master
    names = {str(s): build_for_timing(s, table.num_classes) for s in (master, *structures)}
    pixels = master.resolution
    measured = measure_interleaved(names, target, pixels, min_samples=25, time_limit_s=1.5)
    ms = np.array([measured[str(s)].ms_per_image for s in structures])
    return ms, measured[str(master)].ms_per_image, sum(m.noisy for m in measured.values())


def store(path: Path, name: str, target: Target, master: Structure, run: dict[str, Any]) -> None:
    """Write this run into the file; it replaces the run of the same seed."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    targets = record.get("targets", {})
    old = [r for r in targets.get(name, {}).get("runs", []) if r["seed"] != run["seed"]]
    runs = sorted([*old, run], key=lambda r: r["seed"])
    names = ("rmspe", "rmspe_later", "rmspe_later_at_pace", "rmspe_of_timing_twice_at_pace")
    means = {n: float(np.mean([r[n] for r in runs])) for n in names if all(n in r for r in runs)}
    targets[name] = {
        **{f"{name}_mean": mean for name, mean in means.items()},
        "seconds_mean": float(np.mean([r["seconds"]["all"] for r in runs])),
        **PROVENANCE,
        "target": target.to_json(),
        "master": str(master),
        "runs": runs,
    }
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps({"targets": targets}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, help="of the target [all physical cores]")
    parser.add_argument("--master", default=MASTER, help="name of a structure in the zoo")
    parser.add_argument("--resolution", type=int, help="instead of the MasterNet's resolution")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="networks held out of fits")
    parser.add_argument("--all-timed", action="store_true", help="no table of a faster engine")
    parser.add_argument("--table-only", action="store_true", help="skip the later measurement")
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
        target = Target(
            engine=engine,
            precision=precision,
            batch_size=options.batch_size,
            threads=options.threads,
        ).resolved()
        try:
            target.check()
        except TargetError as error:
            print(error)
            continue
        for seed in range(options.seed, options.seed + options.runs):
            fast = None if options.all_timed else ENGINES[target.engine].table_source(target)
            sizes = master, classes, options.table_seconds, options.networks
            source = None if fast is None else build_table(seed, fast, *sizes, None)[1]
            figures, table = build_table(seed, target, *sizes, source)
            if not options.table_only:
                figures |= (
                    measure_later(table, target)
                    if source is None
                    else measure_unseen(table, source, target, seed)
                )
            own = options.master == MASTER and not options.resolution
            name = target.name if own else f"{target.name}, {options.master}@{master.resolution}"
            if options.all_timed and ENGINES[target.engine].table_source(target):
                name += ", all timed"
            store(options.out, name, target, master, figures)
            shown = {k: v for k, v in figures.items() if isinstance(v, int | float)}
            print(json.dumps({"target": name, **shown, **figures["seconds"]}), flush=True)


if __name__ == "__main__":
    main()
