"""The training of the MasterNet, and with cross-validation of the MasterNet of each fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import GenetsError
from genets.core.log import get_logger
from genets.data import ImageData
from genets.data.split import Fold
from genets.nas.context import SearchContext
from genets.nas.image_loading import load_images
from genets.nas.master.start import load_start
from genets.nas.study import layout
from genets.nas.study.study import Study
from genets.nas.study_recipes import Start, decide_study_recipe
from genets.nas.winner import TrainedMaster
from genets.networks import load_weights
from genets.training import Metric, Score
from genets.training.score import join_scores

if TYPE_CHECKING:
    from torch import nn

_log = get_logger(__name__)


def train_master(context: SearchContext, data: ImageData) -> TrainedMaster:
    """Train the MasterNet, or load it.

    With cross-validation, a MasterNet for each fold is trained as well, and the score is that on
    the images of all folds together. A phase that was interrupted trains those that are missing.
    Where weights were lost or damaged since, they are trained again, and the stored score stays.
    With an int8 target, the score after quantisation is added where an older genets stored none.

    Raises:
        GenetsError: The training failed, or the MasterNet is no better than guessing.
    """
    study, folds = context.study, context.settings.num_folds
    stored = study.master_score()
    if stored is not None and context.int8_target is not None and stored.quantised is None:
        stored = None
    if stored is not None:
        nets = [_load(context, path) for path in master_paths(study, folds)]
        if all(nets):
            assert nets[0] is not None
            return TrainedMaster(context, nets[0], data, stored)
    with context.phase("MasterNet training"):
        parts = 1 if folds == 1 else 1 + folds
        net = _train_or_load(context, data, study.master_weights, (0, parts))
        if folds == 1:
            score = context.evaluate(net, data)
        else:
            score = join_scores(
                [_fold_score(context, data, Fold(number, folds)) for number in range(folds)]
            )
        if stored is None:
            _check_learned(score, data.num_classes, context.settings.metric)
            study.save_json(layout.MASTER, score.to_json())
    return TrainedMaster(context, net, data, stored or score)


def master_paths(study: Study, folds: int) -> list[Path]:
    """The files of weights of all MasterNets; that of the whole training split is the first."""
    weights = study.master_weights
    numbers = range(folds) if folds > 1 else ()
    return [weights, *(layout.in_fold(weights, number) for number in numbers)]


def _starts(context: SearchContext, data: ImageData) -> Iterator[Start]:
    """The MasterNet before its training, with the images of each fold where there are folds."""
    folds = context.settings.num_folds
    every = (
        [data]
        if folds == 1
        else (_fold_images(context, data, Fold(number, folds)) for number in range(folds))
    )
    for images in every:
        yield _start(context, images), images, None


def _start(context: SearchContext, data: ImageData) -> nn.Module:
    """The MasterNet with its starting weights."""
    if context.settings.has_starting_weights:
        return load_start(context.settings, data, _log.info)
    return context.build_network(context.master, "master")


def _train_or_load(
    context: SearchContext, data: ImageData, weights: Path, part: tuple[int, int]
) -> nn.Module:
    """Train the MasterNet on some images, unless its weights are stored.

    part: the number of this training in the phase, from 0, and the number of all.
    """
    loaded = _load(context, weights)
    if loaded is not None:
        return loaded
    report, total = context.report("MasterNet training"), part[1]
    decide_study_recipe(
        context,
        "master_training",
        lambda words: report(part[0], total, words),
        _starts(context, data),
    )
    net, recipe = _start(context, data), context.study.recipe("master_training")
    context.train(net, data, recipe, "MasterNet training", part=part)
    metadata = {"structure": str(context.master), **data.weights_metadata()}
    context.save_trained(net, weights, metadata)
    return net


def _load(context: SearchContext, weights: Path) -> nn.Module | None:
    """Load a MasterNet; None where its file is missing or damaged."""
    net = context.build_network(context.master, "master")
    try:
        load_weights(net, weights)
    except GenetsError as error:
        if isinstance(error.__cause__, OSError):  # the file may be whole
            raise
        if weights.exists():
            _log.warning("%s, so the MasterNet is trained again", error)
        return None
    return net


def _fold_score(context: SearchContext, data: ImageData, fold: Fold) -> Score:
    """Train the MasterNet of a fold, or load it, and score it on the images of the fold."""
    images = _fold_images(context, data, fold)
    path = layout.in_fold(context.study.master_weights, fold.number)
    net = _train_or_load(context, images, path, (1 + fold.number, 1 + fold.count))
    return context.evaluate(net, images)


def _fold_images(context: SearchContext, data: ImageData, fold: Fold) -> ImageData:
    return load_images(
        context.settings, data.resolution, context.device,
        preprocessing=context.preprocessing, fold=fold, known=data,
    )  # fmt: skip


def _check_learned(score: Score, num_classes: int, metric: Metric) -> None:
    """A MasterNet at chance level has nothing to teach, and trials would mean nothing."""
    chance = 1 / num_classes
    share, words = score.top1, "of the validation images are right"
    if metric is Metric.BALANCED_ACCURACY:  # a network that knows one large class is not enough
        share, words = score[metric], "is the balanced accuracy on the validation images"
    if share < chance + 0.1 * (1 - chance):
        raise GenetsError(
            f"the MasterNet did not learn: {share:.1%} {words}, "
            f"where guessing gives {chance:.1%}; check the data, or give it more "
            "epochs, in another study folder"
        )
