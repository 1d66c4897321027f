"""Thousands of damaged and hostile files on the readers of genets, and some on whole commands.

Run from the repository: python benchmarks/fuzz.py [--seed 0]. Writes results/fuzz.json. In the
folder `fuzzing`, `files.py` makes valid files, `mutations.py` changes them, `readers.py` reads them
as genets does, and `commands.py` gives them to whole commands. `--case N` reads one input again and
shows its traceback. A right reader reads the file or raises a GenetsError.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conditions import add_tiny_option, write_result
from fuzzing import commands, process
from fuzzing.files import make_valid_files
from fuzzing.process import HANG_SECONDS, KINDS, Outcome, Reader, read_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--commands", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="number of one input to read again")
    add_tiny_option(parser)
    options = parser.parse_args()
    count, runs = (120, 6) if options.tiny else (options.inputs, options.commands)
    with tempfile.TemporaryDirectory(prefix="genets-fuzz-") as folder:
        valid = Path(folder) / "valid"
        make_valid_files(valid)
        if options.case is not None:
            print(Reader(valid, options.seed).read(options.case, show=True))
            return
        start = time.monotonic()
        read = [*read_all(valid, options.seed, count)]
        middle = time.monotonic()
        run = [commands.run_command(valid, options.seed, number) for number in range(runs)]
        figures: dict[str, Any] = {
            "seed": options.seed,
            "inputs": summary(read, process.BLOW_UP_BYTES) | {"seconds": round(middle - start)},
            "commands": summary(run, commands.BLOW_UP_BYTES)
            | {"seconds": round(time.monotonic() - middle)},
        }
    if not options.tiny:
        write_result("fuzz", figures)
    faults = [*figures["inputs"]["faults"], *figures["commands"]["faults"]]
    assert not faults, faults[:5]


def summary(outcomes: list[Outcome], max_bytes: int) -> dict[str, Any]:
    kinds = {
        kind: {
            "inputs": sum(each.kind == kind for each in outcomes),
            **Counter(each.result for each in outcomes if each.kind == kind),
        }
        for kind in KINDS
    }
    faults: dict[str, dict[str, Any]] = {}
    for number, each in enumerate(outcomes):
        if each.is_fault(max_bytes):
            key = f"{each.result}: {each.reason}"
            faults.setdefault(key, {"count": 0, "first_case": number, **asdict(each)})["count"] += 1
    return {
        "count": len(outcomes),
        "named_errors": sum(each.result == "named error" for each in outcomes),
        "tracebacks": sum(each.result == "traceback" for each in outcomes),
        "crashes": sum(each.result == "crash" for each in outcomes),
        "hangs_above_60_s": sum(
            each.result == "hang" or each.seconds > HANG_SECONDS for each in outcomes
        ),
        "memory_blow_ups": sum(each.memory_bytes > max_bytes for each in outcomes),
        "code_executed": sum(each.executed for each in outcomes),
        "studies_lost": sum(each.lost for each in outcomes),
        "largest_seconds": max((each.seconds for each in outcomes), default=0.0),
        "largest_memory_bytes": max((each.memory_bytes for each in outcomes), default=0),
        "by_kind": kinds,
        "faults": [*faults.values()],
    }


if __name__ == "__main__":
    main()
