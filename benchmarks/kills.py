"""Ten SIGKILLs at random moments of a search, each resumed, against a search left alone.

Run from the repository: python benchmarks/kills.py [--kills 10]. Writes results/kills.json.
Both searches have the same settings. The killed one is given the latency tables and the
measurements of the one left alone, as another measuring would be other numbers; everything
else it has to find again by itself.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from conditions import write_result
from genets.nas.study import Study, load_settings
from genets.networks import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--keep-master", action="store_true", help="start with its MasterNet")
    parser.add_argument("--alone", type=Path, help="study of a finished search left alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-kills-") as folder:
        alone = options.alone or Path(folder) / "alone"
        rng = random.Random(options.seed)
        figures = compare(alone, Path(folder), options.kills, rng, options.keep_master)
    write_result("kills", figures)
    assert figures["finished_trials_lost"] == figures["trials_run_twice"] == 0
    assert figures["same_trials"]
    assert figures["same_structure"]
    assert figures["same_weights"]


def compare(
    alone: Path, folder: Path, kills: int, rng: random.Random, keep_master: bool
) -> dict[str, Any]:
    killed = folder / "killed"
    subprocess.run(command(alone), check=True)  # at once, if it is finished
    seconds = sum(json.loads((alone / "seconds.json").read_text()).values())
    with Study.create_or_resume(killed, load_settings(alone)):
        given = [*(alone / "latency").iterdir()]
        if keep_master:  # so that the kills fall into trials and what follows
            given += [alone / "master.safetensors", alone / "master.json"]
        for path in given:
            shutil.copy(path, killed / path.relative_to(alone))
    lost = 0
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    log: list[dict[str, float | int]] = []
    for _ in range(kills):
        wait = rng.uniform(0.1, 0.3) * seconds  # the start of Python and torch included
        if run_for(killed, wait):
            raise SystemExit(f"the search ended before kill {len(log) + 1}; give fewer --kills")
        now = rows(killed)
        lost += sum(now.get(key) != row for key, row in seen.items())
        seen = now
        log.append({"seconds": round(wait, 1), "finished_trials": len(now)})
    subprocess.run(command(killed), check=True)
    final, expected = rows(killed), rows(alone)
    lost += sum(final.get(key) != row for key, row in seen.items())
    return {
        "kills": log,
        "trials": len(expected),
        "finished_trials_lost": lost,
        "trials_run_twice": sum(
            final[key]["seconds"] != row["seconds"] for key, row in seen.items()
        ),
        "same_trials": scores(final) == scores(expected),
        "same_structure": structure(killed) == structure(alone),
        "same_weights": weights(killed) == weights(alone),
        "structure": structure(alone),
        "seconds_left_alone": round(seconds, 1),
    }


def command(study: Path) -> list[str]:
    options = {"--data": "digits", "--budget": "0.5x", "--out": str(study)}
    program = [sys.executable, "-m", "genets", "search"]
    return [*program, *(word for option in options.items() for word in option)]


def run_for(study: Path, wait: float) -> bool:
    """Resume the search and kill it after `wait` seconds; True if it had ended before."""
    process = subprocess.Popen(command(study), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=wait)
        return True
    process.send_signal(signal.SIGKILL)
    process.wait()
    return False


def rows(study: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Every recorded trial by its key. Its seconds tell whether it was run a second time."""
    path = study / "trials.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        try:
            found = [dict(row) for row in database.execute("SELECT * FROM trials")]
        except sqlite3.OperationalError:  # killed before the table was made
            return {}
    return {(row["super_block"], row["notation"], row["repeat"]): row for row in found}


def scores(found: dict[tuple[Any, ...], dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    return {key: (row["status"], row["top1"], row["cross_entropy"]) for key, row in found.items()}


def structure(study: Path) -> str:
    return (study / "results" / "structure.toml").read_text(encoding="utf-8")


def weights(study: Path) -> dict[str, Any]:
    net = load(study / "results")
    return {name: tensor.tolist() for name, tensor in net.state_dict().items()}


if __name__ == "__main__":
    main()
