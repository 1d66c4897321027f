"""Training the structures of a MasterNet ranking, each training kept as it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genets.analysis.masters import (
    MasterRanking,
    MasterScore,
    Response,
    check_masters,
    missing_trainings,
)
from genets.core.errors import GenetsError, TrainingError
from genets.core.files import write_atomic
from genets.data import ImageData, seeded_globals
from genets.networks import build
from genets.structure import Structure
from genets.training import Recipe, evaluate, fitting_threads, train

Told = Callable[[int, int, str], None]  # trainings done, of how many, which one ended


def rank_masters(
    structures: Mapping[str, Structure],
    data: ImageData,
    recipe: Recipe,
    *,
    seeds: Sequence[int] = (0, 1),
    response: Response = "top1",
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
    return MasterRanking(structures, wanted, response)


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
