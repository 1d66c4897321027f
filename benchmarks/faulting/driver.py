"""`genets search` for the campaign of faults.

python benchmarks/faulting/driver.py STUDY local|slurm|HOST:PORT WORKERS

HOST:PORT is the head node of a Ray cluster whose machines all are 127.0.0.1. Waits are shorter, so
that a fault costs less time. Latencies come from a formula, because faults do not depend on them:
the campaign needs no calm machine, and all searches have the same latencies.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]

HANG_SECONDS = 60.0  # in place of 600
STATE_SECONDS = 2.0  # in place of 15
GRACE_SECONDS = 10.0  # in place of 90; the files of these studies are on a local disk
SLURM_MINUTES = 6  # the time limit of a task; at least 4


def main() -> None:
    study, where, workers = sys.argv[1:]
    # A shell lets its background processes ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from genets.nas.workers import schedule

    schedule.TIME_LIMIT = schedule.TimeLimit(min_seconds=HANG_SECONDS)
    use_latencies_of_a_formula(Path(study))
    words = ["search", "--out", study, "--workers", workers]
    if where == "slurm":
        from genets.nas.workers.slurm import watched_tasks
        from genets.nas.workers.slurm import workers as slurm_workers

        slurm_workers.STATE_SECONDS, watched_tasks.GRACE_SECONDS = STATE_SECONDS, GRACE_SECONDS
        words += ["--workers-on", "slurm", "--slurm-time", str(SLURM_MINUTES)]
    elif where != "local":
        connect(where)
        words += ["--workers-on", "ray"]
    from genets.cli import main as run_command

    sys.argv[1:] = words
    run_command()


def use_latencies_of_a_formula(study: Path) -> None:
    """Everything but the latencies is real."""
    sys.path[1:1] = [str(ROOT / "tests"), str(ROOT / "tests" / "nas")]
    from genets.nas import context
    from genets.nas.study.reader import load_settings

    settings = load_settings(study)
    latency = import_module("rounds_lab").ClosedFormLatency
    vars(context)["Laboratory"] = lambda: latency(settings)


def connect(address: str) -> None:
    """Connect to a Ray cluster of this machine; the search uses the connection."""
    from genets.nas.workers.ray_cluster import import_ray

    ray = import_ray()
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # keeps the address 127.0.0.1
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # as `RayCluster` does
    ray.init(
        address=address, _node_ip_address="127.0.0.1", log_to_driver=False, logging_level="ERROR"
    )


if __name__ == "__main__":
    main()
