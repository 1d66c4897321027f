"""The score of a network after quantisation, as the engine of an int8 target runs it.

The loss of accuracy by quantisation may differ between block types, so a search for an int8 target
compares networks after it. A network is quantised exactly as `genets export` quantises it: by the
tool of the engine, with the same images of its training split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from genets.core.errors import TargetError, first_line
from genets.data import Augmentation, ImageData, Split, with_augmentation
from genets.latency import Target
from genets.latency.evaluation import calibration_images, measure_accuracy
from genets.training import Score

if TYPE_CHECKING:
    from torch import nn


def calibration_of(data: ImageData) -> Tensor:
    """Give the images that set the value ranges: those of `genets export`, (N, 3, H, W).

    An export does not know the augmentation of the training, so it takes the standard one.
    """
    return calibration_images(with_augmentation(data, Augmentation()).train)


def score_quantised(net: nn.Module, data: ImageData, split: Split, target: Target) -> Score:
    """Quantise a network, and score it in the engine of the target.

    Args:
        net: The trained network; it is not changed.
        data: The images that it was trained on. Images of the training split set the value ranges.
        split: The images to score.
        target: A target with precision int8.

    Raises:
        TargetError: The network cannot be quantised, or does not run after it.
        DataError: An image cannot be read.
    """
    images = calibration_of(data)
    try:
        accuracy = measure_accuracy(net, target, data.resolution, split, calibration=images)
    except RuntimeError as error:
        raise TargetError(
            f"engine {target.engine} does not run the quantised network: {first_line(error)}"
        ) from error
    counts, right = accuracy.confusion.sum(1).tolist(), np.diag(accuracy.confusion).tolist()
    return Score.from_classes(counts, right, accuracy.cross_entropy)
