"""Advice from rank: the stages where a BL or DW block could replace XX (section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genets.analysis.comparison.findings import Latency, SpeedRatio, speed_ratio
from genets.analysis.rank.layers import FULL
from genets.analysis.rank.rank import RATIOS, NetworkRank, StageRank
from genets.analysis.rank.spectrum import ENERGY
from genets.core.errors import GenetsError
from genets.core.json_files import read_json

PROFILE_FILE = "profile.json"
BLOCKS_FIGURE = "3"
BLOCK_TYPES = ("BL", "DW")
XX_RATIO = 1.0


@dataclass(frozen=True, slots=True)
class TimedChain:
    """The latency of a chain of blocks. noisy: see `Measurement`."""

    latency: Latency
    noisy: bool


@dataclass(frozen=True)
class BlockLatencies:
    """Figure 3 of a profile: latencies of chains of equal visual region.

    Attributes:
        chains: By (type, ratio, width). As in section 3.2, the width of DW is that of its
            depth-wise layer, and its ratio is the output width over this width.
        target: In words.
        resolution: In pixels.
    """

    chains: Mapping[tuple[str, float, int], TimedChain]
    target: str
    resolution: int

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratios below 1, descending."""
        return tuple(sorted({ratio for _, ratio, _ in self.chains if ratio < 1}, reverse=True))

    def nearest_width(self, channels: int) -> int:
        """The width of a timed XX chain that is nearest to `channels` on a logarithmic scale."""
        widths = {width for block_type, _, width in self.chains if block_type == "XX"}
        return min(widths, key=lambda width: abs(math.log(width / channels)))


@dataclass(frozen=True, slots=True)
class Choice:
    """A BL or DW block with `ratio` times the channels of the layer.

    Attributes:
        kept: The share of the kernel's energy that the block can keep at most.
        speed: Its speed over that of XX of the same width; None without a profile.
        noisy: Whether one of the two latencies is noisy.
    """

    type: str
    ratio: float
    kept: float
    speed: SpeedRatio | None = None
    noisy: bool = False

    @property
    def times_latency(self) -> float | None:
        """Its latency over that of XX."""
        return 1 / self.speed.times if self.speed else None

    @property
    def faster(self) -> bool:
        """Whether it is faster than XX by more than the 95 % intervals of both."""
        return self.speed is not None and self.speed.verdict == "faster"

    @property
    def keeps_enough(self) -> bool:
        return self.kept >= ENERGY

    def block(self, stage: StageRank) -> str:
        """The block in the notation, where the width of DW is its output width."""
        kernel, channels = stage.shape[2], stage.channels
        if self.type == "BL":
            return f"BL{kernel}x{channels}r{self.ratio:g}"
        return f"DW{kernel}x{round(channels * self.ratio)}r{1 / self.ratio:g}"

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "ratio": self.ratio,
            "kept": self.kept,
            "times_latency": self.times_latency,
            "faster": self.faster,
            "noisy": self.noisy,
            "speed": self.speed and self.speed.to_json(),
        }


@dataclass(frozen=True)
class Advice:
    """The choices for one stage.

    Attributes:
        width: The width of the profile that is nearest to the layer's; None without a profile.
    """

    stage: StageRank
    choices: tuple[Choice, ...]
    width: int | None

    @property
    def advised(self) -> tuple[Choice, ...]:
        """The choices to take instead of XX; none where XX should stay.

        With a profile, the fastest block that can keep 90 % of the energy and is certainly faster
        than XX. Without a profile, both blocks of the smallest ratio that can keep 90 %.
        """
        enough = [choice for choice in self.choices if choice.keeps_enough]
        if self.width is None:
            smallest = min((choice.ratio for choice in enough), default=None)
            return tuple(choice for choice in enough if choice.ratio == smallest)
        faster = [choice for choice in enough if choice.faster]
        return tuple(sorted(faster, key=lambda choice: choice.times_latency or 1.0)[:1])

    @property
    def best(self) -> Choice | None:
        """The first of the advised choices; None for XX."""
        return next(iter(self.advised), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage.stage,
            "advice": self.best.type if self.best else "XX",
            "block": self.best.block(self.stage) if self.best else None,
            "profile_width": self.width,
            "choices": [choice.to_json() for choice in self.choices],
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        blocks = " or ".join(choice.block(self.stage) for choice in self.advised)
        if self.best is None:
            return f"Stage {self.stage.stage}: XX."
        return f"Stage {self.stage.stage}: {blocks} can keep {self.best.kept:.0%} of the energy."


def advise(network: NetworkRank, latencies: BlockLatencies | None = None) -> list[Advice]:
    """Find the blocks that could replace XX, for every stage that ends with a full convolution.

    A block with r times the channels makes a feature map of rank at most r times the channels, so
    it keeps at most the energy of the best approximation of that rank. This is an upper bound:
    only training shows whether a block reaches it.

    Args:
        network: The ranks of a network.
        latencies: Latencies of blocks on a device; without them, latency is not considered.

    Returns:
        The advice by stage; none for untrained weights.
    """
    if not network.trained:
        return []
    return [_advise_stage(stage, latencies) for stage in network.stages if stage.kind == FULL]


def _advise_stage(stage: StageRank, latencies: BlockLatencies | None) -> Advice:
    kept = stage.spectrum.kept
    if latencies is None:
        choices = [Choice(name, ratio, kept(ratio)) for ratio in RATIOS for name in BLOCK_TYPES]
        return Advice(stage, tuple(choices), None)
    width = latencies.nearest_width(stage.channels)
    xx = latencies.chains["XX", XX_RATIO, width]
    choices = [
        Choice(name, ratio, kept(ratio), speed_ratio(chain.latency, xx.latency),
               chain.noisy or xx.noisy)
        for ratio in latencies.ratios
        for name in BLOCK_TYPES
        if (chain := latencies.chains.get((name, ratio, width)))
    ]  # fmt: skip
    return Advice(stage, tuple(choices), width)


def load_block_latencies(folder: Path) -> BlockLatencies:
    """Read the profile that `genets profile --out FOLDER` wrote.

    Raises:
        GenetsError: The folder has no profile, or the profile is damaged or has no XX block.
    """
    path = folder / PROFILE_FILE
    missing = f"no profile in {str(folder)!r}; make one with `genets profile --out {folder}`"
    try:
        latencies = read_json(path, _read_latencies, cure="make the profile again")
    except OSError as error:
        raise GenetsError(missing) from error
    if latencies is None:
        raise GenetsError(missing)
    return latencies


def _read_latencies(record: Any) -> BlockLatencies:
    rows = [row for row in record["rows"]
            if row["figure"] == BLOCKS_FIGURE and row["ms_per_image"] is not None]  # fmt: skip
    chains = {(row["type"], float(row["ratio"]), int(row["width"])): _timed(row) for row in rows}
    if not any(block_type == "XX" for block_type, _, _ in chains):
        raise GenetsError("it has no latency of an XX block")
    row = rows[0]
    words = (row["device"], row["engine"], row["precision"], f"batch {row['batch_size']}")
    return BlockLatencies(chains, ", ".join(words), int(row["resolution"]))


def _timed(row: Mapping[str, Any]) -> TimedChain:
    ms = (float(row[f"{end}ms_per_image"]) for end in ("", "low_", "high_"))
    return TimedChain(Latency(*ms), bool(row["noisy"]))
