"""Are budgets met? Twenty budgets of one study, with every network measured again afterwards.

Run from the repository:
    python benchmarks/budgets.py [--study FOLDER] [--threads THREADS]
Writes results/budgets.json, or with --threads results/budgets_threads_<threads>.json.

The benchmark runs one search on digits, or uses the finished study in FOLDER. From its trials,
`genets.select` selects a network for each budget, given as a multiple of the MasterNet's latency.
Afterwards a separate process measures all selected networks in turn with the MasterNet, and each
network is compared with the budget by its ratio to this second measurement of the MasterNet: `kept`
compares the median, and `surely_kept` the upper end of the 95 % interval. `unused` is the share of
the budget that the median leaves unused. Two kinds of budgets are counted separately. If no
structure meets the budget, the fastest measured network is measured again, to check that it does
not meet the budget. If the most accurate structure of the whole space meets the budget, no
structure can use the rest of the budget.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, write_result
from genets.core.errors import InfeasibleBudgetError
from genets.latency import Measurement, Target, measure_interleaved
from genets.nas.reselect import select
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.nas.study.reader import load_settings
from genets.networks import build
from genets.structure import Structure
from truth import TINY, run_in_new_process

UNLIMITED = "1000x"
MAX_UNUSED = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="a finished study, or the folder for a new one")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--range", type=float, nargs=2, default=(0.3, 1.5), metavar=("LOW", "HIGH"))
    parser.add_argument("--seconds", type=float, default=4.0, help="for each later measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of the target, instead of the study's")
    add_tiny_option(parser)
    options = parser.parse_args()
    low, high = options.range
    multiples = [round(float(m), 4) for m in np.linspace(low, high, options.budgets)]
    with tempfile.TemporaryDirectory(prefix="genets-budgets-") as folder:
        study = options.study or Path(folder) / "study"
        make_study(study, options.seed, tiny=options.tiny)
        figures = check_budgets(study, multiples, options.seconds, options.threads)
    if options.tiny:
        print(json.dumps(figures, indent=2))
    else:
        name = "budgets" if options.threads is None else f"budgets_threads_{options.threads}"
        write_result(name, figures, Target.from_json(figures["target"]))


def make_study(folder: Path, seed: int, *, tiny: bool, threads: int | None = None) -> None:
    """Run the search unless the study exists; no candidates are trained, as with `select`."""
    if not (folder / "study.toml").exists():
        shorter = TINY | {"table_seconds": 10.0, "measure_seconds": 0.5} if tiny else {}
        settings = {"data": "digits", "budget": "1.5x", "seed": seed, "confirm": 1, "screen": 0,
                    "target": {"threads": threads}}  # fmt: skip
        run_search(SearchSettings(**merge(settings, shorter)), folder)


def check_budgets(
    study: Path, multiples: list[float], seconds: float, threads: int | None
) -> dict[str, Any]:
    settings = load_settings(study)
    target = settings.target if threads is None else replace(settings.target, threads=threads)
    top = select(study, UNLIMITED, target=target).structure
    rows = [selected_row(study, multiple, target, top) for multiple in multiples]
    nets = dict.fromkeys(row["structure"] for row in rows)
    measured = run_in_new_process(measure_again, settings.master, [*nets], target, seconds)
    rows = [row | compare_with_budget(row, measured, settings.master) for row in rows]
    return {
        "target": target.to_json(),
        "data": settings.data,
        "seed": settings.seed,
        "most_accurate_of_all": str(top),
        "summary": summary(rows),
        "budgets": rows,
    }


def selected_row(study: Path, multiple: float, target: Target, top: Structure) -> dict[str, Any]:
    """The result of `select`; its `kind` is feasible, infeasible, or above the frontier."""
    try:
        selected = select(study, f"{multiple}x", target=target)
    except InfeasibleBudgetError as error:
        print(f"{multiple}x: {error}", flush=True)
        return {"budget": multiple, "kind": "infeasible", "structure": error.fastest}
    print(f"{multiple}x: {selected.structure}, {selected.margin:.1%} unused", flush=True)
    return {
        "budget": multiple,
        "kind": "above the frontier" if selected.structure == top else "feasible",
        "structure": str(selected.structure),
        "measured_when_selected": selected.measured_ms / selected.master_ms,
        "margin_when_selected": selected.margin,
        "noisy_when_selected": selected.noisy,
    }


def measure_again(
    master: str, structures: list[str], target: Target, seconds: float
) -> dict[str, Measurement]:
    resolution = Structure.parse(master).resolution
    nets = {text: build(Structure.parse(text), 10) for text in dict.fromkeys([master, *structures])}
    return measure_interleaved(nets, target, resolution, reference=master, time_limit_s=seconds)


def compare_with_budget(
    row: dict[str, Any], measured: dict[str, Measurement], master: str
) -> dict[str, float | bool]:
    """The second measurement, in multiples of the MasterNet's latency."""
    net, reference = measured[row["structure"]], measured[master]
    if net.ratio is None:
        share = net.ms_per_image / reference.ms_per_image
        bound = net.high_ms_per_image / reference.low_ms_per_image
    else:
        share, bound = net.ratio.median, net.ratio.high
    return {
        "measured": share,
        "bound": bound,
        "kept": share <= row["budget"],
        "surely_kept": bound <= row["budget"],
        "unused": 1 - share / row["budget"],
        "noisy": net.noisy,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def rows_of_kind(kind: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["kind"] == kind]

    answered = rows_of_kind("feasible") + rows_of_kind("above the frontier")
    unused = [row["unused"] for row in rows_of_kind("feasible")]
    return {
        "budgets": len(rows),
        "feasible": len(rows_of_kind("feasible")),
        "infeasible": len(rows_of_kind("infeasible")),
        "above_the_frontier": len(rows_of_kind("above the frontier")),
        "answered": len(answered),
        "kept": sum(row["kept"] for row in answered),
        "surely_kept": sum(row["surely_kept"] for row in answered),
        "worst_overshoot": max((-row["unused"] for row in answered), default=None),
        "rightly_infeasible": sum(not row["kept"] for row in rows_of_kind("infeasible")),
        "unused_median": float(np.median(unused)) if unused else None,
        "unused_mean": float(np.mean(unused)) if unused else None,
        "unused_largest": max(unused, default=None),
        "unused_above_a_tenth": sum(share > MAX_UNUSED for share in unused),
    }


if __name__ == "__main__":
    main()
