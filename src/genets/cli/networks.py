"""From what a person typed to a network, its data and what it must be fed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.errors import DataError, GenetsError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genets.data import ImageData, Split
    from genets.latency import Target
    from genets.latency.export import Images
    from genets.networks import NamedNetwork

SPLITS = ("test", "validation", "train")
ALL = "all"
FRESH, FOLDER, PUBLISHED = "fresh", "results folder", "published"
TRAIN_STATE = "state"  # in the metadata of a checkpoint of `genets train`, made from its data
Normalisation = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Loaded:
    """A network, at the resolution that it is to run at.

    weights: where they come from: `fresh`, `results folder`, `published`, or a file.
    metadata: what is stored beside them. data: the images that were asked for.
    normalisation: mean and deviation that the weights expect; None for those of the data.
    """

    name: str
    network: nn.Module
    resolution: int
    weights: str
    metadata: dict[str, str]
    data: ImageData | None
    normalisation: Normalisation | None

    @property
    def trained(self) -> bool:
        return self.weights != FRESH

    def images(self) -> Images:
        """What it must be fed: as its results folder says, or as its data is given."""
        from genets.latency.export import Images

        if {"mean", "std", "class_names"} <= self.metadata.keys():
            known = (json.loads(self.metadata[key]) for key in ("mean", "std", "class_names"))
            return Images(*(tuple(values) for values in known))
        if self.data is not None:
            return Images(self.data.mean, self.data.std, self.data.class_names)
        return Images()

    def split(self, name: str) -> Split:
        """A split of its data, or `all` of them, normalised as its weights expect.

        Raises DataError.
        """
        from genets.data.split import JoinedSplit, normalised_as

        assert self.data is not None
        if name not in (*SPLITS, ALL):
            raise DataError(unknown_name("split", name, (*SPLITS, ALL)))
        chosen = [getattr(self.data, one) for one in (SPLITS if name == ALL else (name,))]
        split = chosen[0] if len(chosen) == 1 else JoinedSplit(chosen)
        known = self.normalisation
        return split if known is None else normalised_as(split, self.data, *known)

    def check_classes(self) -> None:
        """Raise DataError where its weights are known to be of other classes than its data."""
        from genets.networks.weights import stated_number

        data, metadata = self.data, self.metadata
        if data is None or not self.trained:
            return
        own = json.loads(metadata.get("class_names", "null")) or ()
        default = str(len(own) or data.num_classes)
        count = stated_number(metadata, "num_classes", self.name, default)
        if self.weights == PUBLISHED:
            count = _published_config(self.network).get("num_classes", count)
        if count != data.num_classes:
            raise _other_classes(self.name, count, data)
        pairs = zip(own, data.class_names, strict=False)
        differing = [(theirs, here) for theirs, here in pairs if theirs != here]
        if differing:
            theirs, here = differing[0]
            raise DataError(
                f"{self.name} knows other classes than {data.name}: {len(differing)} of {count} "
                f"have other names, first {theirs!r} where the data has {here!r}"
            )


def named_network(
    text: str,
    seed: int,
    *,
    data: str | None = None,
    resolution: int | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
) -> Loaded:
    """The network that `text` names, with the classes of `data` unless its weights have others.

    Weights are those of a results folder, published ones, a file's, or fresh from `seed`.
    Raises GenetsError: two of these, or unknown, missing or damaged ones.
    """
    import torch

    from genets.data import load_data
    from genets.networks import load_weights, resolve_network
    from genets.networks.weights import WEIGHTS_FILE

    folder = Path(text.strip())
    is_folder = folder.is_dir()
    source = _source(text, is_folder, pretrained, weights)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        named = resolve_network(text)
        pixels = named.resolution if resolution is None else resolution
        images = None if data is None else load_data(data, pixels, seed=seed)
        if images is not None and not is_folder:
            named = resolve_network(text, images.num_classes, pretrained=pretrained)
    metadata: dict[str, str] = {}
    if is_folder:
        metadata = load_weights(named.network, folder / WEIGHTS_FILE)
    elif weights is not None:
        metadata = _load_file(named.network, weights, images)
    known = _normalisation(named, source, metadata)
    return Loaded(named.name, named.network, pixels, source, metadata, images, known)


def _source(text: str, is_folder: bool, pretrained: bool, weights: Path | None) -> str:
    if pretrained and weights is not None:
        raise GenetsError("take --pretrained or --weights, not both")
    if is_folder and (pretrained or weights is not None):
        raise GenetsError(
            f"{text} is a results folder, which has weights of its own; leave "
            f"{'--pretrained' if pretrained else '--weights'} out"
        )
    if is_folder:
        return FOLDER
    return str(weights) if weights is not None else PUBLISHED if pretrained else FRESH


def _load_file(network: nn.Module, path: Path, data: ImageData | None) -> dict[str, str]:
    """The file's metadata. Raises GenetsError: no such weights, or of another class count."""
    from genets.networks.weights import load_tensors, read_weights, tensors_for
    from genets.training.run_inputs import head_of

    tensors = tensors_for(network, path)
    head = tensors.get(f"{head_of(network)}.weight")
    if data is not None and head is not None and len(head) != data.num_classes:
        raise _other_classes(f"weights {str(path)!r}", len(head), data)
    load_tensors(network, tensors, path)
    return read_weights(path)[1] if path.suffix == ".safetensors" else {}


def _normalisation(
    named: NamedNetwork, source: str, metadata: Mapping[str, str]
) -> Normalisation | None:
    """As it is stored beside the weights, or published with them; None for that of the data."""
    if {"mean", "std"} <= metadata.keys():
        return json.loads(metadata["mean"]), json.loads(metadata["std"])
    config = _published_config(named.network)
    # timm's networks have one each; what a structure's network has there is a mere default.
    known = source == PUBLISHED or (source not in (FRESH, FOLDER) and named.structure is None)
    if known and TRAIN_STATE not in metadata and {"mean", "std"} <= config.keys():
        return config["mean"], config["std"]
    return None


def _published_config(network: nn.Module) -> dict[str, Any]:
    return getattr(network, "pretrained_cfg", None) or {}


def _other_classes(what: str, count: int, data: ImageData) -> DataError:
    return DataError(
        f"{what} knows {count} classes and {data.name} has {data.num_classes}; `genets train` "
        "makes another classifier"
    )


def calibration_for(target: Target, loaded: Loaded) -> Tensor | None:
    """Training images for int8, and none for other precisions."""
    from genets.latency.evaluation import calibration_images

    return calibration_images(loaded.split("train")) if target.precision == "int8" else None
