"""The network of a command, with the data that its options name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import DataError, GenetsError, unknown_name

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
        """A split of the data, or `all` three together, normalised as the weights expect it.

        Raises DataError for another name.
        """
        from genets.data.split import JoinedSplit, normalised_as

        assert self.data is not None
        if name not in (*SPLITS, ALL):
            raise DataError(unknown_name("split", name, (*SPLITS, ALL)))
        names = SPLITS if name == ALL else (name,)
        splits = [getattr(self.data, each) for each in names]
        split = splits[0] if len(splits) == 1 else JoinedSplit(splits)
        normalisation = self.source.normalisation
        return split if normalisation is None else normalised_as(split, self.data, *normalisation)

    def calibration_for(self, target: Target) -> Tensor | None:
        """Training images for precision int8; None for other precisions."""
        from genets.latency.evaluation import calibration_images

        return calibration_images(self.split("train")) if target.precision == "int8" else None


def load_network(
    text: str,
    seed: int,
    *,
    data: str | None = None,
    resolution: int | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
) -> NetworkWithData:
    """Load a network and its data.

    The network has the classes of the data, and a results folder has its own. `seed` is that of
    fresh weights and of the data. Raises GenetsError.
    """
    import torch

    from genets.data import load_data
    from genets.networks import resolve_network
    from genets.networks.source import FOLDER

    if pretrained and weights is not None:
        raise GenetsError("take --pretrained or --weights, not both")
    if pretrained and Path(text.strip()).is_dir():
        raise GenetsError(
            f"{text} is a results folder, which has its own weights; leave --pretrained out"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        source = resolve_network(text)
        pixels = source.resolution if resolution is None else resolution
        images = None if data is None else load_data(data, pixels, seed=seed)
        if images is not None and (weights is not None or source.weights != FOLDER):
            classes = images.num_classes
            source = resolve_network(text, classes, pretrained=pretrained, weights=weights)
    return NetworkWithData(source, pixels, images)
