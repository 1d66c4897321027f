"""AZ-NAS: four scores without any training, from one pass of random images.

Lee, Ham: AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, CVPR 2024; formulas
as in the authors' code (cvlab-yonsei/AZ-NAS). Images are standard normal, weights are drawn after
He et al. (normal, fan-in), and batch norm uses the statistics of the batch. The blocks of a network
are its stem and the blocks of its super-blocks; the head is left out, as in the authors' code for
NAS-Bench-201. Block b maps features to f_b, a matrix of positions (of all images) and channels.

- Entropy of b: -sum p log p, where p are the eigenvalues of the covariance of the channels of f_b,
  divided by their sum.
- Expressivity: the sum of the entropies.
- Progressivity: the smallest increase of the entropy from one block to the next.
- Trainability: the mean over all blocks after the stem of 2 - s - 1/s. Here g_out has random signs,
  g_in is its gradient at the input of the block, and s is the largest singular value of the mean
  over positions of g_in g_out^T. Where the block reduces the resolution, the pixels of g_in that
  belong to one position of g_out become its channels.
- Complexity: multiply-adds.

An identity that keeps width and resolution is a block like any other, as in the authors' code for
NAS-Bench-201: its entropy counts once more, the entropy does not increase, and its trainability is
minus infinity because g_in equals g_out. The trainability of every network with such an identity is
therefore minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import rankdata
from timm.models.byobnet import ByobNet
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from genets.data.seeds import make_generator
from genets.networks import build
from genets.structure import Structure
from genets.structure.cost import multiply_adds
from tables import Floats

BATCH = 16


@dataclass(frozen=True)
class AzNasScores:
    """The four scores of a network; higher counts as better."""

    expressivity: float
    progressivity: float
    trainability: float
    complexity: float


def az_nas(structure: Structure, seed: int = 0, batch: int = BATCH) -> AzNasScores:
    """The scores of a structure at its own resolution."""
    generator = make_generator("az_nas", seed)
    net = _with_he_weights(build(structure, 10), generator).train()
    resolution = structure.resolution
    features = net.stem(torch.randn(batch, 3, resolution, resolution, generator=generator))
    entropies, trainabilities = [_entropy(features)], []
    for block in (block for stage in net.stages for block in stage):
        features = features.detach().requires_grad_()
        output = block(features)
        trainabilities.append(_trainability(features, output, generator))
        features = output.detach()
        entropies.append(_entropy(features))
    return AzNasScores(
        expressivity=sum(entropies),
        progressivity=min(after - before for before, after in pairwise(entropies)),
        trainability=sum(trainabilities) / len(trainabilities),
        complexity=multiply_adds(structure),
    )


def combined(scores: Sequence[AzNasScores]) -> Floats:
    """(networks,): the sum of log(rank / networks) over the four scores; the best has rank N."""
    ranks = rankdata([astuple(network) for network in scores], axis=0)
    return np.asarray(np.log(ranks / len(scores)).sum(axis=1))


def _with_he_weights(net: ByobNet, generator: torch.Generator) -> ByobNet:
    net.requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return net


def _entropy(features: Tensor) -> float:
    """features: (N, channels, H, W)."""
    eigenvalues = torch.linalg.eigvalsh(_by_position(features).T.cov(correction=0))
    shares = eigenvalues.clamp(min=0)  # rounding makes some of them negative
    return float(torch.special.entr(shares / shares.sum()).sum())


def _trainability(features: Tensor, output: Tensor, generator: torch.Generator) -> float:
    """The trainability of the block that maps features to output, both (N, channels, H, W)."""
    g_out = torch.empty_like(output).bernoulli_(0.5, generator=generator).mul_(2).sub_(1).detach()
    (g_in,) = torch.autograd.grad(output, features, g_out)
    if torch.equal(g_in, g_out):
        return -math.inf
    g_in = _by_position(pixel_unshuffle(g_in, g_in.shape[-1] // g_out.shape[-1]))
    mean = g_in.T @ _by_position(g_out) / len(g_in)
    largest = torch.linalg.matrix_norm(mean, ord=2)
    return float(2 - largest - 1 / largest)


def _by_position(features: Tensor) -> Tensor:
    """(N, channels, H, W) to (N H W, channels)."""
    return features.movedim(1, -1).flatten(0, -2)
