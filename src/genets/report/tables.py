"""Tables for the screen: values in, rich renderables out.

Names that users chose go in as `rich.text.Text`, so that brackets in them are not markup.

One measured network, for the screen.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from genets.latency import Measurement

Fact = tuple[str, str]


def facts_table(title: str, facts: Iterable[Fact]) -> Table:
    """A line for each fact: a word or two, and what there is to say."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return table


def columns_table(title: str | None, *, left: Iterable[str], right: Iterable[str]) -> Table:
    """Without rows yet. left, right: heads of columns, by where their cells are aligned."""
    table = Table(title=Text(title) if title else None, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def ms_text(ms_per_image: float) -> str:
    return f"{ms_per_image:.4g} ms per image"


def measurement_table(name: str, measurement: Measurement) -> Table:
    """One measured network with its conditions."""
    m = measurement
    noisy = "yes: the interval did not come within 1 % in time" if m.noisy else "no"
    return facts_table(
        name,
        [
            ("median", ms_text(m.ms_per_image)),
            (
                "95 % interval",
                f"{m.low_ms_per_image:.4g} to {m.high_ms_per_image:.4g} ms per image",
            ),
            ("90th percentile", ms_text(m.p90_ms_per_image)),
            ("99th percentile", ms_text(m.p99_ms_per_image)),
            ("throughput", f"{_per_second(m.ms_per_image)} images per second"),
            ("noisy", noisy),
            ("samples", str(len(m.samples_ms))),
            ("target", f"{m.target.name}, {m.resolution} pixels, protocol {m.protocol}"),
            ("before, in s", ", ".join(f"{name} {s:.3g}" for name, s in m.seconds.items())),
            *_special_facts(m),
        ],
    )


def _per_second(ms: float) -> str:
    """Four digits, and no exponent: 48,890."""
    rate = float(f"{1e3 / ms:.4g}")
    return f"{rate:,.0f}" if rate >= 1e4 else f"{rate:g}"


def _special_facts(m: Measurement) -> Iterable[Fact]:
    """What only int8 and CUDA devices have."""
    if m.quantisation is not None:
        yield (
            "int8 ranges",
            f"from {m.quantisation['images']} images of "
            + (
                "noise: no accuracy stands behind this latency"
                if m.quantisation["ranges_from"] == "noise"
                else "the data"
            ),
        )
    if m.launch_bound is not None:
        yield "launch-bound", "yes: the host is as slow as the device" if m.launch_bound else "no"
    if m.memory_bytes is not None:
        yield "memory", f"{m.memory_bytes / 2**20:.4g} MiB at its peak"
