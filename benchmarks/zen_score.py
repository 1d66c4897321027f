"""Zen-score: a score without any training, from the output of a network with random weights.

Lin, Wang, Sun, Chen, Sun, Qian, Li, Jin: Zen-NAS: A Zero-Shot NAS for High-Performance Deep Image
Recognition, ICCV 2021, algorithm 1. Weights and images are standard normal, residual links are
removed, and batch norm uses the statistics of the batch. With f the network up to its last feature
map, the score is the mean of log |f(x + a e) - f(x)| plus, for each batch norm, the log of its
divisor. (The first term has no scale because of the batch norms.)
"""

from __future__ import annotations

import math

import torch
from timm.models.byobnet import ByobNet
from torch import Tensor, nn

from genets.data.seeds import make_generator
from genets.networks import build
from genets.structure import Structure

STEP = 0.01  # a
REPEATS = 32
BATCH = 16


@torch.no_grad()
def zen_score(
    structure: Structure, seed: int = 0, repeats: int = REPEATS, batch: int = BATCH
) -> float:
    """The mean over all repeated draws of weights and images, in nats; higher counts as better."""
    generator = make_generator("zen", seed)
    net = _without_links(build(structure, 10)).train()
    scores = [_score(net, structure.resolution, generator, batch) for _ in range(repeats)]
    return sum(scores) / repeats


def _without_links(net: ByobNet) -> ByobNet:
    for module in net.modules():
        if hasattr(module, "shortcut"):
            module.register_module("shortcut", None)
    return net


def _score(net: ByobNet, resolution: int, generator: torch.Generator, batch: int) -> float:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.fill_(1.0)
            module.bias.zero_()
    images, noise = torch.randn(2, batch, 3, resolution, resolution, generator=generator)
    scales: list[float] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: scales.append(_log_scale(inputs[0])))
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    features = net.forward_features(images)
    for hook in hooks:
        hook.remove()
    moved = net.forward_features(images + STEP * noise)
    change = (moved - features).abs().sum(dim=(1, 2, 3)).mean().item()
    return math.log(change) + sum(scales)


def _log_scale(features: Tensor) -> float:
    """Log of the root mean square, over channels, of the divisor of a batch norm."""
    return 0.5 * math.log(features.var(dim=(0, 2, 3), unbiased=False).mean().item())
