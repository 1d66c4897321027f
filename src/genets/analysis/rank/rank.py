"""The intrinsic rank of a network's convolutions by stage (Figure 4, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from genets.analysis.rank.layers import BOTTLENECK, FULL, Layer, last_layers
from genets.analysis.rank.spectrum import Spectrum, compute_spectrum, random_share
from genets.core.errors import GenetsError
from genets.networks import NetworkSource
from genets.networks.source import FOLDER, FRESH, PUBLISHED

RATIOS = (0.5, 0.25)  # of BL blocks in the paper's design space
# A rank falls only by more than this share of its value and by more than one channel.
MIN_DIFFERENCE = 0.05
MEASURES: Mapping[str, Callable[[Spectrum], float]] = {
    "stable rank": lambda s: s.stable_rank / s.channels,
    "effective rank": lambda s: s.effective_rank / s.channels,
    "90 % of the energy": lambda s: s.directions() / s.channels,
}


@dataclass(frozen=True, eq=False)
class StageRank:
    """The last k x k convolution of a stage.

    Attributes:
        stage: Number of the stage, counted from 1.
        reduction: Input pixels of the network per output pixel, along one side.
        shape: (c_out, c_in / groups, k, k).
        kind: See `Layer`.
        random_share: The share of directions that holds 90 % of the energy of random weights of
            this shape; None for grouped kernels.
    """

    stage: int
    layer: str
    reduction: int
    shape: tuple[int, ...]
    groups: int
    kind: str
    spectrum: Spectrum
    random_share: float | None

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def fan_in(self) -> int:
        """The number of columns of the full kernel, c_in k^2."""
        return self.shape[1] * self.groups * self.shape[2] * self.shape[3]

    def to_json(self) -> dict[str, Any]:
        spectrum = self.spectrum
        return {
            "stage": self.stage,
            "layer": self.layer,
            "kind": self.kind,
            "reduction": self.reduction,
            "channels": self.channels,
            "fan_in": self.fan_in,
            "kernel": list(self.shape[2:]),
            "groups": self.groups,
            "stable_rank": spectrum.stable_rank,
            "effective_rank": spectrum.effective_rank,
            "directions_90": spectrum.directions(),
            "stable_rank_share": spectrum.stable_rank / self.channels,
            "effective_rank_share": spectrum.effective_rank / self.channels,
            "directions_90_share": spectrum.directions() / self.channels,
            "random_directions_90_share": self.random_share,
            **{f"kept_at_{ratio:g}": spectrum.kept(ratio) for ratio in RATIOS},
            "largest_singular_value": spectrum.largest,
        }


@dataclass(frozen=True)
class NetworkRank:
    """The ranks of a network by stage.

    Attributes:
        weights: The source of the weights, in words; `fresh` for untrained ones.
    """

    name: str
    weights: str
    resolution: int
    stages: tuple[StageRank, ...]

    @property
    def trained(self) -> bool:
        return self.weights != FRESH

    @property
    def compared(self) -> tuple[StageRank, ...]:
        """The stages to compare: all full convolutions, or else all bottlenecks.

        Empty where neither kind has two stages.
        """
        for kind in (FULL, BOTTLENECK):
            stages = tuple(stage for stage in self.stages if stage.kind == kind)
            if len(stages) > 1:
                return stages
        return ()


def rank(
    net: nn.Module,
    resolution: int,
    *,
    name: str = "network",
    weights: str = FRESH,
    super_blocks: int | None = None,
) -> NetworkRank:
    """The spectrum of the last k x k convolution of every stage; `net` is not changed.

    Args:
        net: The network.
        resolution: Input size in pixels.
        name: The name of the network.
        weights: The source of the weights, in words.
        super_blocks: Number of super-blocks of a structure's network; each is then a stage.

    Raises:
        GenetsError: The network has no such convolution, or its weights have no rank.
    """
    ends = None if super_blocks is None else [f"stages.{n}" for n in range(super_blocks)]
    try:
        layers = last_layers(net, resolution, ends)
    except GenetsError as error:
        raise GenetsError(f"{name} has no rank by stage: {error}") from error
    return NetworkRank(name, weights, resolution, tuple(_stage(name, layer) for layer in layers))


def rank_of(source: NetworkSource, *, super_blocks: bool = False) -> NetworkRank:
    """`rank` of a network that was named. Raises GenetsError where it has no super-blocks."""
    words = {FRESH: FRESH, FOLDER: FOLDER, PUBLISHED: "pretrained"}
    name = source.name if source.weights in words else f"{source.name}, {source.weights}"
    if super_blocks and source.structure is None:
        raise GenetsError(f"{name} has no super-blocks; leave super-blocks out")
    count = len(source.structure.super_blocks) if super_blocks and source.structure else None
    return rank(
        source.network,
        source.resolution,
        name=name,
        weights=words.get(source.weights, "checkpoint"),
        super_blocks=count,
    )


def _stage(name: str, layer: Layer) -> StageRank:
    conv = layer.conv
    try:
        spectrum = compute_spectrum(conv.weight, conv.groups)
    except GenetsError as error:
        raise GenetsError(f"layer {layer.name} of {name} has no rank: {error}") from error
    shape = tuple(conv.weight.shape)
    fan_in = shape[1] * shape[2] * shape[3]
    return StageRank(
        layer.stage,
        layer.name,
        layer.reduction,
        shape,
        conv.groups,
        layer.kind,
        spectrum,
        random_share(shape[0], fan_in) if conv.groups == 1 else None,
    )


def claim_sentence(network: NetworkRank) -> str:
    """Whether rank falls along the depth, as section 3.3 of the paper claims."""
    if not network.trained:
        return (
            f"{network.name} has fresh weights: the rank of untrained weights says nothing about "
            "the claim of section 3.3."
        )
    stages = network.compared
    if not stages:
        return (
            f"{network.name} cannot show the claim of section 3.3: it has no two stages that end "
            "with a full convolution."
        )
    first, last = stages[0], stages[-1]
    one_channel = 1 / min(first.channels, last.channels)
    shares = {
        name: (measure(first.spectrum), measure(last.spectrum))
        for name, measure in MEASURES.items()
    }
    falls = sum(a - b > max(MIN_DIFFERENCE * a, one_channel) for a, b in shares.values())
    verdict = {0: "does not show", len(MEASURES): "shows"}.get(falls, "shows in part")
    numbers = ", ".join(f"{name} {a:.0%} and {b:.0%}" for name, (a, b) in shares.items())
    note = "" if first.kind == FULL else " The paper leaves bottleneck convolutions out."
    return (
        f"The claim of section 3.3, that rank falls along the depth, {verdict} in {network.name}: "
        f"in stages {first.stage} and {last.stage}, as shares of the output channels, {numbers}."
        f"{note}"
    )
