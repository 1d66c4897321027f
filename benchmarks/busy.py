"""Is the promise kept beside busy processes? Selections and searches on a busy machine.

Run from the repository, while nothing else runs:
python benchmarks/busy.py --study FOLDER [--budgets 40] [--searches 2]. Writes results/busy.json.
FOLDER is a finished study, or the folder for a new one. Beside one and two busy processes,
`genets select` answers budgets from a copy of the study: half of them are multiples of the
MasterNet's latency, the others the same latencies in ms. Whole searches follow. One busy process
computes, and the other one reads and writes memory. Afterwards, on the quiet machine, a new process
measures all networks in turn with the MasterNet. Counted are networks whose quiet latency is above
their budget, and refused budgets that one of the measured networks meets. A command may also wait
and then stop with exit status 4, which decides nothing. `slowdown` says how many times as long the
MasterNet's runs take beside the busy processes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from budgets import make_study, measure_again
from conditions import add_tiny_option, write_result
from genets.latency import Target
from genets.latency.timing.calm import wait_until_calm
from genets.nas.study.reader import load_settings
from truth import run_in_new_process

COMPUTING = "while True: pass"
READING_MEMORY = "import numpy as np\na = np.zeros(2**23)\nwhile True: a += 1"  # 64 MiB
OUTCOMES = {0: "selected", 3: "refused", 4: "undecided"}
SEARCH = ("--data", "digits", "--budget", "0.5x", "--preset", "quick")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="a finished study, or the folder for a new one")
    parser.add_argument("--budgets", type=int, default=40, help="half in x and half in ms")
    parser.add_argument("--range", type=float, nargs=2, default=(0.3, 1.5), metavar=("LOW", "HIGH"))
    parser.add_argument("--busy", type=int, nargs="+", default=[1, 2], help="busy processes")
    parser.add_argument("--searches", type=int, default=0, help="for each number of processes")
    parser.add_argument("--wait", type=float, default=0.2, help="minutes; see genets select")
    parser.add_argument("--threads", type=int, help="threads of the selections [the study's]")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each quiet measurement")
    parser.add_argument("--seed", type=int, default=0)
    add_tiny_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-busy-") as name:
        folder = Path(name)
        study = options.study or folder / "study"
        make_study(study, options.seed, tiny=options.tiny, threads=options.threads)
        figures = run(study, folder, options)
    if options.tiny:
        print(json.dumps(figures, indent=2))
    else:
        write_result("busy", figures, load_settings(study).target)


def run(study: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings(study)
    target = settings.target
    if options.threads:
        target = replace(target, threads=options.threads)
    wait_for_quiet(target, options)
    quiet_ms = slow_ms(settings.master, target)
    rows, slowdown = [], {}
    for processes in options.busy:
        with busy_processes(processes):
            busy_ms = slow_ms(settings.master, target)
            slowdown[processes] = {name: busy_ms[name] / quiet_ms[name] for name in quiet_ms}
            copy = Path(shutil.copytree(study, folder / f"study-{processes}"))
            asked = budgets(options, quiet_ms[f"{target.threads} threads"])
            rows += [select(copy, budget, processes, target, options) for budget in asked]
            outs = [folder / f"search-{processes}-{number}" for number in range(options.searches)]
            rows += [search(out, seed, processes, options) for seed, out in enumerate(outs)]
    wait_for_quiet(target, options)
    judge(rows, settings.master, options.seconds)
    return {
        "target": target.to_json(),
        "slowdown": slowdown,
        "summary": [summary(rows, processes) for processes in options.busy],
        "rows": rows,
    }


def budgets(options: argparse.Namespace, master_ms: float) -> list[str]:
    low, high = options.range
    multiples = np.linspace(low, high, max(1, options.budgets // 2)).tolist()
    return [f"{multiple:.4f}x" for multiple in multiples] + [
        f"{multiple * master_ms:.6f}ms" for multiple in multiples
    ]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    codes = [(COMPUTING, READING_MEMORY)[number % 2] for number in range(count)]
    processes = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for_quiet(target: Target, options: argparse.Namespace) -> None:
    if not options.tiny and not wait_until_calm(target, 600):
        sys.exit("other processes use the CPUs; run this benchmark while nothing else runs")


def slow_ms(master: str, target: Target) -> dict[str, float]:
    """The MasterNet's median in ms per image, with all time of waiting for a CPU."""
    medians = {}
    for threads in dict.fromkeys((target.threads, 1)):
        chosen = replace(target, threads=threads)
        measured = run_in_new_process(measure_again, master, [], chosen, 5.0)[master]
        medians[f"{threads} threads"] = float(np.median(measured.samples_ms)) / target.batch_size
    return medians


