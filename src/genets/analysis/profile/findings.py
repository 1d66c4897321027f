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
from genets.analysis.profile.profile import Profile

MIN_CORRELATED = 5  # networks; a rank correlation of fewer says nothing
NEAR_BEST = 1.05  # times the lowest latency per image: no longer falling with the batch size


@dataclass(frozen=True, slots=True)
class ProfileFinding:
    """One comparison of two latencies.

    Attributes:
        network: The network or block, with its batch size or width.
        compared_with: The other latency, in words.
        ratio: The speed of `network` over that of the other.
        paper: "faster" or "slower" where section 3.2 of the paper claims it, else None.
    """

    network: str
    compared_with: str
    ratio: SpeedRatio
    paper: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"network": self.network, "compared_with": self.compared_with,
                **self.ratio.to_json(), "paper": self.paper}  # fmt: skip


def batch_findings(profile: Profile) -> list[ProfileFinding]:
    """Larger against smaller batch sizes of each network (Figure 2a).

    The best batch is the smallest batch size within 5 % of the lowest latency per image. It is
    compared with the smallest batch, and the slowest larger batch is compared with it.
    """
    findings = []
    for name in profile.batches.networks:
        rows = [row for row in profile.batches.rows if row.network == name and row.measurement]
        if len(rows) < 2:
            continue
        rows.sort(key=lambda row: row.target.batch_size)
        ms = [row_latency(row).ms for row in rows]
        index = next(i for i, each in enumerate(ms) if each <= NEAR_BEST * min(ms))
        pairs = [(rows[index], rows[0])] if index else []
        if index < len(rows) - 1:
            slowest = max(rows[index + 1 :], key=lambda row: row_latency(row).ms)
            pairs.append((slowest, rows[index]))
        findings += [
            ProfileFinding(
                f"{name}, batch {row.target.batch_size}",
                f"batch {other.target.batch_size}",
                _row_ratio(row, other),
            )
            for row, other in pairs
        ]
    return findings


def block_findings(profile: Profile) -> list[ProfileFinding]:
    """Each chain of BL or DW blocks against XX of equal width and equal parameters (Figure 3)."""
    measured = [(profile.chains[r.network], r) for r in profile.blocks.rows if r.measurement]
    xx_by_width = {chain.width: row for chain, row in measured if chain.type == "XX"}
    smallest_ratio = min(profile.settings.ratios)
    findings = []
    for chain, row in measured:
        if chain.type == "XX":
            continue
        claim = "faster" if chain.ratio == smallest_ratio < 1 else None
        if chain.type == "BL" and chain.ratio == 1:
            claim = "slower"
        if chain.width in xx_by_width:
            ratio = _row_ratio(row, xx_by_width[chain.width])
            findings.append(ProfileFinding(chain.name, "XX of equal width", ratio, claim))
        at_equal_parameters = _ratio_at_equal_parameters(row, list(xx_by_width.values()))
        if at_equal_parameters:
            words = "XX of equal parameters"
            findings.append(ProfileFinding(chain.name, words, at_equal_parameters, "slower"))
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
    """How often a larger batch size has the lower latency per image (Figure 2a)."""
    verdicts = [finding.ratio.verdict for finding in batch_findings(profile)]
    if not verdicts:
        return (
            "Too few batch sizes were measured to compare them; --sweep 1 --sweep 64 measures two."
        )
    return (
        f"The larger batch size has the lower latency per image in {verdicts.count('faster')} of "
        f"{len(verdicts)} comparisons; {verdicts.count('unclear')} are unclear."
    )


def cost_sentence(profile: Profile) -> str:
    """Rank correlation of latency with multiply-adds and with parameters (Figure 2b, c)."""
    rows = [row for row in profile.costs.rows if row.measurement]
    if len(rows) < MIN_CORRELATED:
        return (
            f"Too few networks were measured to correlate latency with their size: {len(rows)} of "
            f"at least {MIN_CORRELATED}; --network NAME, once for each, chooses them."
        )
    by_work = spearman([(row.multiply_adds, row.ms_per_image) for row in rows])
    by_size = spearman([(row.parameters, row.ms_per_image) for row in rows])
    if by_work is None or by_size is None:
        return "All networks have the same latency or size, so no correlation is known."
    return (
        f"Over {len(rows)} networks, the rank correlation of latency is {by_work:.2f} with "
        f"multiply-adds and {by_size:.2f} with parameters (1 means the same order)."
    )


def block_sentence(profile: Profile) -> str:
    """In how many comparisons with XX the paper's order of blocks holds (Figure 3)."""
    claims = [finding for finding in block_findings(profile) if finding.paper]
    if not claims:
        return (
            "Too few blocks were measured to compare them; --width 64 --width 128 --ratio 0.25 "
            "measures some."
        )
    held = sum(finding.ratio.verdict == finding.paper for finding in claims)
    unclear = sum(finding.ratio.verdict == "unclear" for finding in claims)
    return (
        f"The paper's order of BL, DW and XX holds in {held} of {len(claims)} comparisons; "
        f"{len(claims) - held - unclear} contradict it and {unclear} are unclear."
    )
