"""Do the scores of assembled candidates predict their scores after full training?

Run from the repository:
    python benchmarks/candidate_rank.py --study FOLDER [--structures 16] [--screened]
Writes results/candidate_rank.json, with `_photos` in the name for a study of a folder of images,
and with `_screened` for --screened.

FOLDER is a finished study with inherited weights, such as those of pretrained.py. Random structures
of its space, or with --screened random ones of those that it has screened for its budget, are
assembled, trained and scored on the validation images as its candidates were, with
cross-validation where the study has it. Then each is trained as a winner: from its weights as a
candidate, or with cross-validation from the assembled ones. The rank correlations are those with
the test scores, over all structures and at equal latency:

- `by_cross_entropy`, `by_top1`: of the candidates' validation scores.
- `by_screening`: of the validation cross-entropy after the short training of screened structures.
- `by_prediction`: of the predictions from the trials of the study.
- `by_search`: of the predictions from the trials and the screening of the study.
- `by_both`: of the predictions from the trials and from the scores of these candidates.
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
from genets.core.data_name import LOADERS
from genets.core.errors import GenetsError
from genets.data import load_data
from genets.latency import Budget
from genets.nas.candidates.assembly import needed_trials
from genets.nas.candidates.runner import CandidateJob, CandidateRunner
from genets.nas.candidates.screening import make_screening_job
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.rounds import fit_model
from genets.nas.study.records import TrainedCandidate
from genets.nas.study.study import Study
from genets.nas.trials.run import restore_weights
from genets.nas.workers.job import Runner
from genets.networks import load_weights
from genets.structure import Structure
from genets.training import RunRecipe, Score, evaluate, fitting_threads, train_on
from truth import Truth, training_pool

NAME = "candidate_rank"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--structures", type=int, default=16)
    parser.add_argument("--screened", action="store_true", help="take structures of the screening")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-candidate-rank-") as name:
        try:
            job, short, recipe, structures = open_study(
                options.study, Path(name), options.structures, options.screened
            )
        except GenetsError as error:
            raise SystemExit(f"skipped: {error}") from error
        jobs = [(job, short, recipe, structure) for structure in structures]
        trained = []
        with training_pool() as pool:
            for each in pool.map(train_each, jobs):
                print(each, flush=True)
                trained.append(each)
    rows = make_rows(options.study, trained)
    name = NAME + "_photos" * (job.data not in LOADERS) + "_screened" * options.screened
    write_result(name, {"study": options.study.name, **correlations(rows), "rows": rows})


def open_study(
    folder: Path, weights: Path, count: int, are_screened: bool
) -> tuple[CandidateJob, CandidateJob, RunRecipe, list[Structure]]:
    """The trainings of candidates and of screened structures, the recipe of the winner, and random
    structures.
    """
    with Study.open(folder) as study:
        settings, num_classes = study.settings, study.num_classes()
        if settings.from_scratch or num_classes is None:
            raise GenetsError(f"study {folder} has no candidates with inherited weights")
        context = SearchContext(study, num_classes, budget=Budget.parse("1x"))
        job = replace(make_candidate_job(context), folder=weights, larger=None, int8_target=None)
        rng = np.random.default_rng(2020)
        if are_screened:
            screened = [each.structure for each in study.screened()]
            structures = [screened[place] for place in rng.permutation(len(screened))[:count]]
        else:
            structures = [context.space.sample(rng) for _ in range(count)]
        needed = needed_trials(structures, job.source, job.trials)
        for in_folds in {False, settings.num_folds > 1}:
            restore_weights(context, needed, in_folds=in_folds)
        return job, make_screening_job(context), study.recipe("final_training"), structures


@cache
def runner_of(job: CandidateJob) -> Runner[Structure, Any]:
    """Load images and MasterNets once for each process."""
    return job.runner()


def train_each(
    work: tuple[CandidateJob, CandidateJob, RunRecipe, Structure],
) -> tuple[TrainedCandidate, TrainedCandidate, Score]:
    """Screen a structure, train it as a candidate, and then as a winner, which is tested."""
    job, short, recipe, structure = work
    (screened,) = runner_of(short).run([structure])
    (candidate,) = runner_of(job).run([structure])
    whole = CandidateRunner(replace(job, folds=1))
    net, data, teacher = whole.start_training(structure)
    if job.folds == 1:
        load_weights(net, job.weights_path(structure))
    with fitting_threads(net, structure.resolution, recipe.batch_size):
        train_on(net, data, recipe, seed=job.seed, teacher=teacher)
    images = load_data(job.data, structure.resolution, check=False, splits=("test",),
                       preprocessing=job.preprocessing)  # fmt: skip
    return screened, candidate, evaluate(net, images.test)


def make_rows(
    folder: Path, trained: Sequence[tuple[TrainedCandidate, TrainedCandidate, Score]]
) -> list[dict[str, Any]]:
    """The scores of each structure, and its predictions by the model of the study."""
    with Study.open(folder) as study:
        num_classes, master = study.num_classes(), study.master_score()
        assert num_classes is not None
        assert master is not None
        context = SearchContext(study, num_classes, budget=Budget.parse("1x"))
        candidates = [candidate for _, candidate, _ in trained]
        from_trials, from_search, from_both = (
            fit_model(context, master, known) for known in ([], study.screened(), candidates)
        )
    return [
        {
            "structure": str(candidate.structure),
            "screened_cross_entropy": screened.score.cross_entropy,
            "screened_seconds": screened.seconds,
            "candidate_seconds": candidate.seconds,
            "candidate_top1": candidate.score.top1,
            "candidate_cross_entropy": candidate.score.cross_entropy,
            "predicted": from_trials.predict(candidate.structure).value,
            "predicted_by_search": from_search.predict(candidate.structure).value,
            "predicted_from_both": from_both.predict(candidate.structure).value,
            "test_top1": test.top1,
            "test_cross_entropy": test.cross_entropy,
        }
        for screened, candidate, test in trained
    ]


def correlations(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spearman of scores and predictions with the test scores."""
    structures = tuple(Structure.parse(row["structure"]) for row in rows)
    scores = np.array([[(row["test_top1"], row["test_cross_entropy"])] for row in rows])
    truth = Truth(structures, scores)
    return {
        "by_cross_entropy": truth.correlation([-row["candidate_cross_entropy"] for row in rows]),
        "by_screening": truth.correlation([-row["screened_cross_entropy"] for row in rows]),
        "by_top1": truth.correlation([row["candidate_top1"] for row in rows]),
        "by_prediction": truth.correlation([row["predicted"] for row in rows]),
        "by_search": truth.correlation([row["predicted_by_search"] for row in rows]),
        "by_both": truth.correlation([row["predicted_from_both"] for row in rows]),
    }


if __name__ == "__main__":
    main()
