"""Recipes, the training loop, and scores."""

from genets.training.features import FeatureSplit
from genets.training.loop import Score, Teacher, evaluate, train, train_together
from genets.training.recipe import Recipe, loss_of, lr_at, optimizer_of
from genets.training.threads import fitting_threads

__all__ = [
    "FeatureSplit",
    "Recipe",
    "Score",
    "Teacher",
    "evaluate",
    "fitting_threads",
    "loss_of",
    "lr_at",
    "optimizer_of",
    "train",
    "train_together",
]
