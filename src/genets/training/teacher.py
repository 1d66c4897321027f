"""A teacher: a network that knows the classes, fed as it is used to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from genets.data import ImageData
from genets.errors import TrainingError
from genets.networks import resolve_network
from genets.networks.weights import WEIGHTS_FILE, read_weights


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


def load_teacher(text: str, data: ImageData) -> TeacherNetwork:
    """The trained network that `text` names: a results folder, or one with published weights.

    Raises GenetsError: no such network, no weights of it; TrainingError: other classes.
    """
    folder = Path(text.strip())
    trained = folder.is_dir()
    with torch.random.fork_rng():
        named = (
            resolve_network(text)
            if trained
            else resolve_network(text, data.num_classes, pretrained=True)
        )
    config = getattr(named.network, "pretrained_cfg", None) or {}
    mean, std = (config.get(key, default) for key, default in
                 (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)))  # fmt: skip
    classes: tuple[str, ...] | None = None
    if trained:
        _, metadata = read_weights(folder / WEIGHTS_FILE)
        mean, std = (
            json.loads(metadata.get(key, json.dumps(value)))
            for key, value in (("mean", mean), ("std", std))
        )
        classes = tuple(json.loads(metadata.get("class_names", "null")) or ()) or None
        count = int(metadata["num_classes"])
    else:
        count = int(config.get("num_classes", 1000))
    if count != data.num_classes or (classes and classes != data.class_names):
        raise TrainingError(
            f"teacher {text} knows {count} classes, and they are not the {data.num_classes} of "
            f"{data.name}; train it on {data.name} first and name its results folder"
        )
    net = TeacherNetwork(named.network, named.resolution, mean, std, data)
    return net.requires_grad_(False).eval()


def _channels(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
