"""Searches killed (SIGKILL) ten times at random moments and resumed, against an unkilled search.

Run from the repository: python benchmarks/kills.py [--kills 10]. Writes results/kills.json.
All searches have the same settings. A killed search gets the latency tables and measurements of
the unkilled one, because a second measurement would give other numbers; it must reproduce
everything else. The moments are spread over the time of a whole search, so some fall into its final
training. Where a search ends before its next kill, another search begins.
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
from genets.nas.study.reader import load_settings
from genets.nas.study.study import Study
from genets.networks import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    parser.add_argument("--alone", type=Path, help="study of a finished, unkilled search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-kills-") as folder:
        alone = options.alone or Path(folder) / "alone"
        rng = random.Random(options.seed)
        figures = compare(alone, Path(folder), options.kills, rng)
    write_result("kills", figures)
    assert figures["finished_trials_lost"] == figures["trials_run_twice"] == 0
    assert figures["searches_with_other_trials"] == 0
    assert figures["searches_with_another_structure"] == 0
    assert figures["searches_with_other_weights"] == 0


def compare(alone: Path, folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    subprocess.run(command(alone), check=True)  # returns at once if it has finished
    phases = json.loads((alone / "seconds.json").read_text())
    seconds = sum(s for phase, s in phases.items() if phase != "latency table")  # it is copied
    searches: list[dict[str, Any]] = []
    while (left := kills - sum(len(search["kills"]) for search in searches)) > 0:
        searches.append(
            killed_search(alone, folder / f"killed-{len(searches)}", left, rng, seconds)
        )
        print(searches[-1], flush=True)
    return {
        "kills": kills,
        "trials": len(rows(alone)),
        "finished_trials_lost": sum(search["lost"] for search in searches),
        "trials_run_twice": sum(search["run_twice"] for search in searches),
        "searches_with_other_trials": sum(not search["same_trials"] for search in searches),
        "searches_with_another_structure": sum(not search["same_structure"] for search in searches),
        "searches_with_other_weights": sum(not search["same_weights"] for search in searches),
        "searches": searches,
        "structure": structure(alone),
        "seconds_left_alone": round(seconds, 1),
    }


def killed_search(
    alone: Path, killed: Path, kills: int, rng: random.Random, seconds: float
) -> dict[str, Any]:
    """Compare a search that is killed up to `kills` times with the unkilled one."""
    with Study.create_or_resume(killed, load_settings(alone)):
        for path in (alone / "latency").iterdir():
            shutil.copy(path, killed / path.relative_to(alone))
    lost = run_twice = 0
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    log: list[dict[str, Any]] = []
    ended = False
    while not ended:
        wait = rng.uniform(0.05, 1.0) * seconds if len(log) < kills else None
        ended = run_for(killed, wait)
        now = rows(killed)
        lost += sum(key not in now for key in seen)
        run_twice += sum(key in now and now[key] != row for key, row in seen.items())
        seen = now
        if not ended and wait is not None:
            trained = (killed / "winner.safetensors").exists()
            selected = (killed / "selected.json").exists()
            state = {"finished_trials": len(now), "selected": selected, "winner_trained": trained}
            log.append({"seconds": round(wait, 1), **state})
    return {
        "kills": log,
        "lost": lost,
        "run_twice": run_twice,
        "same_trials": scores(rows(killed)) == scores(rows(alone)),
        "same_structure": structure(killed) == structure(alone),
        "same_weights": weights(killed) == weights(alone),
    }


def command(study: Path) -> list[str]:
    options = {"--data": "digits", "--budget": "0.5x", "--out": str(study)}
    program = [sys.executable, "-m", "genets", "search"]
    return [*program, *(word for option in options.items() for word in option)]


def run_for(study: Path, wait: float | None) -> bool:
    """Resume the search and kill it after `wait` seconds; return whether it ended before that.

    The start of Python and torch counts as waiting. None waits for the end of the search.
    """
    process = subprocess.Popen(command(study), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        if process.wait(timeout=wait):
            raise SystemExit(f"the search in {study} failed")
        return True
    process.send_signal(signal.SIGKILL)
    process.wait()
    return False


def rows(study: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Every recorded trial by its key. Other seconds show that it was run a second time."""
    path = study / "trials.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        try:
            trials = [dict(row) for row in database.execute("SELECT * FROM trials")]
        except sqlite3.OperationalError:  # killed before the table was created
            return {}
    return {(row["super_block"], row["notation"], row["repeat"]): row for row in trials}


def scores(trials: dict[tuple[Any, ...], dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    return {key: (row["status"], row["top1"], row["cross_entropy"]) for key, row in trials.items()}


def structure(study: Path) -> str:
    return (study / "results" / "structure.toml").read_text(encoding="utf-8")


def weights(study: Path) -> dict[str, Any]:
    net = load(study / "results")
    return {name: tensor.tolist() for name, tensor in net.state_dict().items()}


if __name__ == "__main__":
    main()
