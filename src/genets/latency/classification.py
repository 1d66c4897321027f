"""Classification: the best classes of images, as an engine runs a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from genets.core.errors import TargetError
from genets.latency.engines import ENGINES
from genets.latency.target import Target

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ClassifiedImage:
    """The best outputs for one image, the best first.

    Attributes:
        file: The name of the image.
        classes: The outputs, counted from 0.
        probabilities: Their probabilities, 0 to 1.
    """

    file: str
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


def classify(
    network: nn.Module,
    target: Target,
    resolution: int,
    batches: Iterable[tuple[list[str], Tensor]],
    *,
    top: int = 1,
    calibration: Tensor | None = None,
) -> list[ClassifiedImage]:
    """Classify images with a network, as the target's engine runs it.

    Args:
        network: Any network; it is not changed.
        target: Device, engine, precision and batch size.
        resolution: Pixels along one side of the input.
        batches: The names of images and their inputs (N, 3, resolution, resolution).
        top: The number of classes for each image.
        calibration: Images of shape (N, channels, resolution, resolution); required for int8.

    Returns:
        The classes of each image, in the order of the images.

    Raises:
        TargetError: There are no calibration images for int8, or the outputs are not finite; see
            also `measure`.
    """
    if target.precision == "int8" and calibration is None:
        raise TargetError("precision int8 needs calibration images")
    engine, images = ENGINES[target.engine], []
    with engine.open(target):
        prepared = engine.prepare(network, target, resolution, calibration)
        for names, inputs in batches:
            shares = prepared.predict(inputs).double().softmax(1)
            if not shares.isfinite().all():
                raise TargetError("the network's outputs are not finite, so it has no predictions")
            best = shares.sort(dim=1, descending=True, stable=True)  # of equal ones the first wins
            images += [
                ClassifiedImage(name, tuple(classes), tuple(probabilities))
                for name, classes, probabilities in zip(
                    names,
                    best.indices[:, :top].tolist(),
                    best.values[:, :top].tolist(),
                    strict=True,
                )
            ]
    return images
