"""Runs and stores the trials of one variant and seed, as a search runs them.

Trials are the costly part of every comparison of predictions. Each run is therefore a line of
results/trials_<data>.jsonl with its settings, and only missing runs are made. Delete that file
after a change in the code of trials.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conditions import RESULTS
from genets.data import load_data
from genets.data.seeds import seeded_globals
from genets.nas.accuracy.model import AccuracyModel, Form
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.training import TrainingSettings
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.inherited import InheritedTrialJob
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob
from genets.nas.trials.weights import TrialWeights
from genets.nas.workers.local import run_inline
from genets.networks import build, save_weights
from genets.structure import Structure, parse_super_block
from genets.training import Score, evaluate, fitting_threads, train_on
from genets.training.score import Metric
from shapes import ShapesTrialJob
from truth import WORKERS

# The settings of a search that the results of trials depend on.
DEPENDS = {
    "data", "master", "seed", "trials_per_super_block", "controls_per_super_block", "sampling",
    "trials", "space", "master_training", "trial_training", "from_scratch",
}  # fmt: skip


TRIALS = "trials_"


@dataclass(frozen=True)
class TrialRun:
    """The results of all trials of a search, and the MasterNet's score on the same images."""

    settings: SearchSettings
    master: Score
    results: tuple[TrialResult, ...]

    @property
    def core_seconds(self) -> float:
        """Sum over all trials, which run in processes of one thread; their start is not counted."""
        return sum(result.seconds for result in self.results)

    def predict(self, structures: tuple[Structure, ...], form: Form, metric: Metric) -> list[float]:
        """The predicted gain of each structure; higher is better."""
        model = AccuracyModel.fit(
            self.settings.structure,
            self.results,
            getattr(self.master, metric),
            metric=metric,
            form=form,
            images=self.master.images,
        )
        return [model.predict(structure).mean for structure in structures]


def trials_file(data: str) -> Path:
    return RESULTS / f"{TRIALS}{data}.jsonl"


def trial_run(settings: SearchSettings, stored: Path | None) -> TrialRun:
    """The trials of these settings, read from a file if it has them, or run now.

    Args:
        settings: of the search.
        stored: the file; None runs the trials and stores nothing.
    """
    relevant = settings.model_dump(mode="json", include=DEPENDS)
    if stored is not None:
        relevant["data"] = stored.stem.removeprefix(TRIALS)  # the folder of photographs may change
    lines = stored.read_text().splitlines() if stored is not None and stored.exists() else []
    for entry in map(json.loads, lines):
        if entry["settings"] == relevant:
            return TrialRun(settings, Score(**entry["master"]), read_trials(entry["trials"]))
    run = _run(settings)
    if stored is not None:
        entry = {
            "date": time.strftime("%Y-%m-%d"),
            "settings": relevant,
            "master": asdict(run.master),
            "trials": [_row(result) for result in run.results],
        }
        with stored.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return run


def _run(settings: SearchSettings) -> TrialRun:
    space = settings.space.design_space().around(settings.structure)
    counts = (settings.trials_per_super_block, settings.controls_per_super_block)
    planned = plan_trials(space, *counts, seed=settings.seed, sampling=settings.sampling)
    folder, master = train_master(
        settings.data, settings.structure, settings.master_training, settings.seed
    )
    job = _make_job(settings, Path(folder.name))
    groups = group_trials(planned, 1 if settings.trials == "separate" else GROUP_SIZE)
    return TrialRun(settings, master, tuple(run_inline(job, groups, WORKERS)))


def _make_job(settings: SearchSettings, folder: Path) -> TrialJob | InheritedTrialJob:
    """The job of the trials. folder: that of the MasterNet's weights."""
    shared: dict[str, Any] = {
        "master": settings.structure,
        "master_weights": folder / "master.safetensors",
        "data": settings.data,
        "recipe": settings.trial_training.recipe(),
        "seed": settings.seed,
    }
    if not settings.from_scratch:
        kept = TrialWeights(folder / "trials", 0)
        return InheritedTrialJob(**shared, steps=settings.trial_training.feature_steps, kept=kept)
    job_type = ShapesTrialJob if settings.data == "shapes" else TrialJob
    return job_type(**shared, thaw=settings.trial_training.thaw)


@cache
def train_master(
    data_name: str, master: Structure, training: TrainingSettings, seed: int
) -> tuple[tempfile.TemporaryDirectory[str], Score]:
    """A folder with the MasterNet's weights, and its validation score, for all variants."""
    data = load_data(data_name, master.resolution, seed=seed)
    folder = tempfile.TemporaryDirectory(prefix="genets-master-")
    with seeded_globals("master", seed):
        net = build(master, data.num_classes)
    recipe = training.recipe()
    with fitting_threads(net, master.resolution, recipe.batch_size):
        train_on(net, data, recipe, seed=seed)
    save_weights(net, Path(folder.name) / "master.safetensors", {})
    return folder, evaluate(net, data.validation)


def _row(result: TrialResult) -> list[Any]:
    trial = result.trial
    key = [trial.index, str(trial.super_block), trial.repeat]
    scores = [result.top1, result.cross_entropy, round(result.seconds, 3), result.reason]
    return [*key, result.status, *scores]


def read_trials(rows: list[list[Any]]) -> tuple[TrialResult, ...]:
    """The stored trials of a run."""
    return tuple(
        TrialResult(Trial(index, parse_super_block(notation), repeat), *rest)
        for index, notation, repeat, *rest in rows
    )
