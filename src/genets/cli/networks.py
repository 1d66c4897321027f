"""From what a person typed to a network, its data and what it must be fed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genets.errors import DataError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genets.data import ImageData, Split
    from genets.latency import Target
    from genets.latency.exporting import Images

SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class Loaded:
    """A network, at the resolution that it is to run at.

    trained: its weights are of a results folder, whose `metadata` says what it was trained on.
    """

    name: str
    network: nn.Module
    resolution: int
    trained: bool
    metadata: dict[str, str]

    def images(self, data: ImageData | None) -> Images:
        """What it must be fed: as its results folder says, or as `data` is given."""
        from genets.latency.exporting import Images

        if {"mean", "std", "class_names"} <= self.metadata.keys():
            known = (json.loads(self.metadata[key]) for key in ("mean", "std", "class_names"))
            return Images(*(tuple(values) for values in known))
        if data is not None:
            return Images(data.mean, data.std, data.class_names)
        return Images()


def named_network(
    text: str, seed: int, *, data: str | None = None, resolution: int | None = None
) -> Loaded:
    """The network that `text` names; fresh weights are seeded, and get the classes of `data`.

    Raises GenetsError.
    """
    import torch

    from genets.data import load_data
    from genets.networks import load_weights, resolve_network
    from genets.networks.weights import WEIGHTS_FILE

    folder = Path(text.strip())
    trained = folder.is_dir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        named = resolve_network(text)
        pixels = named.resolution if resolution is None else resolution
        if not trained and data is not None:
            named = resolve_network(text, load_data(data, pixels, seed=seed).num_classes)
    metadata = load_weights(named.network, folder / WEIGHTS_FILE) if trained else {}
    return Loaded(named.name, named.network, pixels, trained, metadata)


def split_of(data: ImageData, name: str) -> Split:
    """One of the three splits. Raises DataError."""
    if name not in SPLITS:
        raise DataError(unknown_name("split", name, SPLITS))
    split: Split = getattr(data, name)
    return split


def calibration_for(target: Target, data: ImageData) -> Tensor | None:
    """Training images for int8, and none for other precisions."""
    from genets.latency.accuracy import calibration_images

    return calibration_images(data.train) if target.precision == "int8" else None
