"""Advice from rank: where a BL or DW block approximates an XX block cheaply (section 3.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genets.analysis.rank import RATIOS, NetworkRank, StageRank
from genets.analysis.rank_layers import FULL
from genets.analysis.rank_spectrum import ENERGY
from genets.errors import GenetsError

PROFILE_FILE = "profile.json"
BLOCKS_FIGURE = "3"
KINDS = ("BL", "DW")


@dataclass(frozen=True)
class BlockLatencies:
    """Figure 3 of a profile: ms per image of chains of equal visual region.

    ms: by (type, ratio, width), where the width of DW is that of its depth-wise layer, and its
        ratio the width it hands on over that one, as in section 3.2. target: in words.
    """

    ms: Mapping[tuple[str, float, int], float]
    target: str
    resolution: int

    @property
    def ratios(self) -> tuple[float, ...]:
        """Those below 1, descending."""
        return tuple(sorted({ratio for _, ratio, _ in self.ms if ratio < 1}, reverse=True))

    def nearest_width(self, channels: int) -> int:
        widths = {width for kind, _, width in self.ms if kind == "XX"}
        return min(widths, key=lambda width: abs(math.log(width / channels)))


@dataclass(frozen=True, slots=True)
class Choice:
    """A block of this width that goes through `ratio` times as many channels.

    type: `BL` or `DW`. kept: the share of the kernel's energy that it can keep at most.
    times_latency: its latency over that of XX of the same width; None without a profile.
    """

    type: str
    ratio: float
    kept: float
    times_latency: float | None

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
        """The fastest that can keep 90 % of the energy and is faster than XX; None for XX.

        Without a profile the one with the smallest ratio.
        """
        enough = [choice for choice in self.choices if choice.enough]
        if self.width is None:
            return min(enough, key=lambda choice: choice.ratio, default=None)
        timed = [(c.times_latency, i) for i, c in enumerate(enough) if c.times_latency is not None]
        times, index = min(timed, default=(1.0, 0))
        return enough[index] if times < 1 else None

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
        share = stage.spectrum.directions() / stage.channels
        head = f"Stage {stage.stage}: {share:.0%} of {stage.channels} directions hold 90 %"
        if best is None and any(choice.enough for choice in self.choices):
            return f"{head}, but no block that can keep that is faster than XX: XX."
        if best is None:
            return f"{head}, and no ratio below 1 that was looked at can keep that: XX."
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
    if latencies is None:
        return Advice(stage, tuple(Choice(kind, ratio, stage.spectrum.kept(ratio), None)
                                   for ratio in RATIOS for kind in KINDS), None)  # fmt: skip
    width, ms = latencies.nearest_width(stage.channels), latencies.ms
    choices = tuple(
        Choice(kind, ratio, stage.spectrum.kept(ratio),
               ms[kind, ratio, width] / ms["XX", 1.0, width])
        for ratio in latencies.ratios
        for kind in KINDS
        if (kind, ratio, width) in ms
    )  # fmt: skip
    return Advice(stage, choices, width)


def load_block_latencies(folder: Path) -> BlockLatencies:
    """What `genets profile --out FOLDER` left. Raises GenetsError: nothing there, or damaged."""
    path = folder / PROFILE_FILE
    try:
        rows = [row for row in json.loads(path.read_bytes())["rows"]
                if row["figure"] == BLOCKS_FIGURE and row["ms_per_image"] is not None]  # fmt: skip
        ms = {(row["type"], float(row["ratio"]), int(row["width"])): float(row["ms_per_image"])
              for row in rows}  # fmt: skip
        if not any(kind == "XX" for kind, _, _ in ms):
            raise GenetsError(f"{path} has no latency of an XX block; make the profile again")
        row = rows[0]
        words = (row["device"], row["engine"], row["precision"], f"batch {row['batch_size']}")
        return BlockLatencies(ms, ", ".join(words), int(row["resolution"]))
    except OSError as error:
        raise GenetsError(
            f"no profile in {str(folder)!r}; `genets profile --out {folder}` makes one"
        ) from error
    except GenetsError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise GenetsError(f"{path} is damaged, or no profile ({error!r})") from error
