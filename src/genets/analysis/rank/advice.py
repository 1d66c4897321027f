"""Advice from rank: where a BL or DW block approximates an XX block cheaply (section 3.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genets.analysis.rank.layers import FULL
from genets.analysis.rank.rank import RATIOS, NetworkRank, StageRank
from genets.analysis.rank.spectrum import ENERGY
from genets.core.errors import GenetsError

PROFILE_FILE = "profile.json"
BLOCKS_FIGURE = "3"
KINDS = ("BL", "DW")


@dataclass(frozen=True, slots=True)
class Timed:
    """A chain's latency in ms per image, with its 95 % interval. noisy: see `Measurement`."""

    ms: float
    low: float
    high: float
    noisy: bool


@dataclass(frozen=True)
class BlockLatencies:
    """Figure 3 of a profile: latencies of chains of equal visual region.

    timed: by (type, ratio, width), where the width of DW is that of its depth-wise layer, and
        its ratio the width it hands on over that one, as in section 3.2. target: in words.
    """

    timed: Mapping[tuple[str, float, int], Timed]
    target: str
    resolution: int

    @property
    def ratios(self) -> tuple[float, ...]:
        """Those below 1, descending."""
        return tuple(sorted({ratio for _, ratio, _ in self.timed if ratio < 1}, reverse=True))

    def nearest_width(self, channels: int) -> int:
        widths = {width for kind, _, width in self.timed if kind == "XX"}
        return min(widths, key=lambda width: abs(math.log(width / channels)))


@dataclass(frozen=True, slots=True)
class Choice:
    """A block of this width that goes through `ratio` times as many channels.

    type: `BL` or `DW`. kept: the share of the kernel's energy that it can keep at most.
    times_latency: its latency over that of XX of the same width; None without a profile.
    faster: than XX, by more than their 95 % intervals. noisy: one of the two latencies is.
    """

    type: str
    ratio: float
    kept: float
    times_latency: float | None = None
    faster: bool = False
    noisy: bool = False

    @property
    def enough(self) -> bool:
        return self.kept >= ENERGY

    def block(self, stage: StageRank) -> str:
        """The block in the notation, where the width of DW is the one that it hands on."""
        kernel, channels = stage.shape[2], stage.channels
        if self.type == "BL":
            return f"BL{kernel}x{channels}r{self.ratio:g}"
        return f"DW{kernel}x{round(channels * self.ratio)}r{1 / self.ratio:g}"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Advice:
    """width: of the profile, the one nearest to the layer's; None without a profile."""

    stage: StageRank
    choices: tuple[Choice, ...]
    width: int | None

    @property
    def best(self) -> Choice | None:
        """The fastest that can keep 90 % of the energy and is surely faster than XX; None for XX.

        Without a profile the one with the smallest ratio.
        """
        enough = [choice for choice in self.choices if choice.enough]
        if self.width is None:
            return min(enough, key=lambda choice: choice.ratio, default=None)
        faster = [choice for choice in enough if choice.faster]
        return min(faster, key=lambda choice: choice.times_latency or 1.0, default=None)

    def to_json(self) -> dict[str, Any]:
        best = self.best
        return {
            "stage": self.stage.stage,
            "advice": "XX" if best is None else best.type,
            "block": None if best is None else best.block(self.stage),
            "profile_width": self.width,
            "choices": [choice.to_json() for choice in self.choices],
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        stage, best = self.stage, self.best
        needed = stage.spectrum.directions()
        head = (
            f"Stage {stage.stage}: {needed} of {stage.channels} directions "
            f"({needed / stage.channels:.0%}) hold 90 % of the energy"
        )
        if not self.choices:
            return f"{head}; the profile has no BL or DW block of width {self.width}."
        if best is None and any(choice.enough for choice in self.choices):
            return f"{head}; no block that can keep that is surely faster than XX: XX."
        if best is None:
            most = max(self.choices, key=lambda choice: choice.ratio)
            return f"{head}; {most.ratio:g} of the channels keep {most.kept:.0%} at most: XX."
        if best.times_latency is None:
            blocks = " or ".join(replace(best, type=kind).block(stage) for kind in KINDS)
            return f"{head}: {blocks} can keep {best.kept:.0%}."
        return (
            f"{head}: {best.block(stage)} can keep {best.kept:.0%}, at {best.times_latency:.2g} "
            f"times the latency of XX (profile: width {self.width})."
        )


def advise(found: NetworkRank, latencies: BlockLatencies | None = None) -> list[Advice]:
    """For every stage that ends with a full convolution; nothing for untrained weights.

    A block that goes through r times the channels makes a map of rank r times the channels at
    most, so it keeps no more energy of the kernel than the best approximation of that rank. That
    is a bound, and no promise: whether a block reaches it, training shows.
    """
    if not found.trained:
        return []
    return [_advice(stage, latencies) for stage in found.stages if stage.kind == FULL]


def _advice(stage: StageRank, latencies: BlockLatencies | None) -> Advice:
    kept = stage.spectrum.kept
    if latencies is None:
        choices = [Choice(kind, ratio, kept(ratio)) for ratio in RATIOS for kind in KINDS]
        return Advice(stage, tuple(choices), None)
    width = latencies.nearest_width(stage.channels)
    xx = latencies.timed["XX", 1.0, width]
    choices = [
        Choice(kind, ratio, kept(ratio), one.ms / xx.ms, one.high < xx.low, one.noisy or xx.noisy)
        for ratio in latencies.ratios
        for kind in KINDS
        if (one := latencies.timed.get((kind, ratio, width)))
    ]
    return Advice(stage, tuple(choices), width)


def load_block_latencies(folder: Path) -> BlockLatencies:
    """What `genets profile --out FOLDER` left. Raises GenetsError: nothing there, or damaged."""
    path = folder / PROFILE_FILE
    try:
        rows = [row for row in json.loads(path.read_bytes())["rows"]
                if row["figure"] == BLOCKS_FIGURE and row["ms_per_image"] is not None]  # fmt: skip
        timed = {(row["type"], float(row["ratio"]), int(row["width"])): _timed(row) for row in rows}
        if not any(kind == "XX" for kind, _, _ in timed):
            raise GenetsError(f"{path} has no latency of an XX block; make the profile again")
        row = rows[0]
        words = (row["device"], row["engine"], row["precision"], f"batch {row['batch_size']}")
        return BlockLatencies(timed, ", ".join(words), int(row["resolution"]))
    except OSError as error:
        raise GenetsError(
            f"no profile in {str(folder)!r}; `genets profile --out {folder}` makes one"
        ) from error
    except GenetsError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise GenetsError(f"{path} is damaged, or no profile ({error!r})") from error


def _timed(row: Mapping[str, Any]) -> Timed:
    low, high = (float(row[f"{end}_ms_per_image"]) for end in ("low", "high"))
    return Timed(float(row["ms_per_image"]), low, high, bool(row["noisy"]))
