"""Training: recipes, the training loop, whole runs with checkpoints, and scores.

    recipe.py          recipes and learning rates
    variants.py        the values that are tried for recipe fields that are `auto`
    score.py           metrics and scores
    step.py            one training step: the loss, the optimizer, the gradients
    loop.py            training without a folder
    short_trainings.py trainings that decide such fields
    data_set_training.py  training on a data set, after its recipe is decided
    checkpoints.py     files from which an interrupted training continues
    epoch_checkpoints.py  the checkpoints of a training of the loop
    student.py         a network in training: optimizer, average of weights, linear start
    linear_start.py    a linear model of features as the first classifier
    floor.py           the start of a training, which is restored where its end is worse
    team.py            processes that train one network together
    evaluation.py      scoring
    predictions.py     predictions for single images, and intervals of shares and differences
    strided_pointwise.py  convolutions that oneDNN may train wrongly
    mixing.py          mix-up and CutMix
    features.py        feature maps of a frozen network as the images of a training
    feature_matching.py  super-blocks that learn the feature maps of another network
    train_network.py   a training run from its settings to its results (`genets train`)
    run/               the parts of a training run
    teacher.py         trained networks that others learn from
    resources.py       memory, number formats and threads

Names are imported from their files when they are first used, because recipes and scores need no
PyTorch. Functions with the name of their file are imported from that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genets.core.lazy import lazy_names

if TYPE_CHECKING:
    from genets.core.progress import Progress as Progress
    from genets.training.data_set_training import train_on as train_on
    from genets.training.evaluation import evaluate as evaluate
    from genets.training.features import FeatureSplit as FeatureSplit
    from genets.training.loop import train as train
    from genets.training.loop import train_together as train_together
    from genets.training.recipe import Recipe as Recipe
    from genets.training.recipe import RunRecipe as RunRecipe
    from genets.training.recipe import lr_at as lr_at
    from genets.training.recipe import make_recipe as make_recipe
    from genets.training.recipe import named_recipe as named_recipe
    from genets.training.recipe import with_all_fields as with_all_fields
    from genets.training.resources import fitting_threads as fitting_threads
    from genets.training.run.epoch_log import EpochRecord as EpochRecord
    from genets.training.run.epoch_log import Listener as Listener
    from genets.training.run.folder import RunResult as RunResult
    from genets.training.run.settings import RunSettings as RunSettings
    from genets.training.score import Metric as Metric
    from genets.training.score import Score as Score
    from genets.training.step import Teacher as Teacher
    from genets.training.step import make_loss as make_loss
    from genets.training.step import make_optimizer as make_optimizer

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "run.epoch_log": ("Progress", "EpochRecord", "Listener"),
        "data_set_training": ("train_on",),
        "features": ("FeatureSplit",),
        "evaluation": ("evaluate",),
        "loop": ("train", "train_together"),
        "recipe": (
            "Recipe",
            "RunRecipe",
            "lr_at",
            "make_recipe",
            "named_recipe",
            "with_all_fields",
        ),
        "resources": ("fitting_threads",),
        "run.folder": ("RunResult",),
        "run.settings": ("RunSettings",),
        "score": ("Metric", "Score"),
        "step": ("Teacher", "make_loss", "make_optimizer"),
    },
)


def __dir__() -> list[str]:
    return __all__
