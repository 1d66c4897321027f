"""Whole searches with and without screening: how much training, and how good is the winner?

Run from the repository:
    python benchmarks/screening.py [--seeds 0 1 2 3 4]
    python benchmarks/screening.py --data cifar10 --photos PHOTOGRAPHS --seeds 0 1 2
Writes results/screening.json, or results/screening_cifar10.json, after each search. Searches in the
file stay if they are not run again.

`screened` has the defaults of a search that inherits weights. `trials alone` has the defaults that
these searches had before: 14 trials and 2 control trials for each super-block, 100 steps for each
trial, no screening and four candidates.

All searches of a run have one latency table, which is measured first. The latency of a network is
the prediction of this table, so the noise of measurements changes no result. Each search runs in a
process of one thread, as many as there are cores at a time, so the seconds of a phase are those of
one core. The winners are scored on the test split.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, read_result, write_result
from genets.latency import LatencyTable, Measurement, TableSettings, Target
from genets.latency.timing.measurement import Ratio
from genets.nas.laboratory import Laboratory
from genets.nas.search import run_search
from genets.nas.selection.network_latency import narrow_share
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge
from genets.structure import Structure
from truth import TINY, add_data_options, data_settings, training_pool

NAME = "screening"
WAYS: dict[str, dict[str, Any]] = {
    "screened": {},
    "trials alone": {
        "trial_training": {"feature_steps": 100},
        "screen": 0,  # which decides the numbers of trials and candidates
    },
}
TRAINING_PHASES = (
    "MasterNet training", "trials", "screening", "candidate training", "final training",
)  # fmt: skip


class TableLaboratory(Laboratory):
    """Gives every network the latency that a table predicts.

    table: the table of all searches.
    """

    def __init__(self, table: Path) -> None:
        self.table = LatencyTable.load(table)

    def prepare_table(self, path: Path, expected: TableSettings, **_: Any) -> LatencyTable:
        if not path.exists():
            self.table.save(path)
        return LatencyTable.load(path)

    def measure(
        self, structures: Sequence[Structure], target: Target, *_: Any, **__: Any
    ) -> dict[Structure, Measurement]:
        return {structure: self._predict(structure, target) for structure in structures}

    def _predict(self, structure: Structure, target: Target) -> Measurement:
        """The predicted latency; its ratio to the MasterNet has the interval of a calm CPU."""
        table = self.table
        ms = table.predict_ms_per_image(structure)
        half = 0.0 if structure == table.space.master else narrow_share(target)
        ratio = ms / table.master_ms_per_image
        return Measurement(
            ms, ms, ms, ms, ms, (ms,), False, {}, "predicted", target, structure.resolution,
            ratio=Ratio(ratio, ratio * (1 - half), ratio * (1 + half)),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--budget", default="0.5x", help="multiple of the MasterNet's latency")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=[*WAYS])
    add_data_options(parser)
    add_tiny_option(parser)
    options = parser.parse_args()
    name = NAME if options.data == "digits" else f"{NAME}_{options.data}"
    stored = {} if options.tiny else read_result(name)
    runs = stored.get("runs", {}) if stored.get("budget") == options.budget else {}
    with (
        tempfile.TemporaryDirectory(prefix="genets-screening-") as folder,
        data_settings(options) as data,
    ):
        chosen = {"budget": options.budget, "from_scratch": False, "target": {"threads": 1}}
        base, shorter = merge(data, chosen), TINY if options.tiny else {}
        table = make_table(SearchSettings(**base), Path(folder) / "table.json")
        searches = [
            (way, seed, merge(base, WAYS[way], shorter, {"seed": seed}), table)
            for seed in options.seeds
            for way in options.ways
        ]
        with training_pool() as pool:
            for run in pool.map(search, searches):
                print(run, flush=True)
                runs[f"{run['way']}, seed {run['seed']}"] = run
                figures = {
                    "budget": options.budget,
                    "mean": summary([*runs.values()]),
                    "runs": runs,
                }
                if not options.tiny:
                    write_result(name, figures)
    if options.tiny:
        print(json.dumps(summary([*runs.values()]), indent=2))


def make_table(settings: SearchSettings, path: Path) -> Path:
    """Measure the latency table of all searches."""
    space = settings.space.design_space().around(settings.structure)
    expected = TableSettings(space, settings.target.resolved(), 10)
    seconds = settings.table_seconds
    Laboratory().prepare_table(path, expected, seed=settings.seed, time_limit_s=seconds)
    return path


def search(work: tuple[str, int, dict[str, Any], Path]) -> dict[str, Any]:
    """Run one search, and give its winner and its times."""
    way, seed, settings, table = work
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="genets-screening-") as folder:
        result = run_search(
            SearchSettings(**settings), Path(folder) / "study", workers=1,
            lab=TableLaboratory(table),
        )  # fmt: skip
    return {
        "way": way,
        "seed": seed,
        "test_top1": result.winner.top1,
        "test_cross_entropy": result.winner.cross_entropy,
        "structure": str(result.selected.structure),
        "times_master": result.selected.measured_ms / result.selected.master_ms,
        "core_seconds": time.process_time() - began,
        "training_seconds": sum(result.seconds.get(name, 0.0) for name in TRAINING_PHASES),
        "seconds": result.seconds,
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, and the mean lead with its standard error."""
    means: dict[str, Any] = {}
    for way in dict.fromkeys(run["way"] for run in runs):
        own = [run for run in runs if run["way"] == way]
        means[way] = {"seeds": len(own)} | {
            name: [float(np.mean(values)), float(np.std(values))]
            for name in ("test_top1", "test_cross_entropy", "core_seconds", "training_seconds")
            for values in [[run[name] for run in own]]
        }
    for name in ("test_top1", "test_cross_entropy", "training_seconds"):
        by_way = {way: {r["seed"]: r[name] for r in runs if r["way"] == way} for way in WAYS}
        first, second = by_way.values()
        pairs = sorted(first.keys() & second.keys())
        if name == "training_seconds":
            shares = [first[seed] / second[seed] for seed in pairs]
            means["share of the training"] = float(np.mean(shares)) if pairs else None
        elif len(pairs) > 1:
            leads = [first[seed] - second[seed] for seed in pairs]
            error = float(np.std(leads, ddof=1) / len(pairs) ** 0.5)
            means[f"difference in {name}"] = [float(np.mean(leads)), error]
    return means


if __name__ == "__main__":
    main()
