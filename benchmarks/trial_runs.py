"""Trials of one way and seed, run as a search runs them, and kept.

They are the costly part of every comparison of ways to predict, so each run is a
line of results/trials_<data>.jsonl, with its settings, and only those that are missing are run.
Remove that file when the code of trials has changed.
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
from genets.nas.settings.settings import SearchSettings, TrainingSettings
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.plan import GROUP_SIZE, group_trials, plan_trials
from genets.nas.trials.runner import TrialJob
from genets.nas.trials.workers import run_inline
from genets.networks import build, save_weights
from genets.structure import Structure, format_super_block, parse_super_block
from genets.training import Score, evaluate, fitting_threads, train
from genets.training.score import Metric
from shapes import ShapesTrialJob
from truth import WORKERS

# What trials depend on, of all settings of a search.
DEPENDS = {
    "data", "master", "seed", "trials_per_super_block", "controls_per_super_block", "sampling",
    "trials", "space", "master_training", "trial_training",
}  # fmt: skip


@dataclass(frozen=True)
class TrialRun:
    """The results of all trials of one search, and the MasterNet's score on the same images."""

    settings: SearchSettings
    master: Score
    results: tuple[TrialResult, ...]

    @property
    def core_seconds(self) -> float:
        """Of all trials, each in a process of one thread; the start of processes is left out."""
        return sum(result.seconds for result in self.results)

    def predict(self, structures: tuple[Structure, ...], form: Form, metric: Metric) -> list[float]:
        """What the regression of these trials makes of each structure; more is better."""
        model = AccuracyModel.fit(
            self.settings.structure,
            self.results,
            getattr(self.master, metric),
            metric=metric,
            form=form,
        )
        return [model.predict(structure).mean for structure in structures]


def trials_file(data: str) -> Path:
    return RESULTS / f"trials_{data}.jsonl"


def trial_run(settings: SearchSettings, kept: Path | None) -> TrialRun:
    """The trials of these settings, from the file where they are kept or run now.

    kept: None runs them, and keeps nothing.
    """
    every = settings.model_dump(mode="json", include=DEPENDS)
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    for entry in map(json.loads, lines):
        if entry["settings"] == every:
            return TrialRun(settings, Score(**entry["master"]), _read(entry["trials"]))
    run = _run(settings)
    if kept is not None:
        entry = {
            "date": time.strftime("%Y-%m-%d"),
            "settings": every,
            "master": asdict(run.master),
            "trials": [_row(result) for result in run.results],
        }
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return run


def _run(settings: SearchSettings) -> TrialRun:
    around = settings.space.design_space().around(settings.structure)
    each = (settings.trials_per_super_block, settings.controls_per_super_block)
    planned = plan_trials(around, *each, seed=settings.seed, sampling=settings.sampling)
    folder, master = trained_master(
        settings.data, settings.structure, settings.master_training, settings.seed
    )
    job_of = ShapesTrialJob if settings.data == "shapes" else TrialJob
    job = job_of(
        master=settings.structure,
        master_weights=Path(folder.name) / "master.safetensors",
        data=settings.data,
        recipe=settings.trial_training.recipe(),
        thaw=settings.trial_training.thaw,
        seed=settings.seed,
    )
    groups = group_trials(planned, 1 if settings.trials == "separate" else GROUP_SIZE)
    return TrialRun(settings, master, tuple(run_inline(job, groups, WORKERS)))


@cache
def trained_master(
    data_name: str, master: Structure, training: TrainingSettings, seed: int
) -> tuple[tempfile.TemporaryDirectory[str], Score]:
    """A folder with the MasterNet's weights, and its validation score; the same for all ways."""
    data = load_data(data_name, master.resolution, seed=seed)
    folder = tempfile.TemporaryDirectory(prefix="genets-master-")
    with seeded_globals("master", seed):
        net = build(master, data.num_classes)
    recipe = training.recipe()
    with fitting_threads(net, master.resolution, recipe.batch_size):
        train(net, data.train, recipe, seed=seed)
    save_weights(net, Path(folder.name) / "master.safetensors", {})
    return folder, evaluate(net, data.validation)


def _row(result: TrialResult) -> list[Any]:
    trial = result.trial
    key = [trial.index, format_super_block(trial.super_block), trial.repeat]
    scores = [result.top1, result.cross_entropy, round(result.seconds, 3), result.reason]
    return [*key, result.status, *scores]


def _read(rows: list[list[Any]]) -> tuple[TrialResult, ...]:
    return tuple(
        TrialResult(Trial(index, parse_super_block(notation), repeat), *rest)
        for index, notation, repeat, *rest in rows
    )
