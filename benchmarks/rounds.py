"""A search of two rounds against a search of one round with equally many trials and trainings.

Run from the repository: python benchmarks/rounds.py [--seeds 3] [--budget 0.5x]. Writes
results/rounds.json. For each seed there are two searches with the settings of the demo: one of two
rounds, and one of one round with twice the trials per super-block and twice the candidates. Scores
are those of the exported networks on the test split. For the two rounds, the score of the first
round's best candidate is reported too, because the second round starts from it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conditions import add_tiny_option, write_result
from genets.data import load_data
from genets.data.seeds import derive_seed
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.networks import build, load_weights
from genets.structure import Structure
from genets.training import evaluate

TRIALS, CONTROLS, CANDIDATES = 14, 2, 4  # of one round
TINY: dict[str, Any] = {
    "master_training": {"epochs": 2},
    "trial_training": {"epochs": 1},
    "final_training": {"epochs": 2},
    "confirm_epochs": 2,
    "table_seconds": 2.0,
    "measure_seconds": 0.2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", default="0.5x")
    add_tiny_option(parser)
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        runs.append(compare(seed, options.budget, TINY if options.tiny else {}))
        print(runs[-1], flush=True)
    figures = {
        "seeds": options.seeds,
        "budget": options.budget,
        "mean_test_cross_entropy": {
            name: float(np.mean([run[name]["cross_entropy"] for run in runs]))
            for name in ("first_round", "two_rounds", "one_round")
        },
        "runs": runs,
    }
    if not options.tiny:
        write_result("rounds", figures)


def compare(seed: int, budget: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Test scores of the first round's best, of two rounds, and of one round of equal cost."""
    trials, controls = (2, 1) if changes else (TRIALS, CONTROLS)
    shared = {"data": "digits", "budget": budget, "seed": seed, "from_scratch": True, **changes}
    with tempfile.TemporaryDirectory(prefix="genets-rounds-") as folder:
        two = search_with(Path(folder) / "two", shared, 2, trials, controls, CANDIDATES)
        one = search_with(Path(folder) / "one", shared, 1, 2 * trials, 2 * controls, 2 * CANDIDATES)
        first = two.rounds[1].master if len(two.rounds) > 1 else two.selected.structure
        return {
            "seed": seed,
            "rounds": len(two.rounds),
            "first_round": {"structure": str(first), **score_on_test(first, two.folder, seed)},
            "two_rounds": {"structure": str(two.selected.structure), **two.winner.by_metric()},
            "one_round": {"structure": str(one.selected.structure), **one.winner.by_metric()},
        }


def search_with(
    folder: Path, shared: dict[str, Any], rounds: int, trials: int, controls: int, confirm: int
) -> SearchResult:
    settings = SearchSettings(
        **shared,
        rounds=rounds,
        trials_per_super_block=trials,
        controls_per_super_block=controls,
        confirm=confirm,
    )
    return run_search(settings, folder)


def score_on_test(structure: Structure, folder: Path, seed: int) -> dict[str, float | None]:
    """Test scores of a trained candidate, which has as many epochs as a winner here."""
    data = load_data("digits", structure.resolution, seed=seed)
    net = build(structure, data.num_classes)
    load_weights(net, folder / "confirmed" / f"{derive_seed(str(structure)):016x}.safetensors")
    score = evaluate(net, data.test)
    return score.by_metric()


if __name__ == "__main__":
    main()
