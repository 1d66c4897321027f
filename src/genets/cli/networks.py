"""The network of a command, with the data that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError

if TYPE_CHECKING:
    from torch import Tensor

    from genets.core.image_facts import ImageOrigin, Preprocessing
    from genets.data import ImageData
    from genets.data.split import NamedSplit
    from genets.data.split_origin import SplitOrigin
    from genets.latency import Target
    from genets.latency.export import TrainingImages
    from genets.networks import NetworkSource

SPLITS = ("test", "validation", "train")
ALL = "all"


@dataclass(frozen=True)
class NetworkWithData:
    """A network, the resolution in pixels that it is to run at, and the data, if any is named."""

    source: NetworkSource
    resolution: int
    data: ImageData | None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """As the weights state it, or as the data gives it; None where neither is known."""
        stated = self.source.facts.preprocessing
        return stated or (None if self.data is None else self.data.preprocessing)

    def training_images(self) -> TrainingImages:
        """The images that the network needs: as its weights state them, or as the data is."""
        from genets.latency.export import TrainingImages

        names = self.source.class_names or (None if self.data is None else self.data.class_names)
        return TrainingImages(self.preprocessing, names)

    def split(self, name: str) -> NamedSplit:
        """A split of the data, or `all` three together, normalised as the weights expect it."""
        from genets.data.split import JoinedSplit, normalised_as

        assert self.data is not None
        names = SPLITS if name == ALL else (name,)
        splits = [getattr(self.data, each) for each in names]
        splits = [split for split in splits if len(split)] or splits[:1]
        split = splits[0] if len(splits) == 1 else JoinedSplit(splits)
        normalisation = self.source.normalisation
        return split if normalisation is None else normalised_as(split, self.data, *normalisation)

    @property
    def split_origin(self) -> SplitOrigin:
        """Whether the splits of the data are those of the training."""
        from genets.data.split_origin import find_split_origin

        assert self.data is not None
        return find_split_origin(self.data, self.source.facts.origin, self.source.is_trained)

    def calibration_for(self, target: Target) -> Tensor | None:
        """Training images for precision int8; None for other precisions."""
        from genets.latency.evaluation import calibration_images

        if target.precision != "int8":
            return None
        assert self.data is not None
        # A folder that is scored as a whole may have no training images.
        return calibration_images(self.split("train" if len(self.data.train) else ALL))

    def calibration_record(self, target: Target) -> dict[str, Any] | None:
        """The split of the images that set the ranges of int8; None for other precisions."""
        if target.precision != "int8" or self.data is None:
            return None
        split = "train" if len(self.data.train) else ALL
        return {"data": self.data.name, "split": split, "split_from": self.split_origin.source}


def load_network(
    text: str,
    seed: int | None,
    *,
    data: str | None = None,
    resolution: int | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
    splits: Sequence[str] = ("train",),
    max_broken_share: float | None = None,
) -> NetworkWithData:
    """Load a network and its data.

    The network has the classes of the data, and a results folder has its own. The images are
    prepared as the weights were trained, and split as in their training.

    Args:
        text: The network, as a command takes it.
        seed: The seed of fresh weights and of the validation split; None takes the split of the
            training, where it is known.
        data: The data set, if any is needed.
        resolution: Pixels along one side of the input; None takes that of the training of the
            weights, that of timm's validation for published weights, or the network's own.
        pretrained: Whether to take published weights.
        weights: A file of weights.
        splits: The splits that are needed; with `all`, the images are not cut into splits.
        max_broken_share: The largest share of broken images that is no error; None takes that of
            the training, if it had the same images.

    Raises:
        GenetsError: The network or the data cannot be loaded, or they do not fit together.
    """
    from genets.data import MAX_BROKEN_SHARE, load_data
    from genets.networks import resolve_network
    from genets.networks.build import seeded_weights
    from genets.networks.folder_name import find_results_folder
    from genets.networks.source import FOLDER, TIMM_PREFIX

    if pretrained and weights is not None:
        raise GenetsError("take --pretrained or --weights, not both")
    if pretrained and find_results_folder(text.strip()):
        raise GenetsError(
            f"{text} is a results folder, which has its own weights; leave --pretrained out"
        )
    with seeded_weights(seed or 0):
        source = resolve_network(text)
        facts = source.facts_about(pretrained=pretrained, weights=weights)
        stated = None if weights is None else facts.resolution
        if stated is None and source.name.startswith(TIMM_PREFIX):
            stated = facts.scored_at
        pixels = (stated or source.resolution) if resolution is None else resolution
        if data is None:
            return NetworkWithData(source, pixels, None)
        if seed is None and facts.origin is not None:
            seed = facts.origin.seed
        whole = ALL in splits
        images = load_data(
            data,
            pixels,
            seed=seed or 0,
            check=False,  # a broken image is met when it is scored
            preprocessing=facts.preprocessing,
            splits=SPLITS if whole else splits,
            cut_missing=not whole,
            max_broken_share=MAX_BROKEN_SHARE if max_broken_share is None else max_broken_share,
        )
        if max_broken_share is None:
            _tolerate_as_trained(images, facts.origin)
        if weights is not None or source.weights != FOLDER:
            source = resolve_network(
                text, images.num_classes, pretrained=pretrained, weights=weights
            )
    return NetworkWithData(source, pixels, images)


def _tolerate_as_trained(images: ImageData, origin: ImageOrigin | None) -> None:
    """Take over the share of broken images of a training, if it had these images."""
    if images.broken is None or origin is None or origin.max_broken_share is None:
        return
    if origin.may_share_images(images.origin):
        images.broken.max_share = origin.max_broken_share
