"""Ranking of MasterNets (paper, section 4.1): structures trained under one recipe.

Every structure is trained from scratch with the same seeds, so that the order of the images is
the same for all structures and cancels in a comparison of two. The noise is the part that remains
after removing the mean of each structure and the mean of each seed. It is pooled over all
structures, because two or three trainings of one structure say little about their own spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from genets.core.errors import GenetsError, TrainingError, shown
from genets.core.json_files import read_json, write_json
from genets.core.validation import to_plain
from genets.data import ImageData, seeded_globals
from genets.networks import build
from genets.structure import Structure
from genets.training import (
    Recipe,
    evaluate,
    fitting_threads,
    make_recipe,
    train_on,
    with_all_fields,
)
from genets.training.score import NOT_RECORDED, Metric, Score, metric_score

CONFIDENCE = 0.95

# Called with the number of finished trainings, the number of all trainings, and the name of the
# structure that was trained last.
OnTraining = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class MasterScore:
    """The validation score of one training of one structure.

    A failed training has a reason instead.
    """

    name: str
    seed: int
    score: Score | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        nothing: dict[str, Any] = dict.fromkeys(metric.value for metric in Metric)
        scores = self.score.to_json() if self.score else nothing
        return {"name": self.name, "seed": self.seed, **scores, "reason": self.reason}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> MasterScore:
        """The inverse of `to_json`. Raises the errors of foreign JSON."""
        score = None if record["top1"] is None else Score.from_json(record)
        return cls(str(record["name"]), int(record["seed"]), score, str(record["reason"]))


@dataclass(frozen=True, slots=True)
class RankedMaster:
    """A structure in the ranking.

    Attributes:
        mean: Mean of the metric over the trainings.
        low, high: The 95 % interval of the mean.
        behind: Difference of the mean to the best mean, 0 or more.
        tied: Whether the difference to the best structure is within its 95 % interval
            (two-sided, each comparison on its own).
        ms_per_image: None where the latency was not measured.
    """

    name: str
    structure: Structure
    trainings: int
    mean: float
    low: float
    high: float
    behind: float
    tied: bool
    ms_per_image: float | None = None


@dataclass(frozen=True)
class MasterRanking:
    """Structures and the scores of their trainings.

    Attributes:
        metric: The metric of the ranking.

    Raises:
        GenetsError: There are fewer than two structures, or no structure has a score for each
            seed.
    """

    structures: Mapping[str, Structure]
    scores: tuple[MasterScore, ...]
    metric: Metric = Metric.TOP1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", Metric.parse(self.metric))
        check_masters(self.structures)
        if not len(self._table):
            reasons = "; ".join(f"{score.name}: {score.reason}" for score in self.scores)
            raise GenetsError(f"no structure was trained with every seed ({reasons})")

    @property
    def best(self) -> Structure:
        return self.ranked[0].structure

    @property
    def failed(self) -> tuple[MasterScore, ...]:
        return tuple(score for score in self.scores if score.reason)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of one training; NaN with one structure or one seed."""
        values = self._values
        freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
        means = values.mean(axis=1, keepdims=True) + values.mean(axis=0) - values.mean()
        return math.sqrt(float(((values - means) ** 2).sum()) / freedom) if freedom else math.nan

    @cached_property
    def ranked(self) -> tuple[RankedMaster, ...]:
        """The structures that were trained with every seed, the best first."""
        values = self._values
        trainings = values.shape[1]
        freedom = (values.shape[0] - 1) * (trainings - 1)
        factor = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) if freedom else math.nan
        half = factor * self.noise / math.sqrt(trainings)
        means = values.mean(axis=1)
        best = means.max() if self.metric.higher_is_better else means.min()
        rows = [
            RankedMaster(
                name,
                self.structures[name],
                trainings,
                float(mean),
                float(mean) - half,
                float(mean) + half,
                behind := abs(float(best - mean)),
                # A difference of two means has twice the variance of one mean. Where the noise is
                # unknown (NaN), every structure is tied.
                not behind > half * math.sqrt(2),
            )
            for name, mean in zip(self._table, means, strict=True)
        ]
        return tuple(sorted(rows, key=lambda row: (row.behind, row.name)))

    def with_latencies(self, ms_per_image: Mapping[str, float]) -> tuple[RankedMaster, ...]:
        """The ranking with measured latencies."""
        return tuple(replace(row, ms_per_image=ms_per_image[row.name]) for row in self.ranked)

    @cached_property
    def _table(self) -> dict[str, list[float]]:
        """The metric by structure and seed, without structures that lack a seed."""
        seeds = sorted({score.seed for score in self.scores})
        by_key = {
            (each.name, each.seed): each.score[self.metric] for each in self.scores if each.score
        }
        rows = {name: [by_key.get((name, seed)) for seed in seeds] for name in self.structures}
        numbers = {name: [v for v in row if v is not None] for name, row in rows.items()}
        return {name: row for name, row in numbers.items() if len(row) == len(seeds)}

    @property
    def _values(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(list(self._table.values()), np.float64)


def check_masters(structures: Mapping[str, Structure]) -> None:
    """Raise GenetsError unless these structures can be compared under one recipe."""
    if len(structures) < 2:
        raise GenetsError(f"a ranking needs at least two structures, not {shown(list(structures))}")
    sizes = {structure.resolution for structure in structures.values()}
    if len(sizes) > 1:
        raise GenetsError(
            f"structures under one recipe need one resolution, not {sorted(sizes)}; give one"
        )
    duplicates = len(structures) - len(set(structures.values()))
    if duplicates:
        raise GenetsError(f"the structures of a ranking must differ, but {duplicates} are repeated")


def missing_trainings(
    names: Sequence[str], seeds: Sequence[int], scores: Sequence[MasterScore]
) -> list[tuple[str, int]]:
    """The trainings without a score: all structures with the first seed, then with the next."""
    finished = {(score.name, score.seed) for score in scores}
    return [(name, seed) for seed in seeds for name in names if (name, seed) not in finished]


def rank_masters(
    structures: Mapping[str, Structure],
    data: ImageData,
    recipe: Recipe,
    *,
    seeds: Sequence[int] = (0, 1),
    metric: Metric = Metric.TOP1,
    device: str = "cpu",
    keep: str | Path | None = None,
    on_training: OnTraining | None = None,
) -> MasterRanking:
    """Train every structure from scratch with every seed, and rank them (paper, section 4.1).

    A training whose loss is no longer finite has failed, and its structure is not ranked.

    Args:
        structures: The structures by name; they must have the resolution of the data.
        data: The networks are trained on the training split and scored on the validation split.
            The test split is not read.
        recipe: The recipe of every training.
        seeds: The seeds of the trainings of each structure.
        metric: The metric of the ranking.
        device: The device of the trainings, such as "cpu" or "cuda".
        keep: A JSON file that keeps each training as it ends. A file of the same structures,
            images and recipe is continued. Only one process at a time may use the file.
        on_training: Called after each training.

    Returns:
        The ranking.

    Raises:
        GenetsError: There are fewer than two structures, their resolutions differ, the file is of
            other settings, or no structure was trained with every seed.
    """
    check_masters(structures)
    if not seeds or len(set(seeds)) < len(seeds):
        raise GenetsError(f"seeds must be one or more different integers, not {list(seeds)}")
    conditions = {
        "structures": {name: str(structure) for name, structure in structures.items()},
        "data": [data.name, len(data.train), len(data.validation)],
        "images": data.fingerprint,
        "recipe": to_plain(with_all_fields(recipe)),
    }
    path = None if keep is None else Path(keep)
    scores = [] if path is None else _read_scores(path, conditions, metric)
    total = len(structures) * len(seeds)
    for name, seed in missing_trainings(list(structures), seeds, scores):
        scores.append(_trained(name, structures[name], data, recipe, seed, device))
        if path is not None:
            write_json(path, {**conditions, "scores": [score.to_json() for score in scores]})
        if on_training is not None:
            on_training(sum(score.seed in seeds for score in scores), total, name)
    of_seeds = tuple(score for score in scores if score.seed in seeds)
    return MasterRanking(structures, of_seeds, metric)


def _trained(
    name: str, structure: Structure, data: ImageData, recipe: Recipe, seed: int, device: str
) -> MasterScore:
    with seeded_globals("master", seed):
        network = build(structure, data.num_classes)
    try:
        pixels = structure.resolution
        with fitting_threads(network, pixels, recipe.batch_size, reading=data.reading):
            train_on(network, data, recipe, seed=seed, device=device)
        score = evaluate(network, data.validation, device=device)
    except TrainingError as error:
        return MasterScore(name, seed, reason=str(error))
    return MasterScore(name, seed, score)


def _read_scores(path: Path, conditions: Mapping[str, Any], metric: Metric) -> list[MasterScore]:
    """The scores of the file; none where there is no file."""

    def read(record: Any) -> tuple[list[MasterScore], list[str]]:
        scores = [*map(MasterScore.from_json, record["scores"])]
        # An older file has fewer fields of the recipe, and no fingerprint of the images.
        recipe = to_plain(make_recipe(record["recipe"]))
        record = {"images": conditions["images"], **record, "recipe": recipe}
        return scores, [name for name in conditions if record[name] != conditions[name]]

    scores, changed = read_json(path, read, cure="remove it to train again") or ([], [])
    if changed:
        raise GenetsError(
            f"{path} is a ranking of other {' and '.join(changed)}; remove it, or take another "
            "folder"
        )
    if any(each.score and metric_score(each.score, metric) is None for each in scores):
        raise GenetsError(f"{path} has no {metric.label}, {NOT_RECORDED}; remove it to train again")
    return scores
