"""Tables for the screen and for CSV files, and the table of one measured network.

Names that users chose are put into `rich.text.Text`, so that their brackets are not markup.
Characters that standard output cannot show become escapes before the columns are aligned.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from genets.core.errors import encodable, printable
from genets.report.html import Cell
from genets.report.wording import NOISE_TEXTS, ms_text

if TYPE_CHECKING:  # `genets zoo` prints tables without PyTorch
    from genets.latency import Measurement

Fact = tuple[str, str]


def facts_table(title: str, facts: Iterable[Fact]) -> Table:
    """A table with one line for each fact: its name and its text."""
    table = Table(title=screen_text(title), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(screen_text(name), screen_text(value))
    return table


def screen_table(
    title: str | None,
    header: Sequence[str],
    rows: Iterable[Sequence[Cell | str]],
    *,
    left: int = 1,
    fold: Collection[str] = (),
    caption: str | None = None,
) -> Table:
    """A table with a header.

    Args:
        title: Above the table.
        header: Names of the columns.
        rows: Cells; a cell of the style "quiet" is dimmed.
        left: Number of leading columns whose text is aligned to the left.
        fold: Columns whose text may wrap; it is aligned to the left.
        caption: Below the table.

    Returns:
        The table for rich.
    """
    table = Table(
        title=screen_text(title) if title else None,
        title_justify="left",
        caption=screen_text(caption) if caption else None,
        caption_justify="left",
    )
    for number, name in enumerate(header):
        wraps = name in fold
        table.add_column(
            screen_text(name),
            justify="left" if number < left or wraps else "right",
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            min_width=6 if wraps else None,
        )
    for row in rows:
        table.add_row(*map(_screen_cell, row))
    return table


def _screen_cell(cell: Cell | str) -> Text:
    if isinstance(cell, Cell):
        return screen_text(cell.text, style="dim" if cell.style == "quiet" else "")
    return screen_text(cell)


def screen_text(text: str, style: str = "") -> Text:
    """Text for the screen, without markup; a character that it cannot show becomes an escape."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return Text(printable(encodable(text, encoding)), style=style)


def csv_text(records: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """One line for each record, below a line with the names of the columns.

    Args:
        records: Values by column; a missing value is an empty cell.
        names: The columns; by default those of the longest record, then all others.
    """
    if names is None:
        longest_first = sorted(records, key=len, reverse=True)
        names = list(dict.fromkeys(name for record in longest_first for name in record))
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def measurement_table(name: str, measurement: Measurement) -> Table:
    """One measured network with its conditions."""
    m = measurement
    interval = "95 % interval" if m.statistic == "median" else "95 % interval of the median"
    noise = {word: f"yes: {text}" for word, text in NOISE_TEXTS.items() if getattr(m, word)}
    return facts_table(
        name,
        [
            (m.statistic, ms_text(m.ms_per_image)),
            (interval, f"{m.low_ms_per_image:.4g} to {ms_text(m.high_ms_per_image)}"),
            ("90th percentile", ms_text(m.p90_ms_per_image)),
            ("99th percentile", ms_text(m.p99_ms_per_image)),
            ("throughput", f"{_per_second(m.ms_per_image)} images per second"),
            *((word, noise.get(word, "no")) for word in NOISE_TEXTS),
            ("samples", str(len(m.samples_ms))),
            ("target", f"{m.target.name}, {m.resolution} pixels, protocol {m.protocol}"),
            ("preparation, s", ", ".join(f"{name} {s:.3g}" for name, s in m.seconds.items())),
            *_special_facts(m),
        ],
    )


def _per_second(ms: float) -> str:
    """Four digits without an exponent, such as 48,890."""
    rate = float(f"{1e3 / ms:.4g}")
    return f"{rate:,.0f}" if rate >= 1e4 else f"{rate:g}"


def _special_facts(m: Measurement) -> Iterable[Fact]:
    """Facts of INT8 networks and of CUDA devices."""
    if m.quantisation is not None:
        is_noise = m.quantisation["ranges_from"] == "noise"
        source = "noise: this network has no useful accuracy" if is_noise else "the data"
        yield "int8 ranges", f"from {m.quantisation['images']} images of {source}"
    if m.launch_bound is not None:
        answer = "yes: the host is as slow as the device" if m.launch_bound else "no"
        share = m.launch_share
        how = "" if share is None else f" (launching takes {100 * share:.0f} % of the device time)"
        yield "launch-bound", answer + how
    if m.memory_bytes is not None:
        yield "memory", f"{m.memory_bytes / 2**20:.4g} MiB at its peak"
    gpu = _gpu_text(m.environment)
    if gpu:
        yield "GPU while it ran", gpu


GPU_FIGURES = {
    "clock_mhz": "{:g} MHz",
    "memory_clock_mhz": "memory {:g} MHz",
    "power_w": "{:.0f} W",
}


def _gpu_text(environment: Mapping[str, Any]) -> str:
    """Clocks, power and limits, such as `1980 MHz, memory 3201 MHz, 412 W`."""
    known = {name: environment.get(name) for name in GPU_FIGURES}
    words = [GPU_FIGURES[name].format(value) for name, value in known.items() if value is not None]
    for reason, share in (environment.get("clock_limits") or {}).items():
        words.append(f"{reason} in {100 * share:.0f} % of the readings")
    if environment.get("other_gpu_processes"):
        words.append(f"{environment['other_gpu_processes']} other processes")
    if words and environment.get("mig"):
        words.append("on a slice of the card (MIG)")
    return ", ".join(words)
