"""What genets does on one GPU: seven stages, each in a time box; together at most 450 seconds.

    python benchmarks/gpu_campaign.py [--stage table] [--device cuda:1]
    python benchmarks/gpu_campaign.py --device cpu --tiny

A stage is a process of its own that writes results/gpu/<stage>.json as its figures come, so a stage
that fails or exceeds its box loses only its missing figures, and the next stage runs.
results/gpu/campaign.json says how each stage ended. The stages are
functions of `gpu_latency` and `gpu_training`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conditions import PROVENANCE, RESULTS, add_tiny_option
from genets.core.errors import TargetError
from genets.latency import Target
from gpu_latency import compiled, engines, table, table7
from gpu_session import Session
from gpu_training import search, training_step, trials


@dataclass(frozen=True)
class Stage:
    """A stage: its function, and the seconds after which it is stopped."""

    run: Callable[[Session], None]
    box_s: float


STAGES = {
    "engines": Stage(engines, 45),
    "table": Stage(table, 115),
    "table7": Stage(table7, 95),
    "compiled": Stage(compiled, 95),
    "search": Stage(search, 50),
    "trials": Stage(trials, 30),
    "training_step": Stage(training_step, 20),
}
MAX_SECONDS = 450  # of all boxes together
TINY_BOXES = 3  # times as long, because a busy machine must not fail the check that stages run
ERROR_LINES = 3


def main() -> None:
    assert sum(stage.box_s for stage in STAGES.values()) <= MAX_SECONDS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:NUMBER or cpu")
    parser.add_argument("--stage", action="append", choices=[*STAGES], help="run this one alone")
    parser.add_argument("--inside", choices=[*STAGES], help=argparse.SUPPRESS)
    add_tiny_option(parser)
    options = parser.parse_args()
    if options.inside:
        stage = STAGES[options.inside]
        session = Session(options.inside, options.device, options.tiny, stage.box_s)
        stage.run(session)
        session.store(complete=True)
        return
    try:
        target = Target(options.device)
        target.check()
    except TargetError as error:
        parser.error(str(error))
    ends: dict[str, dict[str, Any]] = {}
    for name in options.stage or STAGES:
        ends[name] = run_stage(name, target.device, options.tiny)
        write_summary(target.device, ends)
        print(f"{name}: {ends[name]['status']} after {ends[name]['seconds']:.0f} s", flush=True)
        for line in ends[name]["error"]:
            print(f"    {line}")
    if any(end["status"] != "done" for end in ends.values()):
        sys.exit(1)


def run_stage(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """Run one stage in a process of its own, and end it with its children after its time box."""
    (RESULTS / "gpu" / f"{name}.json").unlink(missing_ok=True)  # of an earlier campaign
    box_s = STAGES[name].box_s * (TINY_BOXES if tiny else 1)
    words = [sys.executable, __file__, "--inside", name, "--device", device]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            [*words, *["--tiny"] * tiny],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if tiny else {}),
            start_new_session=True,  # a group of processes that can be ended together
        )
        try:
            process.wait(box_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            is_late = process.poll() is None
            if is_late:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    status = "stopped at the end of its box" if is_late else "done"
    if not is_late and process.returncode:
        status = f"failed with exit status {process.returncode}"
    return {
        "status": status,
        "seconds": time.perf_counter() - start,
        "box_s": box_s,
        "error": [] if status == "done" else lines[-ERROR_LINES:],
    }


def write_summary(device: str, ends: dict[str, dict[str, Any]]) -> None:
    """Write how the stages ended. No environment: this process must not use the GPU itself."""
    path: Path = RESULTS / "gpu" / "campaign.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**PROVENANCE, "device": device, "stages": ends}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
