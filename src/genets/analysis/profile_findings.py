"""What a profile shows: one sentence for each figure, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genets.analysis.findings import spearman
from genets.analysis.profile import Profile
from genets.analysis.row import Row

FLAT = 1.05  # per-image latency this close to the least has stopped falling


def batch_sentence(profile: Profile) -> str:
    """Where the latency per image stops falling with the batch size (Figure 2a)."""
    parts = []
    for name in profile.batches.networks:
        rows = [r for r in profile.batches.rows if r.network == name and r.measurement]
        if len(rows) < 2:
            continue
        rows.sort(key=lambda row: row.target.batch_size)
        ms = [_ms(row) for row in rows]
        first = next(i for i, value in enumerate(ms) if value <= FLAT * min(ms))
        size = rows[first].target.batch_size
        begin, after = f"{name} {ms[0]:.3g} ms at batch size", _after(rows, first)
        if first == 0:
            parts.append(f"{begin} {size}, the least ({after})")
            continue
        times = f"{ms[0] / ms[first]:.2g} times less"
        parts.append(
            f"{begin} {rows[0].target.batch_size}, {ms[first]:.3g} ms at {size} ({times}, {after})"
        )
    if not parts:
        return "Too few batch sizes were measured to say how latency depends on them."
    return f"Latency per image by batch size: {'; '.join(parts)}."


def _after(rows: Sequence[Row], first: int) -> str:
    """What comes after the batch size that is about the best. rows: by batch size."""
    if first == len(rows) - 1:
        return "still falling at the largest one"
    worst = max(rows[first:], key=_ms)
    if _ms(worst) <= FLAT**2 * _ms(rows[first]):
        return "flat from there"
    return f"then up to {_ms(worst):.3g} ms at {worst.target.batch_size}"


def cost_sentence(profile: Profile) -> str:
    """How far multiply-adds and parameters tell the latency (Figure 2b, c)."""
    rows = [row for row in profile.costs.rows if row.measurement]
    by_work = spearman([(row.multiply_adds, _ms(row)) for row in rows])
    by_size = spearman([(row.parameters, _ms(row)) for row in rows])
    if by_work is None or by_size is None:
        return "Too few networks were measured to say what their latency depends on."
    per_work = {row.network: _ms(row) / (row.multiply_adds or 1) * 1e9 for row in rows}
    cheap, dear = (f(per_work, key=per_work.__getitem__) for f in (min, max))
    return (
        f"Over {len(rows)} networks the rank correlation of latency is {by_work:.2f} with "
        f"multiply-adds and {by_size:.2f} with parameters (1 would be the same order); a billion "
        f"multiply-adds take {per_work[cheap]:.3g} ms in {cheap} and {per_work[dear]:.3g} ms in "
        f"{dear}, {per_work[dear] / per_work[cheap]:.2g} times as long."
    )


def block_sentence(profile: Profile) -> str:
    """Whether the order of XX, BL and DW is the paper's (Figure 3)."""
    found = [
        *_by_width(profile, "DW", min(profile.settings.ratios), faster=True),
        *_by_width(profile, "BL", min(profile.settings.ratios), faster=True),
        *_by_width(profile, "BL", 1.0, faster=False),
        *(_by_parameters(profile, kind) for kind in ("BL", "DW")),
    ]
    parts = [part for part in found if part]
    if not parts:
        return "Too few blocks were measured to compare them."
    return f"Against XX: {'; '.join(parts)}."


def _by_width(profile: Profile, kind: str, ratio: float, *, faster: bool) -> list[str]:
    """The claim that a block is faster (or slower) than XX at equal width."""
    latency = _block_latency(profile)
    pairs = [
        (latency[key], latency["XX", 1.0, key[2]])
        for key in latency
        if key[:2] == (kind, ratio) and ("XX", 1.0, key[2]) in latency
    ]
    if not pairs:
        return []
    held = sum((ms < xx) == faster for ms, xx in pairs)
    times = np.median([xx / ms for ms, xx in pairs])
    word, median = "faster" if faster else "slower", f"median {times:.2g} times the speed"
    return [
        f"at equal width {kind} with r = {ratio:g} is {word} at {held} of {len(pairs)} widths "
        f"({median}; {_verdict(held, pairs)})"
    ]


def _by_parameters(profile: Profile, kind: str) -> str:
    """The paper's claim that XX is the faster one at equal parameters."""
    rows = [row for row in profile.blocks.rows if row.measurement]
    line = sorted(_size_and_ms(r) for r in rows if profile.chains[r.network].type == "XX")
    if len(line) < 2:
        return ""
    sizes, ms = np.log(np.array(line)).T
    pairs = []
    for row in rows:
        size, own = _size_and_ms(row)
        if profile.chains[row.network].type == kind and line[0][0] <= size <= line[-1][0]:
            pairs.append((own, float(np.exp(np.interp(np.log(size), sizes, ms)))))
    if not pairs:
        return ""
    held = sum(xx < own for own, xx in pairs)
    times = np.median([xx / own for own, xx in pairs])
    return (
        f"at equal parameters {kind} is slower at {held} of {len(pairs)} points "
        f"(median {times:.2g} times the speed; {_verdict(held, pairs)})"
    )


def _verdict(held: int, pairs: Sequence[object]) -> str:
    if held == len(pairs):
        return "as in the paper"
    return "unlike the paper" if held == 0 else "the paper's order holds in part"


def _block_latency(profile: Profile) -> dict[tuple[str, float, int], float]:
    chains = profile.chains
    return {
        (chains[r.network].type, chains[r.network].ratio, chains[r.network].width): _ms(r)
        for r in profile.blocks.rows
        if r.measurement
    }


def _size_and_ms(row: Row) -> tuple[int, float]:
    assert row.parameters is not None
    return row.parameters, _ms(row)


def _ms(row: Row) -> float:
    assert row.measurement is not None
    return row.measurement.ms_per_image
