"""A teacher: a network that knows the classes, fed as it is used to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from genets.core.errors import TrainingError
from genets.data import ImageData
from genets.networks import resolve_network
from genets.networks.weights import WEIGHTS_FILE, load_tensors, read_weights, tensors_for
from genets.training.run_inputs import head_of


class TeacherNetwork(nn.Module):
    """Images (N, 3, H, W), normalised as the student's, to the teacher's logits.

    They are normalised anew and resized to `resolution` where the teacher's differ.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, net: nn.Module, resolution: int, mean: Any, std: Any, data: ImageData
    ) -> None:
        super().__init__()
        self.net = net
        self.resolution = resolution
        own_mean, own_std = _channels(mean), _channels(std)
        self.register_buffer("scale", _channels(data.std) / own_std)
        self.register_buffer("offset", (_channels(data.mean) - own_mean) / own_std)
        self.is_same = data.mean == tuple(mean) and data.std == tuple(std)

    def forward(self, images: Tensor) -> Tensor:
        if not self.is_same:
            images = images * self.scale + self.offset
        if images.shape[-1] != self.resolution:
            images = F.interpolate(
                images, (self.resolution,) * 2, mode="bicubic", antialias=True, align_corners=False
            )
        logits: Tensor = self.net(images)
        return logits


def load_teacher(text: str, data: ImageData, weights: str = "") -> TeacherNetwork:
    """The trained network that `text` names: a results folder, or one with published weights.

    weights: a file of the weights of a named network, in place of published ones.
    Raises GenetsError: no such network, no weights of it; TrainingError: other classes.
    """
    folder = Path(text.strip())
    metadata: dict[str, str] = {}
    with torch.random.fork_rng():
        if folder.is_dir():
            named = resolve_network(text)
            _, metadata = read_weights(folder / WEIGHTS_FILE)
        else:
            named = resolve_network(text, data.num_classes, pretrained=not weights)
    config = getattr(named.network, "pretrained_cfg", None) or {}
    if weights and named.structure is not None:  # whose configuration is a mere default
        config = {"mean": data.mean, "std": data.std}
    count = data.num_classes
    if weights:
        metadata = _load_file(named.network, weights, data)
    elif not metadata:
        count = int(config.get("num_classes", 1000))
    _check_classes(text, int(metadata.get("num_classes", count)), metadata, data)
    mean, std = (
        json.loads(metadata[key]) if key in metadata else config.get(key, default)
        for key, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD))
    )
    net = TeacherNetwork(named.network, named.resolution, mean, std, data)
    return net.requires_grad_(False).eval()


def _load_file(net: nn.Module, path: str, data: ImageData) -> dict[str, str]:
    """What is stored beside the weights. Raises GenetsError: they do not fit, or other classes."""
    tensors = tensors_for(net, path)
    head = tensors.get(f"{head_of(net)}.weight")
    if head is not None and head.ndim:
        _check_classes(path, len(head), {}, data)
    load_tensors(net, tensors, path)
    return read_weights(path)[1] if path.endswith(".safetensors") else {}


def _check_classes(teacher: str, count: int, metadata: Mapping[str, str], data: ImageData) -> None:
    names = tuple(json.loads(metadata.get("class_names", "null")) or data.class_names)
    if count != data.num_classes or names != data.class_names:
        raise TrainingError(
            f"teacher {teacher} knows {count} classes, and they are not the {data.num_classes} of "
            f"{data.name}; train it on {data.name} first and name its results folder"
        )


def _channels(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
