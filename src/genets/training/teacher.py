"""A teacher: a trained network whose outputs a student learns from."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from genets.data import ImageData
from genets.data.split import renormalisation
from genets.networks import resolve_network


class TeacherNetwork(nn.Module):
    """Maps images that are normalised for the student to the teacher's logits.

    Where the teacher was trained with another normalisation or resolution, the images are
    converted first.

    Args:
        net: The teacher's network.
        resolution: Its input resolution, in pixels.
        mean: The mean that it was trained with, for R, G and B.
        std: The standard deviation that it was trained with.
        data: The student's data.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, net: nn.Module, resolution: int, mean: Any, std: Any, data: ImageData
    ) -> None:
        super().__init__()
        self.net = net
        self.resolution = resolution
        scale, offset = renormalisation(data, mean, std)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.is_same = data.mean == tuple(mean) and data.std == tuple(std)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W); returns (N, classes)."""
        if not self.is_same:
            images = images * self.scale + self.offset
        if images.shape[-1] != self.resolution:
            images = F.interpolate(
                images, (self.resolution,) * 2, mode="bicubic", antialias=True, align_corners=False
            )
        logits: Tensor = self.net(images)
        return logits


def load_teacher(text: str, data: ImageData, weights: str = "") -> TeacherNetwork:
    """Load a trained network as the teacher of a training run.

    Args:
        text: A results folder, or a network with published weights; see `resolve_network`.
        data: The student's data, whose classes the teacher must have.
        weights: A weights file for a named network, in place of published weights.

    Returns:
        The teacher, frozen and in eval mode.

    Raises:
        GenetsError: There is no such network, it has no weights, or it has other classes.
    """
    source = resolve_network(
        text, data.num_classes, pretrained=not weights, weights=weights or None, seed=0
    )
    source.check_classes(data.class_names, data.name)
    mean, std = source.normalisation or (data.mean, data.std)
    net = TeacherNetwork(source.network, source.resolution, mean, std, data)
    return net.requires_grad_(False).eval()
