"""Designing the MasterNet (paper, section 4.1): structures trained under one recipe and ranked.

Every structure is trained from scratch with the same seeds, so that the order of the images is
the same for all and cancels where two are compared. What is left over, after each structure's
and each seed's own mean, is the noise; it is pooled over all structures, because two or three
trainings of each tell little of their own spread.

Training the structures of a MasterNet ranking, each training kept as it ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from genets.core.errors import GenetsError, TrainingError, shown
from genets.core.files import write_atomic
from genets.data import ImageData, seeded_globals
from genets.networks import build
from genets.structure import Structure
from genets.training import Recipe, evaluate, fitting_threads, train
from genets.training.score import Metric, score_value

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class MasterScore:
    """One training of one structure. A failed one has a reason and no scores.

    top1: share of validation images that are right, 0 to 1. cross_entropy: nats per image.
    """

    name: str
    seed: int
    top1: float | None = None
    cross_entropy: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RankedMaster:
    """A structure in the ranking.

    mean: of the metric over its trainings. low, high: the 95 % interval of that mean.
    behind: how far the mean is behind the best one's, 0 or more.
    tied: the data do not tell it from the best (95 %, two-sided, each comparison on its own).
    ms_per_image: None where it was not measured.
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

    metric: what is ranked by; "top1" (0 to 1) or "cross_entropy" (nats per image).
    Raises GenetsError: fewer than two structures, or none that was trained.
    """

    structures: Mapping[str, Structure]
    scores: tuple[MasterScore, ...]
    metric: Metric = Metric.TOP1

    def __post_init__(self) -> None:
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
        """Those that were trained with every seed, the best first."""
        values = self._values
        trainings = values.shape[1]
        freedom = (values.shape[0] - 1) * (trainings - 1)
        factor = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) if freedom else math.nan
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
                # Of a difference the variance is twice that of a mean. NaN: nothing is known.
                not behind > half * math.sqrt(2),
            )
            for name, mean in zip(self._table, means, strict=True)
        ]
        return tuple(sorted(rows, key=lambda row: (row.behind, row.name)))

    def with_latencies(self, ms_per_image: Mapping[str, float]) -> tuple[RankedMaster, ...]:
        """The ranking with measured latencies beside it."""
        return tuple(replace(row, ms_per_image=ms_per_image[row.name]) for row in self.ranked)

    @cached_property
    def _table(self) -> dict[str, list[float]]:
        """The metric of each structure by seed, of those that have all of them."""
        seeds = sorted({score.seed for score in self.scores})
        known = {(score.name, score.seed): score_value(score, self.metric) for score in self.scores}
        rows = {name: [known.get((name, seed)) for seed in seeds] for name in self.structures}
        whole = {name: [v for v in row if v is not None] for name, row in rows.items()}
        return {name: row for name, row in whole.items() if len(row) == len(seeds)}

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
    twice = len(structures) - len(set(structures.values()))
    if twice:
        raise GenetsError(f"structures of a ranking must differ; {twice} stand there twice")


def missing_trainings(
    names: Sequence[str], seeds: Sequence[int], scores: Sequence[MasterScore]
) -> list[tuple[str, int]]:
    """What is left to train: all structures with the first seed, then with the next."""
    ended = {(score.name, score.seed) for score in scores}
    return [(name, seed) for seed in seeds for name in names if (name, seed) not in ended]


Told = Callable[[int, int, str], None]  # trainings done, of how many, which one ended


def rank_masters(
    structures: Mapping[str, Structure],
    data: ImageData,
    recipe: Recipe,
    *,
    seeds: Sequence[int] = (0, 1),
    metric: Metric = Metric.TOP1,
    device: str = "cpu",
    keep: str | Path | None = None,
    on_training: Told | None = None,
) -> MasterRanking:
    """Train every structure from scratch with every seed, and rank them (paper, section 4.1).

    data: trained on its training split, scored on its validation split; the test split is not
        read. The structures must have its resolution.
    keep: a JSON file that each training is added to as it ends; one of the same structures,
        data and recipe is gone on with.
    A training whose loss is no longer finite is a failed one, and its structure is not ranked.
    Raises GenetsError: fewer than two structures, other resolutions, a file of other settings,
    or no structure that was trained.
    """
    check_masters(structures)
    if not seeds or len(set(seeds)) < len(seeds):
        raise GenetsError(f"seeds must be at least one, each named once, not {list(seeds)}")
    conditions = {
        "structures": {name: str(structure) for name, structure in structures.items()},
        "data": [data.name, len(data.train), len(data.validation)],
        "recipe": asdict(recipe),
    }
    path = None if keep is None else Path(keep)
    scores = [] if path is None else _read(path, conditions)
    total = len(structures) * len(seeds)
    for name, seed in missing_trainings(list(structures), seeds, scores):
        scores.append(_trained(name, structures[name], data, recipe, seed, device))
        if path is not None:
            record = {**conditions, "scores": [asdict(score) for score in scores]}
            write_atomic(path, json.dumps(record, indent=1) + "\n")
        if on_training is not None:
            on_training(sum(score.seed in seeds for score in scores), total, name)
    wanted = tuple(score for score in scores if score.seed in seeds)
    return MasterRanking(structures, wanted, metric)


def _trained(
    name: str, structure: Structure, data: ImageData, recipe: Recipe, seed: int, device: str
) -> MasterScore:
    with seeded_globals("master", seed):
        network = build(structure, data.num_classes)
    try:
        pixels = structure.resolution
        with fitting_threads(network, pixels, recipe.batch_size, reading=data.reading):
            train(network, data.train, recipe, seed=seed, device=device)
        score = evaluate(network, data.validation, device=device)
    except TrainingError as error:
        return MasterScore(name, seed, reason=str(error))
    return MasterScore(name, seed, score.top1, score.cross_entropy)


def _read(path: Path, conditions: Mapping[str, Any]) -> list[MasterScore]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        scores = [MasterScore(**score) for score in record["scores"]]
        changed = [name for name in conditions if record[name] != conditions[name]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenetsError(f"{path} is not a ranking of MasterNets; remove it ({error})") from error
    if changed:
        raise GenetsError(
            f"{path} is a ranking of other {' and '.join(changed)}; remove it, or take another "
            "folder"
        )
    return scores
