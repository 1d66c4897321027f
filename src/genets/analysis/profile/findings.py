"""What a profile shows: one sentence for each figure, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genets.analysis.comparison.findings import is_below, is_faster, spearman
from genets.analysis.comparison.rows import ComparisonRow
from genets.analysis.profile.profile import Profile

FLAT = 1.05  # per-image latency this close to the least has stopped falling
CLOSE = "too close to tell"  # the 95 % intervals touch


def batch_sentence(profile: Profile) -> str:
    """Where the latency per image stops falling with the batch size (Figure 2a)."""
    parts = []
    for name in profile.batches.networks:
        rows = [r for r in profile.batches.rows if r.network == name and r.measurement]
        if len(rows) < 2:
            continue
        rows.sort(key=lambda row: row.target.batch_size)
        least = min(map(_ms, rows))
        first = next(i for i, row in enumerate(rows) if _ms(row) <= FLAT * least)
        begin = f"{name} {_written(_ms(rows[0]))} ms at batch size {rows[0].target.batch_size}"
        if first == 0:
            parts.append(f"{begin}, the least ({_after(rows, first)})")
            continue
        best = f"{_written(_ms(rows[first]))} ms at {rows[first].target.batch_size}"
        times = f"{_written(_ms(rows[0]) / _ms(rows[first]), 2)} times less"
        if is_faster(rows[first], rows[0]) is None:
            times = CLOSE
        parts.append(f"{begin}, {best} ({times}, {_after(rows, first)})")
    if not parts:
        return "Too few batch sizes were measured to say how latency depends on them."
    return f"Latency per image by batch size: {'; '.join(parts)}."


def _after(rows: Sequence[ComparisonRow], first: int) -> str:
    """What comes after the batch size that is about the best. rows: by batch size."""
    if first == len(rows) - 1:
        unsure = is_faster(rows[-1], rows[-2]) is None
        return f"{'perhaps ' * unsure}still falling at the largest one"
    worst = max(rows[first:], key=_ms)
    if _ms(worst) <= FLAT**2 * _ms(rows[first]):
        return "flat from there"
    noise = ", within the noise" if is_faster(rows[first], worst) is None else ""
    return f"then up to {_written(_ms(worst))} ms at {worst.target.batch_size}{noise}"


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
        f"multiply-adds take {_written(per_work[cheap])} ms in {cheap} and "
        f"{_written(per_work[dear])} ms in {dear}, "
        f"{_written(per_work[dear] / per_work[cheap], 2)} times as long."
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
    rows = _block_rows(profile)
    pairs = [
        (row, rows["XX", 1.0, key[2]])
        for key, row in rows.items()
        if key[:2] == (kind, ratio) and ("XX", 1.0, key[2]) in rows
    ]
    if not pairs:
        return []
    orders = [is_faster(row, xx) for row, xx in pairs]
    times = float(np.median([_ms(xx) / _ms(row) for row, xx in pairs]))
    told = _told("faster" if faster else "slower", orders, faster, "widths", times)
    return [f"at equal width {kind} with r = {ratio:g} is {told}"]


def _by_parameters(profile: Profile, kind: str) -> str:
    """The paper's claim that XX is the faster one at equal parameters."""
    rows = [row for row in profile.blocks.rows if row.measurement]
    line = sorted(_size_and_ms(r) for r in rows if profile.chains[r.network].type == "XX")
    if len(line) < 2:
        return ""
    sizes, *bounds = np.log(np.array(line)).T
    orders, times = [], []
    for row in rows:
        size, ms, low, high = _size_and_ms(row)
        if profile.chains[row.network].type != kind or not line[0][0] <= size <= line[-1][0]:
            continue
        xx, xx_low, xx_high = (float(np.exp(np.interp(np.log(size), sizes, b))) for b in bounds)
        orders.append(is_below((low, high), (xx_low, xx_high)))
        times.append(xx / ms)
    if not orders:
        return ""
    told = _told("slower", orders, False, "points", float(np.median(times)))
    return f"at equal parameters {kind} is {told}"


def _told(word: str, orders: Sequence[bool | None], claim: bool, places: str, times: float) -> str:
    """How often a claim of the paper holds, where the noise leaves an answer."""
    held, unsure = orders.count(claim), orders.count(None)
    close = f", {CLOSE} at {unsure}" if unsure else ""
    verdict = "the paper's order holds in part"
    if unsure == len(orders):
        verdict = "so neither for nor against the paper"
    elif held + unsure == len(orders):
        verdict = "as in the paper" + ", where it can be told" * bool(unsure)
    elif held == 0:
        verdict = "unlike the paper" + ", where it can be told" * bool(unsure)
    return (
        f"{word} at {held} of {len(orders)} {places}{close} "
        f"(median {_written(times, 2)} times the speed; {verdict})"
    )


def _block_rows(profile: Profile) -> dict[tuple[str, float, int], ComparisonRow]:
    chains = profile.chains
    return {
        (chains[r.network].type, chains[r.network].ratio, chains[r.network].width): r
        for r in profile.blocks.rows
        if r.measurement
    }


def _size_and_ms(row: ComparisonRow) -> tuple[int, float, float, float]:
    """Parameters; ms per image and the ends of its interval."""
    m = row.measurement
    assert m is not None
    assert row.parameters is not None
    return row.parameters, m.ms_per_image, m.low_ms_per_image, m.high_ms_per_image


def _ms(row: ComparisonRow) -> float:
    return _size_and_ms(row)[1]


def _written(value: float, digits: int = 3) -> str:
    """Rounded to that many digits, never with an exponent."""
    return np.format_float_positional(value, digits, fractional=False, trim="-")