def select(
    study: Path, budget: str, processes: int, target: Target, options: argparse.Namespace
) -> dict[str, Any]:
    words = ["select", str(study), "--budget", budget, "--wait", str(options.wait)]
    if options.threads:
        words += ["--threads", str(options.threads)]
    return command(words, budget, processes, target)


def search(out: Path, seed: int, processes: int, options: argparse.Namespace) -> dict[str, Any]:
    words = ["search", *SEARCH, "--seed", str(seed), "--wait", str(options.wait), "--out", str(out)]
    if options.tiny:
        words += ["--master-epochs", "8", "--trial-epochs", "1", "--final-epochs", "1",
                  "--trials-per-super-block", "2", "--controls-per-super-block", "1"]  # fmt: skip
    row = command(words, "0.5x", processes, Target())
    return row | {"command": "search", "target": load_settings(out).target.to_json()}


def command(words: Sequence[str], budget: str, processes: int, target: Target) -> dict[str, Any]:
    """Run a command; the row has its outcome, and the network that it selected or named."""
    run = subprocess.run(
        [sys.executable, "-m", "genets", *words, "--json"], capture_output=True, text=True
    )
    if run.returncode not in OUTCOMES:
        sys.exit(f"genets {' '.join(words)} ended with {run.returncode}: {run.stderr}")
    row = {
        "command": words[0],
        "budget": budget,
        "busy_processes": processes,
        "target": target.to_json(),
        "outcome": OUTCOMES[run.returncode],
    }
    if row["outcome"] == "selected":
        printed = json.loads(run.stdout)
        selected = printed.get("selected", printed)
        row |= {name: selected[name] for name in ("structure", "measured_ms", "disturbed")}
    elif row["outcome"] == "refused":
        row["structure"] = fastest(run.stderr)
    print({name: row[name] for name in ("command", "budget", "busy_processes", "outcome")},
          flush=True)  # fmt: skip
    return row


def fastest(stderr: str) -> str | None:
    """The fastest network in the table that a refusal prints."""
    match = re.search(r"structure\s*│\s*(.*?)\s*│", stderr)
    return match.group(1) if match else None


def judge(rows: list[dict[str, Any]], master: str, seconds: float) -> None:
    """Add to each row whether the quiet latency of its network is within the budget."""
    for text in dict.fromkeys(json.dumps(row["target"]) for row in rows):
        of_target = [row for row in rows if json.dumps(row["target"]) == text]
        structures = [row["structure"] for row in of_target if row.get("structure")]
        target = Target.from_json(json.loads(text))
        measured = run_in_new_process(
            measure_again, master, list(dict.fromkeys(structures)), target, seconds
        )
        quiet_ms = {name: m.ms_per_image for name, m in measured.items()}
        lowest_ms = min(quiet_ms.values())
        for row in of_target:
            amount, unit = float(row["budget"].rstrip("xms")), row["budget"][-1]
            budget_ms = amount * quiet_ms[master] if unit == "x" else amount
            row["disturbed_when_judged"] = any(m.disturbed for m in measured.values())
            if row["outcome"] == "selected":
                row["times_budget"] = quiet_ms[row["structure"]] / budget_ms
                row["broken"] = row["times_budget"] > 1
            elif row["outcome"] == "refused":
                row["wrongly_refused"] = lowest_ms <= budget_ms


def summary(rows: list[dict[str, Any]], processes: int) -> dict[str, Any]:
    own = [row for row in rows if row["busy_processes"] == processes]
    refused = [row["budget"] for row in own if row.get("wrongly_refused")]
    return {
        "busy_processes": processes,
        "commands": len(own),
        **{outcome: sum(row["outcome"] == outcome for row in own) for outcome in OUTCOMES.values()},
        "broken_budgets": sum(row.get("broken", False) for row in own),
        "wrongly_refused_in_x": sum(budget.endswith("x") for budget in refused),
        "wrongly_refused_in_ms": sum(budget.endswith("ms") for budget in refused),
    }


if __name__ == "__main__":
    main()
