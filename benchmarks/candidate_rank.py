"""Do the scores of assembled candidates predict their scores after full training?

Run from the repository:
    python benchmarks/candidate_rank.py --study FOLDER [--structures 16]
Writes results/candidate_rank.json.

FOLDER is a finished study with inherited weights, such as those of pretrained.py. Random structures
of its space are assembled, trained and scored on the validation images as its candidates were, with
cross-validation where the study has it. Then each is trained as a winner: from its weights as a
candidate, or with cross-validation from the assembled ones. The rank correlation is that of the
candidates' validation scores with the test scores, over all structures and at equal latency.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from conditions import write_result
from genets.core.errors import GenetsError
from genets.data import load_data
from genets.latency import Budget
from genets.nas.candidates.assembly import needed_trials
from genets.nas.candidates.runner import CandidateJob, CandidateRunner
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.study.study import Study
from genets.nas.trials.run import restore_weights
from genets.nas.workers.job import Runner
from genets.networks import load_weights
from genets.structure import Structure
from genets.training import RunRecipe, evaluate, fitting_threads, train_on
from truth import Truth, training_pool

NAME = "candidate_rank"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--structures", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-candidate-rank-") as name:
        try:
            job, recipe, structures = open_study(options.study, Path(name), options.structures)
        except GenetsError as error:
            raise SystemExit(f"skipped: {error}") from error
        jobs = [(job, recipe, structure) for structure in structures]
        rows = []
        with training_pool() as pool:
            for row in pool.map(train_twice, jobs):
                print(row, flush=True)
                rows.append(row)
    write_result(
        NAME, {"study": options.study.name, **correlations(structures, rows), "rows": rows}
    )


def open_study(
    folder: Path, weights: Path, count: int
) -> tuple[CandidateJob, RunRecipe, list[Structure]]:
    """The training of candidates, the recipe of the winner, and random structures."""
    with Study.open(folder) as study:
        settings, num_classes = study.settings, study.num_classes()
        if settings.from_scratch or num_classes is None:
            raise GenetsError(f"study {folder} has no candidates with inherited weights")
        context = SearchContext(study, num_classes, budget=Budget.parse("1x"))
        job = replace(make_candidate_job(context), folder=weights, larger=None, int8_target=None)
        rng = np.random.default_rng(2020)
        structures = [context.space.sample(rng) for _ in range(count)]
        needed = needed_trials(structures, job.source, job.trials)
        for in_folds in {False, settings.num_folds > 1}:
            restore_weights(context, needed, in_folds=in_folds)
        return job, study.recipe("final_training"), structures


@cache
def runner_of(job: CandidateJob) -> Runner[Structure, Any]:
    """Load images and MasterNets once for each process."""
    return job.runner()


def train_twice(work: tuple[CandidateJob, RunRecipe, Structure]) -> dict[str, Any]:
    """Train a structure as a candidate, and then as a winner."""
    job, recipe, structure = work
    (candidate,) = runner_of(job).run([structure])
    whole = CandidateRunner(replace(job, folds=1))
    net, data, teacher = whole.start_training(structure)
    if job.folds == 1:
        load_weights(net, job.weights_path(structure))
    with fitting_threads(net, structure.resolution, recipe.batch_size):
        train_on(net, data, recipe, seed=job.seed, teacher=teacher)
    images = load_data(job.data, structure.resolution, check=False, splits=("test",),
                       preprocessing=job.preprocessing)  # fmt: skip
    test = evaluate(net, images.test)
    return {
        "structure": str(structure),
        "candidate_top1": candidate.top1,
        "candidate_cross_entropy": candidate.cross_entropy,
        "test_top1": test.top1,
        "test_cross_entropy": test.cross_entropy,
    }


def correlations(structures: Sequence[Structure], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spearman of the candidates' cross-entropy and top-1 with the test scores."""
    scores = np.array([[(row["test_top1"], row["test_cross_entropy"])] for row in rows])
    truth = Truth(tuple(structures), scores)
    return {
        "by_cross_entropy": truth.correlation([-row["candidate_cross_entropy"] for row in rows]),
        "by_top1": truth.correlation([row["candidate_top1"] for row in rows]),
    }


if __name__ == "__main__":
    main()
