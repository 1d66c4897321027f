"""Known facts about the training of some weights, from the file's own texts or from timm.

`genets train` and a search store these facts beside the tensors (`ImageData.weights_metadata`).
For published weights, timm's configuration of the network has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.data import resolve_data_config
from torch import nn

from genets.core.errors import GenetsError, shown
from genets.core.image_facts import ImageOrigin, Preprocessing
from genets.core.json_files import READ_ERRORS
from genets.networks.weights import read_metadata, stated_number

# The entries of timm's configuration that describe a network and not its published weights.
KEPT = ("architecture", "first_conv", "classifier", "fixed_input_size", "min_input_size")


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """Known facts about the training of some weights; None for an unknown fact.

    Attributes:
        class_names: In the order of the outputs.
        preprocessing: The preprocessing of the images.
        origin: The images of the training.
        scored_at: Pixels along one side of the images with which timm scores published weights.
        resolution: Pixels along one side of the images of a training with genets.
    """

    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    origin: ImageOrigin | None = None
    scored_at: int | None = None
    resolution: int | None = None


def read_facts(metadata: Mapping[str, str], path: str | Path) -> WeightsFacts:
    """Read the facts from the texts beside the tensors.

    Args:
        metadata: The texts. An older genets stored mean and standard deviation alone, and its
            preprocessing was the default.
        path: The file, for messages.

    Raises:
        GenetsError: A text is no JSON, or a value is wrong.
    """
    stated = {
        name: _parsed(metadata, name, path)
        for name in ("class_names", "mean", "std", "preprocessing", "images")
    }
    names = stated["class_names"]
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise GenetsError(
            f"weights {str(path)!r} must state class_names as a list of texts, not {shown(names)}"
        )
    preprocessing = stated["preprocessing"]
    if preprocessing is None and None not in (stated["mean"], stated["std"]):
        preprocessing = {"mean": stated["mean"], "std": stated["std"]}
    origin = stated["images"] or _older_origin(metadata)
    pixels = None  # in a file of another program, or in a checkpoint of an older genets
    if "resolution" in metadata:
        pixels = stated_number(metadata, "resolution", path)
    try:
        return WeightsFacts(
            tuple(names) if names else None,
            None if preprocessing is None else Preprocessing.from_json(preprocessing),
            None if origin is None else ImageOrigin.from_json(origin),
            resolution=pixels,
        )
    except GenetsError as error:
        raise GenetsError(f"weights {str(path)!r} state wrong facts: {error}") from error


def were_trained_on(path: str | Path, images: ImageOrigin) -> bool:
    """Whether a file of weights says that they were trained on images of this data.

    A folder counts as the same data also where images were added to it since that training.

    Args:
        path: As in the settings of a training; empty for fresh or published weights.
        images: The facts about the images of the data.

    Raises:
        GenetsError: The file is missing or damaged.
    """
    if not path:
        return False
    origin = read_facts(read_metadata(path), path).origin
    return origin is not None and origin.may_share_images(images)


def _parsed(metadata: Mapping[str, str], name: str, path: str | Path) -> Any:
    text = metadata.get(name)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenetsError(
            f"weights {str(path)!r} must state {name} as JSON, not {shown(text)}"
        ) from error


def _older_origin(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The origin from the settings of a training run, which an older genets stored instead."""
    try:
        settings = json.loads(metadata["training"])
        return {name: settings[name] for name in ("data", "seed")}
    except READ_ERRORS:
        return None


def published_facts(net: nn.Module) -> WeightsFacts:
    """Facts about published weights, from timm's configuration of their network.

    The resize and the crop are those of timm's validation script.
    """
    config = pretrained_config(net)
    if not {"mean", "std"} <= config.keys():
        return WeightsFacts()
    resolved = resolve_data_config(pretrained_cfg=config, use_test_size=True)
    scored_at = resolved.pop("input_size")[-1]
    return WeightsFacts(preprocessing=Preprocessing(**resolved), scored_at=scored_at)


def pretrained_config(net: nn.Module) -> dict[str, Any]:
    """timm's description of a network and its published weights; empty for other networks."""
    config: dict[str, Any] = getattr(net, "pretrained_cfg", None) or {}
    return config


def describe_training(
    net: nn.Module, input_size: tuple[int, int, int], num_classes: int, facts: WeightsFacts
) -> None:
    """Give a network timm's configuration of its own training, in place of the published one.

    `timm.data.resolve_model_data_config` then gives the preprocessing of the training.

    Args:
        net: The network, with weights of a training with genets.
        input_size: Channels, height and width of the input.
        num_classes: The number of outputs.
        facts: Known facts about the training.
    """
    own = pretrained_config(net)
    config = {name: own[name] for name in KEPT if name in own}
    if input_size == tuple(own.get("input_size", ())) and "pool_size" in own:
        config["pool_size"] = own["pool_size"]
    config |= {"input_size": input_size, "num_classes": num_classes}
    if facts.preprocessing is not None:
        values = facts.preprocessing.to_json()
        config |= values | {name: tuple(values[name]) for name in ("mean", "std")}
    if facts.class_names is not None:
        config["label_names"] = facts.class_names
    net.pretrained_cfg = net.default_cfg = config  # type: ignore[assignment]
