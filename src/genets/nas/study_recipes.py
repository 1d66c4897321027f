"""Recipe fields that are `auto`: short trainings decide them once for a study.

MasterNet and candidates start from other weights, so each kind of training has a decision of its
own. All candidates share theirs, and so do the winner and all folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from genets.core.log import get_logger
from genets.data import ImageData
from genets.nas.context import SearchContext, explained_memory
from genets.nas.study.reader import DecidedTraining
from genets.training import fitting_threads
from genets.training.variants import (
    Variant,
    describe_variants,
    is_decided,
    join_folds,
    name_variants,
)

if TYPE_CHECKING:
    from torch import nn

Start = tuple["nn.Module", ImageData, "nn.Module | None"]

_log = get_logger(__name__)


def decide_study_recipe(
    context: SearchContext,
    training: DecidedTraining,
    report: Callable[[str], None],
    starts: Iterable[Start],
) -> None:
    """Decide and store the fields of a recipe that are still `auto`; see `StudyReader.recipe`.

    Args:
        context: The search.
        training: The training.
        report: Reports the progress in words.
        starts: A network with its starting weights, the images and the teacher; with
            cross-validation, those of each fold. They are made only where they are needed.

    Raises:
        TrainingError: All short trainings of a fold failed, or memory ran out.
    """
    recipe = context.study.recipe(training)
    if is_decided(recipe):
        return
    words, folds = f"short trainings, {name_variants(recipe)}", context.settings.num_folds
    of_folds: list[list[Variant]] = []
    for net, data, teacher in starts:
        fold = f", fold {len(of_folds) + 1} of {folds}" if folds > 1 else ""

        def on_step(done: int, steps: int, fold: str = fold) -> None:
            report(f"{words}, step {done} of {steps}{fold}")

        threads = fitting_threads(net, data.resolution, recipe.batch_size, reading=data.reading)
        with explained_memory(recipe.batch_size), threads:
            of_folds.append(
                context.lab.try_variants(
                    net,
                    data,
                    recipe,
                    seed=context.settings.seed,
                    device=context.device,
                    teacher=teacher,
                    on_step=on_step,
                )
            )
    tried = join_folds(of_folds)
    _log.info("%s: %s", training, describe_variants(tried))
    context.study.save_short_trainings(training, tried)
