"""Recipes, the training loops, and scores.

Names are imported from their files when they are first used: recipes and settings are words, which
need no PyTorch. Functions with the name of their file are imported from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.training.epoch_log import EpochRecord, Listener, Progress
    from genets.training.features import FeatureSplit
    from genets.training.hand_over import RunResult
    from genets.training.loop import Score, Teacher, evaluate, train, train_together
    from genets.training.recipe import Recipe, loss_of, lr_at, optimizer_of
    from genets.training.recipes import make_recipe, named_recipe
    from genets.training.run_recipe import RunRecipe
    from genets.training.run_settings import RunSettings
    from genets.training.threads import fitting_threads

__all__ = [
    "EpochRecord",
    "FeatureSplit",
    "Listener",
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
    "FeatureSplit": "features",
    "Listener": "epoch_log",
    "Progress": "epoch_log",
    "Recipe": "recipe",
    "RunRecipe": "run_recipe",
    "RunResult": "hand_over",
    "RunSettings": "run_settings",
    "Score": "loop",
    "Teacher": "loop",
    "evaluate": "loop",
    "fitting_threads": "threads",
    "loss_of": "recipe",
    "lr_at": "recipe",
    "make_recipe": "recipes",
    "named_recipe": "recipes",
    "optimizer_of": "recipe",
    "train": "loop",
    "train_together": "loop",
}


__getattr__ = lazy_names(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return __all__
