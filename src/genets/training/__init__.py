"""Recipes, the training loops, and scores."""

from genets.training.features import FeatureSplit
from genets.training.hand_over import RunResult
from genets.training.loop import Score, Teacher, evaluate, train, train_together
from genets.training.recipe import Recipe, loss_of, lr_at, optimizer_of
from genets.training.recipes import make_recipe, named_recipe, recipes
from genets.training.run_log import EpochRecord, Listener, Progress
from genets.training.run_recipe import RunRecipe
from genets.training.settings import RunSettings
from genets.training.threads import fitting_threads
from genets.training.train_network import train_network

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
    "recipes",
    "train",
    "train_network",
    "train_together",
]
