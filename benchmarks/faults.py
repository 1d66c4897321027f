"""Searches that suffer random faults on real clusters, against an undisturbed search.

Run from the repository: python benchmarks/faults.py [--ray 50] [--slurm 50]. Writes
results/faults.json. Each run is a search of about 20 trials on digits, on a Ray cluster of several
nodes on this machine or on a SLURM of this machine. It suffers faults at random moments: killed,
hanging and starving workers, lost nodes, tasks that SLURM stops, and drivers that are killed,
interrupted or stopped; see the folder `faulting`. Where a search stops, the same command is given
again. Every number of such a search must be that of the undisturbed search, bit for bit; the
latencies come from a formula (see `faulting/driver.py`).

A trial may fail in one case: where a worker got no memory for it. Such runs are counted apart: all
their other trials must be equal.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from conditions import add_tiny_option, write_result
from faulting.disturbed import PROGRAM, DisturbedSearch, Fault, FaultyRunError
from faulting.ray_faults import ray_faults
from faulting.slurm_faults import slurm_faults
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import load_settings
from genets.nas.study.study import Study
from kills import rows, scores, structure

FAULTS = (1, 3)  # of a run, at least and at most
TRAINING = {"epochs": 6, "warmup_epochs": 0.5, "batch_size": 32}
SETTINGS: dict[str, Any] = {
    "data": "digits",
    "budget": "0.9x",
    "master": "Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @8",
    "space": {"blocks": ["XX3", "DW3r3"], "depth_change": 1},
    "target": {"batch_size": 8, "threads": 1},
    "trials": "separate",
    "trials_per_super_block": 8,
    "controls_per_super_block": 2,
    "from_scratch": False,
    "master_training": TRAINING,
    "trial_training": TRAINING | {"epochs": 20, "feature_steps": 20},
    "final_training": TRAINING,
    "screen": 8,
    "confirm": 3,
    "rounds": 1,
}
TINY = {"trial_training": TRAINING | {"epochs": 4, "feature_steps": 4}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", type=int, default=50, help="runs on a Ray cluster")
    parser.add_argument("--slurm", type=int, default=50, help="runs on SLURM")
    parser.add_argument("--seed", type=int, default=0, help="seed of the faults")
    parser.add_argument("--kinds", help="names of the faults, with commas; by default all")
    parser.add_argument("--alone", type=Path, help="folder of the undisturbed study")
    parser.add_argument("--keep", type=Path, help="folder for the studies; by default removed")
    add_tiny_option(parser)
    options = parser.parse_args()
    kinds = options.kinds.split(",") if options.kinds else []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the clusters are stopped
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="genets-faults-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        alone = options.alone or folder / "alone"
        run_alone(alone, SETTINGS | (TINY if options.tiny else {}))
        clusters = [("ray", options.ray, ray_faults), ("slurm", options.slurm, slurm_faults)]
        figures: dict[str, Any] = {
            "seed": options.seed,
            "trials": len(rows(alone)),
            "structure": structure(alone),
        }
        for name, count, open_cluster in clusters:
            if count:
                places = [folder / f"{name}-{number}" for number in range(count)]
                runs = run_disturbed(alone, places, open_cluster(), options.seed, kinds)
                figures[name] = summary(runs)
        figures["seconds"] = round(time.monotonic() - start)
    if options.tiny:
        print(json.dumps(figures, indent=2))
    else:
        write_result("faults", figures)
    wrong = [run for name, *_ in clusters if name in figures for run in figures[name]["wrong"]]
    assert not wrong, wrong


def run_alone(study: Path, settings: dict[str, Any]) -> None:
    """Run the undisturbed search, unless it has finished."""
    if (study / "results" / "structure.toml").exists():
        return
    with Study.create_or_resume(study, SearchSettings(**settings)):
        pass
    subprocess.run([sys.executable, str(PROGRAM), str(study), "local", "1"], check=True)


def run_disturbed(
    alone: Path,
    studies: Sequence[Path],
    cluster: AbstractContextManager[tuple[str, dict[str, Fault]]],
    seed: int,
    kinds: Sequence[str],
) -> list[dict[str, Any]]:
    """Run searches with faults one after the other, and compare each with the undisturbed one."""
    runs = []
    with cluster as (where, faults):
        chosen = {name: fault for name, fault in faults.items() if not kinds or name in kinds}
        for number, study in enumerate(studies):
            rng = random.Random(f"{seed} {study.name}")
            runs.append({"run": study.name} | disturb(alone, study, where, chosen, rng))
            print(f"{number + 1} of {len(studies)}: {runs[-1]}", flush=True)
    return runs


def disturb(
    alone: Path, study: Path, where: str, faults: dict[str, Fault], rng: random.Random
) -> dict[str, Any]:
    """Run one search, let it suffer faults, and compare it."""
    with Study.create_or_resume(study, load_settings(alone)):
        pass
    steps = range(len(rows(alone)) + 2)  # two of the candidates
    moments = sorted(rng.sample(steps, rng.randint(*FAULTS)))
    search = DisturbedSearch(study, where, rng)
    begun, suffered, problem = time.monotonic(), [], ""
    try:
        search.start()
        for moment in moments:
            if search.go_on(moment):
                break
            name = rng.choice(sorted(faults))
            suffered.append({"after": moment, "fault": name})
            time.sleep(rng.uniform(0.0, 2.0))
            faults[name](search)
        search.go_on()
    except FaultyRunError as error:
        problem = str(error)
    finally:
        search.end()
    run = {
        "faults": suffered,
        "commands": search.commands,
        "sentences": search.sentences,
        "seconds": round(time.monotonic() - begun),
        "problem": problem,
    }
    return run | ({} if problem else compare(alone, study, search))


def compare(alone: Path, study: Path, search: DisturbedSearch) -> dict[str, Any]:
    """Compare a study with the undisturbed one."""
    expected, found = scores(rows(alone)), scores(now := rows(study))
    failed = [key for key, row in now.items() if row["status"] == "failed"]
    done = {key for key in expected if key not in failed}
    record = json.loads((study / "results" / "result.json").read_text())
    return {
        "finished_trials_lost": sum(key not in now for key in search.seen),
        "trials_run_twice": sum(now.get(key) != row for key, row in search.seen.items()),
        "failed_trials": [now[key]["reason"] for key in failed],
        "same_trials": {key: found.get(key) for key in done} == {k: expected[k] for k in done},
        "same_structure": structure(study) == structure(alone),
        "same_candidates": candidates(study) == candidates(alone),
        "same_weights": weights(study) == weights(alone),
        "said": record["warnings"],
    }


def candidates(study: Path) -> list[dict[str, Any]]:
    """The screened structures and the candidates with their scores, without their times."""
    names = ("screened.json", "confirmed.json")
    rows = [row for name in names for row in json.loads((study / name).read_text())]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def weights(study: Path) -> bytes:
    """The weights of the winner."""
    return (study / "winner.safetensors").read_bytes()


def is_equal(run: dict[str, Any]) -> bool:
    """Whether nothing was lost, and every number is that of the undisturbed search."""
    if run["problem"] or run["finished_trials_lost"] or run["trials_run_twice"]:
        return False
    if run["failed_trials"]:  # other candidates may be chosen then
        return bool(run["same_trials"]) and all("memory" in why for why in run["failed_trials"])
    return all(value for name, value in run.items() if name.startswith("same_"))


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count the runs and faults; the runs themselves stand at the end."""
    return {
        "runs": len(runs),
        "equal": sum(is_equal(run) for run in runs),
        "with_failed_trials": sum(bool(run.get("failed_trials")) for run in runs),
        "faults": dict(Counter(each["fault"] for run in runs for each in run["faults"])),
        "commands": sum(run["commands"] for run in runs),
        "wrong": [run for run in runs if not is_equal(run)],
        "each": list(runs),
    }


if __name__ == "__main__":
    main()
