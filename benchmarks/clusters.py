"""Workers of this machine, on Ray and on SLURM: equal results, and their overhead.

Run from the repository: python benchmarks/clusters.py [--kinds local ray slurm] [--no-searches]
Writes results/clusters.json. Ray and SLURM run on 127.0.0.1, and end with the script.

- `equal`: the search of `faults.py`, without faults, with one and with two workers of each kind.
  Trials, candidates, structure and weights are compared with those of one local worker.
- `overhead`: items that sleep for two seconds, in groups of eight, on two workers. `start_s` is the
  time until both workers have begun, and `overhead` is the time of the groups after the first two
  over the time that their items sleep, minus one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conditions import ROOT, write_result
from faulting.disturbed import PROGRAM
from faulting.ray_faults import ray_faults
from faulting.sleeping import SleepingJob
from faulting.slurm_faults import slurm_faults
from faults import SETTINGS, candidates, run_alone, weights
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.study import Study
from genets.nas.workers.machines import find_machines
from genets.nas.workers.ray_cluster import RayCluster
from kills import rows, scores, structure

KINDS = ("local", "ray", "slurm")
WORKERS, GROUPS, GROUP_SIZE, SECONDS = 2, 8, 8, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--no-searches", action="store_true", help="measure the overhead alone")
    options = parser.parse_args()
    # Workers import this folder.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "benchmarks"), *sys.path[1:]])
    figures: dict[str, Any] = {"equal": {}, "overhead": {}}
    with tempfile.TemporaryDirectory(prefix="genets-clusters-") as name:
        folder = Path(name)
        alone = folder / "alone"
        if not options.no_searches:
            run_alone(alone, SETTINGS)
        for kind in options.kinds:
            with open_cluster(kind) as where:
                for count in () if options.no_searches else (1, WORKERS):
                    equal = run_search(alone, folder / f"{kind}-{count}", where, count)
                    figures["equal"][f"{kind}, {count}"] = equal
            figures["overhead"][kind] = measure_overhead(kind, folder / f"{kind}-sleeping")
    write_result("clusters", figures)


@contextmanager
def open_cluster(kind: str) -> Iterator[str]:
    """Give the place of the workers for `faulting/driver.py`."""
    if kind == "local":
        yield kind
        return
    with {"ray": ray_faults, "slurm": slurm_faults}[kind]() as (where, _):
        yield where


def run_search(alone: Path, study: Path, where: str, workers: int) -> dict[str, bool]:
    """Run the search, and say what is equal."""
    with Study.create_or_resume(study, SearchSettings(**SETTINGS)):
        pass
    subprocess.run([sys.executable, str(PROGRAM), str(study), where, str(workers)], check=True)
    return {
        "trials": scores(rows(study)) == scores(rows(alone)),
        "candidates": candidates(study) == candidates(alone),
        "structure": structure(study) == structure(alone),
        "weights": weights(study) == weights(alone),
    }


def measure_overhead(kind: str, folder: Path) -> dict[str, float]:
    """Run items that sleep, and compare the time with that of their sleep."""
    folder.mkdir()
    numbers = range(GROUPS * GROUP_SIZE)
    groups = [tuple(numbers[at : at + GROUP_SIZE]) for at in numbers[::GROUP_SIZE]]
    with open_workers(kind):
        workers = find_machines(kind).workers(WORKERS, "cpu", lambda cores, gpus: 1, folder)
        begun = time.monotonic()
        ends = [time.monotonic() - begun for _ in workers.run(SleepingJob(SECONDS), groups)]
    ends = ends[GROUP_SIZE - 1 :: GROUP_SIZE]  # of the groups
    group_s = GROUP_SIZE * SECONDS
    slept_s = group_s * (GROUPS - WORKERS) / WORKERS
    both_began_s = ends[WORKERS - 1] - group_s
    return {
        "start_s": both_began_s,
        "seconds": ends[-1],
        "overhead": (ends[-1] - ends[WORKERS - 1]) / slept_s - 1,
    }


@contextmanager
def open_workers(kind: str) -> Iterator[None]:
    """Start the cluster of a kind of workers, so that its start is not measured."""
    if kind == "ray":
        with RayCluster().connected(cpus=WORKERS):
            yield
    elif kind == "slurm":
        with slurm_faults():
            yield
    else:
        yield


if __name__ == "__main__":
    main()
