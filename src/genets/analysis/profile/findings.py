"""Findings of a profile: speed ratios with intervals, and one sentence for each figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genets.analysis.comparison.findings import (
    Latency,
    SpeedRatio,
    row_latency,
    spearman,
    speed_ratio,
)
from genets.analysis.comparison.rows import ComparisonRow
from genets.analysis.profile.profile import BlockChain, Profile

PAPER_AT_EQUAL_PARAMETERS = "slower"  # the verdict of section 3.2 on BL and DW
NEAR_BEST = 1.05  # times the lowest latency per image: no longer falling with the batch size


@dataclass(frozen=True, slots=True)
class BatchFinding:
    """How the latency per image of a network changes with the batch size (Figure 2a).

    Attributes:
        smallest: The row of the smallest batch size.
        best: The row of the smallest batch size within 5 % of the lowest latency per image.
        gain: The speed of `best` over that of `smallest`; None where they are one row.
        slowest_later: The slowest row above the batch size of `best`; None where `best` has the
            largest batch size.
        later: The speed of `slowest_later` over that of `best`.
    """

    network: str
    smallest: ComparisonRow
    best: ComparisonRow
    gain: SpeedRatio | None
    slowest_later: ComparisonRow | None
    later: SpeedRatio | None

    def to_json(self) -> dict[str, Any]:
        later = self.slowest_later
        return {
            "network": self.network,
            "smallest_batch_size": self.smallest.target.batch_size,
            "best_batch_size": self.best.target.batch_size,
            "gain": self.gain and self.gain.to_json(),
            "slowest_later_batch_size": later and later.target.batch_size,
            "later": self.later and self.later.to_json(),
        }


@dataclass(frozen=True, slots=True)
class BlockFinding:
    """The speed of a chain of BL or DW blocks over that of XX blocks (Figure 3).

    Attributes:
        equal_width: The ratio at the same width; None where XX was not measured there.
        paper_at_equal_width: "faster" or "slower" where the paper claims it, else None.
        equal_parameters: The ratio at the same number of parameters, where XX is interpolated
            between its widths; None outside of them.
    """

    chain: BlockChain
    equal_width: SpeedRatio | None
    paper_at_equal_width: str | None
    equal_parameters: SpeedRatio | None

    def to_json(self) -> dict[str, Any]:
        return {
            "block": self.chain.series,
            "width": self.chain.width,
            "equal_width": self.equal_width and self.equal_width.to_json(),
            "paper_at_equal_width": self.paper_at_equal_width,
            "equal_parameters": self.equal_parameters and self.equal_parameters.to_json(),
        }


def batch_findings(profile: Profile) -> list[BatchFinding]:
    """A finding for each network with at least two measured batch sizes."""
    findings = []
    for name in profile.batches.networks:
        rows = [row for row in profile.batches.rows if row.network == name and row.measurement]
        if len(rows) < 2:
            continue
        rows.sort(key=lambda row: row.target.batch_size)
        ms = [row_latency(row).ms for row in rows]
        index = next(i for i, each in enumerate(ms) if each <= NEAR_BEST * min(ms))
        best = rows[index]
        later = max(rows[index + 1 :], key=lambda row: row_latency(row).ms, default=None)
        findings.append(
            BatchFinding(
                name, rows[0], best,
                _row_ratio(best, rows[0]) if index else None,
                later, _row_ratio(later, best) if later else None,
            )
        )  # fmt: skip
    return findings


def block_findings(profile: Profile) -> list[BlockFinding]:
    """A finding for each measured chain of BL or DW blocks, compared with XX."""
    measured = [
        (profile.chains[row.network], row) for row in profile.blocks.rows if row.measurement
    ]
    xx_by_width = {chain.width: row for chain, row in measured if chain.type == "XX"}
    smallest_ratio = min(profile.settings.ratios)
    findings = []
    for chain, row in measured:
        if chain.type == "XX":
            continue
        xx = xx_by_width.get(chain.width)
        claim = "faster" if chain.ratio == smallest_ratio < 1 else None
        if chain.type == "BL" and chain.ratio == 1:
            claim = "slower"
        findings.append(
            BlockFinding(
                chain,
                _row_ratio(row, xx) if xx else None,
                claim,
                _ratio_at_equal_parameters(row, list(xx_by_width.values())),
            )
        )
    return findings


def _row_ratio(row: ComparisonRow, other: ComparisonRow) -> SpeedRatio:
    return speed_ratio(row_latency(row), row_latency(other))


def _ratio_at_equal_parameters(
    row: ComparisonRow, xx_rows: Sequence[ComparisonRow]
) -> SpeedRatio | None:
    """Interpolates the latency of XX and its interval, both axes logarithmic."""
    points = sorted((each.parameters or 0, *row_latency(each)) for each in xx_rows)
    if len(points) < 2 or not points[0][0] <= (row.parameters or 0) <= points[-1][0]:
        return None
    sizes, *curves = np.log(np.array(points)).T
    size = np.log(row.parameters or 0)
    xx = Latency(*(float(np.exp(np.interp(size, sizes, curve))) for curve in curves))
    return speed_ratio(row_latency(row), xx)


def batch_sentence(profile: Profile) -> str:
    """For how many networks a larger batch size lowers the latency per image (Figure 2a)."""
    findings = batch_findings(profile)
    if not findings:
        return "Too few batch sizes were measured to compare them."
    gains = [finding.gain.verdict for finding in findings if finding.gain]
    return (
        f"A larger batch size lowers the latency per image of {gains.count('faster')} of "
        f"{len(findings)} networks; {gains.count('unclear')} are unclear."
    )


def cost_sentence(profile: Profile) -> str:
    """Rank correlation of latency with multiply-adds and with parameters (Figure 2b, c)."""
    rows = [row for row in profile.costs.rows if row.measurement]
    by_work = spearman([(row.multiply_adds, row.ms_per_image) for row in rows])
    by_size = spearman([(row.parameters, row.ms_per_image) for row in rows])
    if by_work is None or by_size is None:
        return "Too few networks were measured to correlate latency with their size."
    return (
        f"Over {len(rows)} networks, the rank correlation of latency is {by_work:.2f} with "
        f"multiply-adds and {by_size:.2f} with parameters (1 means the same order)."
    )


def block_sentence(profile: Profile) -> str:
    """In how many comparisons with XX the paper's order of blocks holds (Figure 3)."""
    pairs = []  # (the paper's verdict, ours)
    for finding in block_findings(profile):
        if finding.equal_width and finding.paper_at_equal_width:
            pairs.append((finding.paper_at_equal_width, finding.equal_width.verdict))
        if finding.equal_parameters:
            pairs.append((PAPER_AT_EQUAL_PARAMETERS, finding.equal_parameters.verdict))
    if not pairs:
        return "Too few blocks were measured to compare them."
    held = sum(paper == ours for paper, ours in pairs)
    unclear = sum(ours == "unclear" for _, ours in pairs)
    return (
        f"The paper's order of BL, DW and XX holds in {held} of {len(pairs)} comparisons; "
        f"{len(pairs) - held - unclear} contradict it and {unclear} are unclear."
    )
