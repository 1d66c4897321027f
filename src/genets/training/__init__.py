"""Training: recipes, the training loop, whole runs with checkpoints, and scores.

    recipe.py          recipes and learning rates
    score.py           metrics and scores
    step.py            one training step: the loss, the optimizer, the gradients
    loop.py            training and scoring without a folder
    train_network.py   a training run in a folder (`genets train`)
      run_settings.py    its settings
      run_folder.py      its folder, and the results folder in it
      run_inputs.py      its images and its network
      trainer.py         the training, which continues after interruptions
      state.py           the network, the optimizer and the average of the weights
      checkpoint.py      checkpoints
      epoch_log.py       the log, and event files for TensorBoard
      distributed.py     processes that train together
    teacher.py         trained networks that others learn from
    resources.py       memory and threads

Names are imported from their files when they are first used, because recipes and scores need no
PyTorch. Functions with the name of their file are imported from that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.core.progress import Progress
    from genets.training.epoch_log import EpochRecord, Listener
    from genets.training.loop import FeatureSplit, evaluate, train, train_together
    from genets.training.recipe import (
        Recipe,
        RunRecipe,
        lr_at,
        make_recipe,
        named_recipe,
    )
    from genets.training.resources import fitting_threads
    from genets.training.run_folder import RunResult
    from genets.training.run_settings import RunSettings
    from genets.training.score import Metric, Score
    from genets.training.step import Teacher, loss_of, make_loss, make_optimizer, optimizer_of

_FILE_OF = {
    "EpochRecord": "epoch_log",
    "FeatureSplit": "loop",
    "Listener": "epoch_log",
    "Metric": "score",
    "Progress": "epoch_log",
    "Recipe": "recipe",
    "RunRecipe": "recipe",
    "RunResult": "run_folder",
    "RunSettings": "run_settings",
    "Score": "score",
    "Teacher": "step",
    "evaluate": "loop",
    "fitting_threads": "resources",
    "loss_of": "step",
    "lr_at": "recipe",
    "make_loss": "step",
    "make_optimizer": "step",
    "make_recipe": "recipe",
    "named_recipe": "recipe",
    "optimizer_of": "step",
    "train": "loop",
    "train_together": "loop",
}

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
    "make_loss",
    "make_optimizer",
    "make_recipe",
    "named_recipe",
    "optimizer_of",
    "train",
    "train_together",
]

__getattr__ = lazy_names(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return __all__
