"""What genets does on one GPU: seven stages, each in a time box; together at most 450 seconds.

    python benchmarks/gpu_campaign.py [--stage table] [--device cuda:1]
    python benchmarks/gpu_campaign.py --device cpu --tiny

A stage is a process of its own that writes results/gpu/<stage>.json as its figures come. A stage
whose box ends stores what it has with the mark `out_of_time`, and a stage that fails stores what it
has with the mark `failed`. A stage that fails does not stop the others. Seconds that a stage leaves
are added to the box of the next one. results/gpu/campaign.json says how each stage ended. The
stages are functions of `gpu_latency` and `gpu_training`.

All processes are forked from this one, which imports the packages once and never uses the GPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from conditions import PROVENANCE, RESULTS, add_tiny_option
from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.latency import Target
from gpu_latency import compiled, engines, table, table7
from gpu_session import OutOfTime, Session
from gpu_training import search, training_step, trials


@dataclass(frozen=True)
class Stage:
    """A stage: its function, and the seconds after which it is stopped."""

    run: Callable[[Session], None]
    box_s: float


STAGES = {
    "engines": Stage(engines, 50),
    # 23 s of the host (results/table_preparation.json), 48 s for cuDNN's search of 1,937 shapes
    # (25 ms each on an H200), and three rounds of 699 visits of about 30 ms.
    "table": Stage(table, 150),
    "table7": Stage(table7, 85),
    "compiled": Stage(compiled, 75),
    "search": Stage(search, 45),
    "trials": Stage(trials, 25),
    "training_step": Stage(training_step, 20),
}
MAX_SECONDS = 450  # of all boxes together
TINY_BOXES = 3  # times as long, because a busy machine must not fail the check that stages run
CHECK_S = 60.0  # for the start of the driver, before the first stage
ERROR_LINES = 3
OUT_OF_TIME = 75  # exit status of a stage that has stored what it has


def main() -> None:
    assert sum(stage.box_s for stage in STAGES.values()) <= MAX_SECONDS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:NUMBER or cpu")
    parser.add_argument("--stage", action="append", choices=[*STAGES], help="run this one alone")
    add_tiny_option(parser)
    options = parser.parse_args()
    if not re.fullmatch(r"cpu|cuda(:\d+)?", options.device):
        parser.error(f"--device must be cpu, cuda or cuda:NUMBER, not {options.device!r}")
    status, lines = run_forked(lambda: check_device(options.device), CHECK_S)
    if status != 0:
        parser.error(" ".join(lines) or f"device {options.device!r} does not answer")
    ends: dict[str, dict[str, Any]] = {}
    spare_s = 0.0
    for name in options.stage or STAGES:
        box_s = STAGES[name].box_s * (TINY_BOXES if options.tiny else 1) + spare_s
        ends[name] = run_stage(name, options.device, options.tiny, box_s)
        spare_s = max(0.0, box_s - ends[name]["seconds"])
        write_summary(options.device, ends)
        print(f"{name}: {ends[name]['status']} after {ends[name]['seconds']:.0f} s", flush=True)
        for line in ends[name]["error"]:
            print(f"    {line}")
    if any(end["status"] != "done" for end in ends.values()):
        sys.exit(1)


def check_device(device: str) -> None:
    try:
        Target(device).check()
    except TargetError as error:
        sys.exit(str(error))


def run_stage(name: str, device: str, tiny: bool, box_s: float) -> dict[str, Any]:
    """Run one stage in a process of its own, and end it with its children after its time box."""
    (RESULTS / "gpu" / f"{name}.json").unlink(missing_ok=True)  # of an earlier campaign
    start_s = time.monotonic()
    session = Session(name, device, tiny, start_s + box_s)
    status, lines = run_forked(lambda: run_inside(session), box_s)
    words = {0: "done", OUT_OF_TIME: "out of time", None: "killed at the end of its box"}
    return {
        "status": words.get(status, f"failed with exit status {status}"),
        "seconds": time.monotonic() - start_s,
        "box_s": box_s,
        "error": [] if status == 0 else lines[-ERROR_LINES:],
    }


def run_inside(session: Session) -> None:
    """Run a stage in this process; its figures are stored also where it fails."""
    if session.tiny:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that the stage starts
    try:
        with session.time_box():
            STAGES[session.stage].run(session)
        if session.failures:
            sys.exit("\n".join(session.failures))
    except OutOfTime:
        session.store(out_of_time=True)
        os._exit(OUT_OF_TIME)  # at once, without a wait for the processes that the stage started
    except BaseException:
        session.store(failed=True)
        raise
    session.store(complete=True)


def run_forked(function: Callable[[], None], limit_s: float) -> tuple[int | None, list[str]]:
    """Call a function in a forked process; return its exit status and the lines that it printed.

    The status is None where the process was killed after `limit_s`. Processes that it has started
    are killed as well.
    """

    def call() -> None:
        os.setsid()  # a group of processes that can be ended together
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        sys.stdout = sys.stderr = output
        function()

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = multiprocessing.get_context("fork").Process(target=call)
        process.start()
        assert process.pid is not None
        try:
            process.join(limit_s)
        finally:
            is_late = process.is_alive()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    return None if is_late else process.exitcode, lines


def write_summary(device: str, ends: dict[str, dict[str, Any]]) -> None:
    """Write how the stages ended. No environment: this process must not use the GPU itself."""
    path = RESULTS / "gpu" / "campaign.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**PROVENANCE, "device": device, "stages": ends}
    write_atomic(path, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
