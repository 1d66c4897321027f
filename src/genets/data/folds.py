"""Cross-validation where few validation images would let chance decide."""

from __future__ import annotations

from dataclasses import replace

from genets.core.errors import counted
from genets.core.image_facts import FEW_VALIDATION_IMAGES
from genets.data.pool import PoolSplit
from genets.data.pool_cuts import Pool, cut_training_fold
from genets.data.split import Fold, ImageData

FOLDS = 5  # each training then has four fifths of the images, as with a usual validation split


def count_fold_images(data: ImageData) -> int:
    """Count the images that folds share: all for training, with a validation split cut off them."""
    return len(data.train) + len(data.validation) * ("validation" in data.cut_splits)


def choose_num_folds(data: ImageData) -> int:
    """Choose the number of folds for cross-validation; 1 means the validation split."""
    is_small = len(data.validation) < FEW_VALIDATION_IMAGES
    return FOLDS if is_small and not obstacle_to_folds(data) else 1


def obstacle_to_folds(data: ImageData) -> str:
    """Say why folds cannot take the place of the validation images; empty where they can.

    A stored validation split stays where it has more images than the folds. A class with one image
    is scored only in a fold whose networks have never seen this class.
    """
    images, shared = count_fold_images(data), data.train.class_counts()
    if "validation" in data.cut_splits:
        shared += data.validation.class_counts()
    if images < len(data.validation):
        return f"the data set has only {counted(images, 'training image')}"
    if images < 2 * FOLDS:
        return f"{FOLDS} folds need at least {2 * FOLDS} training images"
    single = sum(count == 1 for count in shared.values())
    if 2 * single > len(shared):
        return f"{single} of {len(shared)} classes have one training image"
    return ""


def folds_to_score(data: ImageData) -> list[Fold]:
    """Give as many folds as a decision between trainings needs; see `in_fold`.

    At least two folds hold `FEW_VALIDATION_IMAGES` images together, or all five are given.

    Returns:
        The folds; none where the validation split is large enough, is stored, or was not cut off
            images in files.
    """
    is_possible = isinstance(data.train, PoolSplit) and "validation" in data.cut_splits
    if not is_possible or choose_num_folds(data) == 1:
        return []
    needed = -(-FEW_VALIDATION_IMAGES * FOLDS // count_fold_images(data))
    return [Fold(number, FOLDS) for number in range(min(FOLDS, max(2, needed)))]


def in_fold(data: ImageData, fold: Fold | None) -> ImageData:
    """Give images that were loaded with a fold as their validation split; nothing is read again.

    Args:
        data: The images, whose validation split was cut off the training images.
        fold: The fold; None gives the images as they are.

    Returns:
        The same images as loading the data with the fold gives.
    """
    if fold is None:
        return data
    train, validation = data.train, data.validation
    assert isinstance(train, PoolSplit)
    assert isinstance(validation, PoolSplit)
    pool = Pool(train.images, train.labels)
    parts = {"train": (pool, train.positions), "validation": (pool, validation.positions)}
    cut = cut_training_fold(parts, True, fold, data.seed)
    return replace(
        data,
        train=replace(train, positions=cut["train"][1]),
        validation=replace(validation, positions=cut["validation"][1]),
        fold=fold,
    )
