"""Recipes, the training loops, and scores.

Names are imported from their files when they are first used: recipes and settings are words, which
need no PyTorch. Functions with the name of their file are imported from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.training.epoch_log import EpochRecord, Listener, Progress
    from genets.training.loop import FeatureSplit, Teacher, evaluate, train, train_together
    from genets.training.recipe import (
        Recipe,
        RunRecipe,
        loss_of,
        lr_at,
        make_recipe,
        named_recipe,
        optimizer_of,
    )
    from genets.training.resources import fitting_threads
    from genets.training.run_folder import RunResult
    from genets.training.run_settings import RunSettings
    from genets.training.score import Metric, Score

__all__ = [
    "EpochRecord",
    "FeatureSplit",
    "Listener",
    "Metric",
    "Progress",
    "Recipe",
    "RunRecipe",
    "RunResult",
    "RunSettings",
    "Score",
    "Teacher",
    "evaluate",
    "fitting_threads",
    "loss_of",
    "lr_at",
    "make_recipe",
    "named_recipe",
    "optimizer_of",
    "train",
    "train_together",
]

_FILE_OF = {
    "EpochRecord": "epoch_log",
    "FeatureSplit": "loop",
    "Listener": "epoch_log",
    "Progress": "epoch_log",
    "Recipe": "recipe",
    "RunRecipe": "recipe",
    "RunResult": "run_folder",
    "RunSettings": "run_settings",
    "Metric": "score",
    "Score": "score",
    "Teacher": "loop",
    "evaluate": "loop",
    "fitting_threads": "resources",
    "loss_of": "recipe",
    "lr_at": "recipe",
    "make_recipe": "recipe",
    "named_recipe": "recipe",
    "optimizer_of": "recipe",
    "train": "loop",
    "train_together": "loop",
}


__getattr__ = lazy_names(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return __all__
