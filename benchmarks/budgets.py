"""Are budgets kept? Twenty budgets of one study, each network measured again afterwards.

Run from the repository: python benchmarks/budgets.py [--study FOLDER]. Writes results/budgets.json.
One search on digits, or the finished study in FOLDER; from its trials `genets.select` finds a
network for each budget, given as a multiple of the MasterNet's latency. Afterwards, in a process of
its own, all networks found are measured in turn with the MasterNet, and the budget is held
against the MasterNet of that measuring: `kept` by the median, `surely_kept` by the upper 95 %
bound against the MasterNet's lower one, as the promise was given. `unused` is the share of the
budget that this median leaves. Two kinds of budgets are set apart: where nothing fits, the fastest
network that was found is measured again, to see that it does not; and where the most accurate
structure of the whole space fits with room to spare, the rest of the budget has no use.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import write_result
from genets.core.errors import InfeasibleBudgetError
from genets.latency import Measurement, Target, measure_interleaved
from genets.nas.reselect import select
from genets.nas.search import run_search
from genets.nas.settings.layers import merge
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import load_settings
from genets.networks import build
from genets.structure import Structure
from truth import TINY, alone

UNLIMITED = "1000x"
MOST_UNUSED = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="a finished study, or where to make one")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--range", type=float, nargs=2, default=(0.3, 1.5), metavar=("LOW", "HIGH"))
    parser.add_argument("--seconds", type=float, default=4.0, help="for each network, afterwards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tiny", action="store_true", help="one epoch each: whether it runs; no results are kept"
    )
    options = parser.parse_args()
    low, high = options.range
    multiples = [round(float(m), 4) for m in np.linspace(low, high, options.budgets)]
    with tempfile.TemporaryDirectory(prefix="genets-budgets-") as folder:
        study = options.study or Path(folder) / "study"
        make_study(study, options.seed, tiny=options.tiny)
        figures = figures_of(study, multiples, options.seconds)
    if options.tiny:
        print(json.dumps(figures, indent=2))
    else:
        write_result("budgets", figures, Target.from_json(figures["target"]))


def make_study(folder: Path, seed: int, *, tiny: bool) -> None:
    """Finished already, or made now; the best predicted is taken, as `select` takes it."""
    if not (folder / "study.toml").exists():
        shorter = TINY | {"table_seconds": 10.0, "measure_seconds": 0.5} if tiny else {}
        own = {"data": "digits", "budget": "1.5x", "seed": seed, "confirm": 1}
        run_search(SearchSettings(**merge(own, shorter)), folder)


def figures_of(study: Path, multiples: list[float], seconds: float) -> dict[str, Any]:
    settings = load_settings(study)
    top = select(study, UNLIMITED).structure
    rows = [selected_row(study, multiple, top) for multiple in multiples]
    nets = dict.fromkeys(row["structure"] for row in rows)
    measured = alone(measure_again, settings.master, [*nets], settings.target, seconds)
    rows = [row | again(row, measured, settings.master) for row in rows]
    return {
        "target": settings.target.to_json(),
        "data": settings.data,
        "seed": settings.seed,
        "most_accurate_of_all": str(top),
        "summary": summary(rows),
        "budgets": rows,
    }


def selected_row(study: Path, multiple: float, top: Structure) -> dict[str, Any]:
    """What `select` answers; `kind` is feasible, infeasible, or above the frontier."""
    try:
        found = select(study, f"{multiple}x")
    except InfeasibleBudgetError as error:
        print(f"{multiple}x: {error}", flush=True)
        return {"budget": multiple, "kind": "infeasible", "structure": error.fastest}
    print(f"{multiple}x: {found.structure}, {found.margin:.1%} left", flush=True)
    return {
        "budget": multiple,
        "kind": "above the frontier" if found.structure == top else "feasible",
        "structure": str(found.structure),
        "measured_when_selected": found.measured_ms / found.master_ms,
        "margin_when_selected": found.margin,
        "noisy_when_selected": found.noisy,
    }


def measure_again(
    master: str, structures: list[str], target: Target, seconds: float
) -> dict[str, Measurement]:
    resolution = Structure.parse(master).resolution
    nets = {text: build(Structure.parse(text), 10) for text in dict.fromkeys([master, *structures])}
    return measure_interleaved(nets, target, resolution, time_limit_s=seconds)


def again(
    row: dict[str, Any], measured: dict[str, Measurement], master: str
) -> dict[str, float | bool]:
    """The later measurement, in multiples of the MasterNet's latency."""
    net, reference = measured[row["structure"]], measured[master]
    share = net.ms_per_image / reference.ms_per_image
    bound = net.high_ms_per_image / reference.low_ms_per_image
    return {
        "measured": share,
        "bound": bound,
        "kept": share <= row["budget"],
        "surely_kept": bound <= row["budget"],
        "unused": 1 - share / row["budget"],
        "noisy": net.noisy,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def of(kind: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["kind"] == kind]

    answered = of("feasible") + of("above the frontier")
    unused = [row["unused"] for row in of("feasible")]
    return {
        "budgets": len(rows),
        "feasible": len(of("feasible")),
        "infeasible": len(of("infeasible")),
        "above_the_frontier": len(of("above the frontier")),
        "answered": len(answered),
        "kept": sum(row["kept"] for row in answered),
        "surely_kept": sum(row["surely_kept"] for row in answered),
        "worst_overshoot": max((-row["unused"] for row in answered), default=None),
        "rightly_infeasible": sum(not row["kept"] for row in of("infeasible")),
        "unused_mean": float(np.mean(unused)) if unused else None,
        "unused_largest": max(unused, default=None),
        "unused_above_a_tenth": sum(share > MOST_UNUSED for share in unused),
    }


if __name__ == "__main__":
    main()
