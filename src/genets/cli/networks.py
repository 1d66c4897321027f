"""The network of a command, with the data that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import GenetsError

if TYPE_CHECKING:
    from torch import Tensor

    from genets.data import ImageData, Split
    from genets.latency import Target
    from genets.latency.export import Images
    from genets.networks import NetworkSource

SPLITS = ("test", "validation", "train")
ALL = "all"


@dataclass(frozen=True)
class NetworkWithData:
    """A network, the resolution in pixels that it is to run at, and the data, if any is named."""

    source: NetworkSource
    resolution: int
    data: ImageData | None

    def images(self) -> Images:
        """The input that the network needs: as its weights state it, or as the data gives it."""
        from genets.latency.export import Images

        normalisation, class_names = self.source.normalisation, self.source.class_names
        if normalisation and class_names:
            mean, std = normalisation
            return Images(tuple(mean), tuple(std), class_names)
        if self.data is not None:
            return Images(self.data.mean, self.data.std, self.data.class_names)
        return Images()

    def split(self, name: str) -> Split:
        """A split of the data, or `all` three together, normalised as the weights expect it."""
        from genets.data.split import JoinedSplit, normalised_as

        assert self.data is not None
        names = SPLITS if name == ALL else (name,)
        splits = [getattr(self.data, each) for each in names]
        splits = [split for split in splits if len(split)] or splits[:1]
        split = splits[0] if len(splits) == 1 else JoinedSplit(splits)
        normalisation = self.source.normalisation
        return split if normalisation is None else normalised_as(split, self.data, *normalisation)

    def calibration_for(self, target: Target) -> Tensor | None:
        """Training images for precision int8; None for other precisions."""
        from genets.latency.evaluation import calibration_images

        if target.precision != "int8":
            return None
        assert self.data is not None
        # A folder that is scored as a whole may have no training images.
        return calibration_images(self.split("train" if len(self.data.train) else ALL))


def load_network(
    text: str,
    seed: int,
    *,
    data: str | None = None,
    resolution: int | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
    splits: Sequence[str] = ("train",),
    max_broken_share: float = 0.01,
) -> NetworkWithData:
    """Load a network and its data.

    The network has the classes of the data, and a results folder has its own.

    Args:
        text: The network, as a command takes it.
        seed: The seed of fresh weights and of the data.
        data: The data set, if any is needed.
        resolution: Pixels along one side of the input; None is the network's own.
        pretrained: Whether to take published weights.
        weights: A file of weights.
        splits: The splits that are needed; with `all`, the images are not cut into splits.
        max_broken_share: The largest share of broken images that is no error.

    Raises:
        GenetsError: The network or the data cannot be loaded, or they do not fit together.
    """
    from genets.data import load_data
    from genets.networks import resolve_network
    from genets.networks.build import seeded_weights
    from genets.networks.source import FOLDER

    if pretrained and weights is not None:
        raise GenetsError("take --pretrained or --weights, not both")
    if pretrained and Path(text.strip()).is_dir():
        raise GenetsError(
            f"{text} is a results folder, which has its own weights; leave --pretrained out"
        )
    with seeded_weights(seed):
        source = resolve_network(text)
        pixels = source.resolution if resolution is None else resolution
        images = None
        if data is not None:
            whole = ALL in splits
            images = load_data(
                data,
                pixels,
                seed=seed,
                check=False,  # a broken image is met when it is scored
                splits=SPLITS if whole else splits,
                cut_missing=not whole,
                max_broken_share=max_broken_share,
            )
        if images is not None and (weights is not None or source.weights != FOLDER):
            classes = images.num_classes
            source = resolve_network(text, classes, pretrained=pretrained, weights=weights)
    return NetworkWithData(source, pixels, images)
