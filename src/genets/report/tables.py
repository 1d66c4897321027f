"""Tables for the screen: values in, rich renderables out.

Names that users chose go in as `rich.text.Text`, so that brackets in them are not markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.errors import InfeasibleBudgetError
from genets.latency import Measurement
from genets.nas.result import Confirmed, SearchResult, Selected
from genets.networks.baselines import Baseline, published_tables
from genets.structure import Structure

Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ZooRow:
    """One network of the zoo. multiply_adds: for one image at `resolution` pixels."""

    name: str
    resolution: int
    parameters: int
    multiply_adds: int
    notation: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def search_table(result: SearchResult) -> Table:
    """What a search found: the promise, the scores on test images, and where the files are."""
    failed = f", {result.trials_failed} failed" if result.trials_failed else ""
    return _facts_table(
        "Result",
        [
            *promise_facts(result.selected),
            *_outside_facts(result.selected),
            ("MasterNet", f"{_ms(result.selected.master_ms)}; {_scores(result.master)}"),
            ("winner", f"{_ms(result.selected.measured_ms)}; {_scores(result.winner)}"),
            *_confirmed_facts(result),
            *_round_facts(result),
            ("trials", f"{result.trials_done} done{failed}"),
            ("time", _duration(sum(result.seconds.values()))),
            *((name, str(path)) for name, path in result.files.items()),
            ("in Python", f"import genets; network = genets.load({_quoted(result.results)})"),
        ],
    )


def _confirmed_facts(result: SearchResult) -> Iterable[Fact]:
    """What the winner was chosen among, the best predicted first, and by which score."""
    if result.confirmed:
        several = len({one.structure.resolution for one in result.confirmed}) > 1
        scores = [
            _confirmed_scores(one)
            + f" at {one.structure.resolution} pixels" * several
            + " (winner)" * (one.structure == result.selected.structure)
            for one in result.confirmed
        ]
        epochs = f"on validation images after {result.confirmed[0].epochs} epochs"
        decides = result.response.replace("_", "-")
        yield "candidates", f"{'; '.join(scores)}; {epochs}; {decides} decides"


def _confirmed_scores(one: Confirmed) -> str:
    if one.top1 is None or one.cross_entropy is None:
        return "failed"
    return f"cross-entropy {one.cross_entropy:.4g}, {one.top1:.2%} right"


def _round_facts(result: SearchResult) -> Iterable[Fact]:
    """Which MasterNet each round took its trials around, and its score on validation images."""
    for each in result.rounds:
        around = f"{each.trials_done} trials around {each.master}"
        right = f"{each.score['top1']:.2%} of validation images right"
        own = f"{right}, cross-entropy {each.score['cross_entropy']:.4g}"
        yield f"round {each.number}", f"{around}; {own}"


def selected_table(selected: Selected, caution: float = 0.0) -> Table:
    """A structure selected from a study, with its promise.

    caution: the standard deviations that were taken off when it was selected.
    """
    facts = [*promise_facts(selected), *_value_facts(selected, caution)]
    return _facts_table("Selected", [*facts, ("structure", str(selected.structure))])


def _value_facts(selected: Selected, caution: float) -> Iterable[Fact]:
    value, std = selected.predicted_accuracy, selected.predicted_accuracy_std
    if value is None:
        pixels = f"{selected.structure.resolution} pixels"
        yield "predicted value", f"none, as trials say nothing of what {pixels} bring"
        return
    spread = "" if std is None else f" ± {std:.4f}"
    said = "top-1, or minus the cross-entropy, on validation images"
    yield "predicted value", f"{value:.4f}{spread} ({said})"
    yield from _outside_facts(selected)
    if caution:
        deviations = "standard deviation" if caution == 1 else "standard deviations"
        bound = f"{value - caution * (std or 0):.4f}, {caution:g} {deviations} below"
        yield "lower bound", f"{bound}; by this it was selected"


def _outside_facts(selected: Selected) -> Iterable[Fact]:
    """Where a prediction goes beyond what trials have tried."""
    if selected.outside:
        yield "extrapolated", "; ".join(selected.outside)


def promise_facts(selected: Selected) -> list[Fact]:
    """Budget, predicted, measured, bound and margin."""
    interval = f"95 % interval {selected.low_ms:.4g} to {selected.high_ms:.4g}"
    side = "below" if selected.margin >= 0 else "ABOVE"
    return [
        ("budget", _ms(selected.budget_ms)),
        (
            "predicted",
            f"{_ms(selected.predicted_ms)}; table error {selected.table_rmspe:.1%} RMSPE",
        ),
        ("measured", f"{_ms(selected.measured_ms)}; {interval}{', noisy' * selected.noisy}"),
        ("bound", _ms(selected.high_ms)),
        ("margin", f"{abs(selected.margin):.1%} {side} the budget"),
    ]


def measurement_table(name: str, measurement: Measurement) -> Table:
    """One measured network with its conditions."""
    m = measurement
    noisy = "yes: the interval did not come within 1 % in time" if m.noisy else "no"
    return _facts_table(
        name,
        [
            ("median", _ms(m.ms_per_image)),
            (
                "95 % interval",
                f"{m.low_ms_per_image:.4g} to {m.high_ms_per_image:.4g} ms per image",
            ),
            ("90th percentile", _ms(m.p90_ms_per_image)),
            ("99th percentile", _ms(m.p99_ms_per_image)),
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


def fastest_table(error: InfeasibleBudgetError) -> Table | None:
    """The fastest network there is, for a budget that none keeps; None if it is not known."""
    if error.fastest is None:
        return None
    facts = [("structure", error.fastest)]
    if error.fastest_ms is not None:
        facts.append(("latency", _ms(error.fastest_ms)))
    if error.budget_ms is not None:
        facts.append(("budget", _ms(error.budget_ms)))
    return _facts_table("Fastest network of the design space", facts)


def zoo_table(rows: Iterable[ZooRow]) -> Table:
    """One line for each network."""
    table = _table(None, left=("name",), right=("pixels", "parameters", "multiply-adds"))
    table.add_column("notation", overflow="fold")
    for row in rows:
        counts = (f"{row.parameters / 1e6:.2f} M", f"{row.multiply_adds / 1e6:.0f} M")
        table.add_row(Text(row.name), str(row.resolution), *counts, Text(row.notation))
    return table


def baselines_table(rows: Iterable[Baseline]) -> Table:
    """One line for each network to compare with; every figure as published, `-` for none."""
    numbers = ("pixels", "parameters", "multiply-adds", "top-1")
    table = _table("Baselines, published figures", left=("name", "set"), right=numbers)
    table.add_column("from", overflow="fold")
    for row in rows:
        counts = [_or_dash(row.parameters_m, "{:g} M"), _or_dash(row.multiply_adds_m, "{:g} M")]
        top1 = _or_dash(row.top1_percent, "{:.1f} %")
        origin = Text(f"{row.network_from}; {row.source}")
        table.add_row(Text(row.name), row.set, str(row.resolution), *counts, top1, origin)
    return table


def baseline_tables(baseline: Baseline) -> list[Table]:
    """What is known of one baseline, and the paper's latencies of it by batch size."""
    facts = [
        ("set", baseline.set),
        ("family", baseline.family),
        ("network", baseline.network_from),
        ("resolution", f"{baseline.resolution} pixels"),
        ("parameters", _or_dash(baseline.parameters_m, "{:g} M")),
        ("multiply-adds", _or_dash(baseline.multiply_adds_m, "{:g} M")),
        ("top-1", _or_dash(baseline.top1_percent, "{:.1f} %")),
        ("source", baseline.source),
        *([("note", baseline.note)] if baseline.note else []),
    ]
    if not baseline.ms_per_image:
        return [_facts_table(baseline.name, facts)]
    return [_facts_table(baseline.name, facts), _published_table(baseline)]


def _published_table(baseline: Baseline) -> Table:
    """A line for each of the paper's latency tables, a column for each batch size."""
    batch_sizes = sorted({size for row in baseline.ms_per_image.values() for size in row})
    title = "The paper's latencies in ms per image, by batch size"
    table = _table(title, left=("measured on",), right=map(str, batch_sizes))
    for name, row in baseline.ms_per_image.items():
        published = published_tables()[name]
        conditions = f"{published.device}, {published.engine}, {published.precision}"
        table.add_row(conditions, *(_or_dash(row.get(size), "{:g}") for size in batch_sizes))
    return table


def stages_table(name: str, structure: Structure) -> Table:
    """One line for each stage; `pixels` along one side of what it hands on."""
    numbers = ("depth", "width", "stride", "kernel", "ratio", "pixels")
    table = _table(f"{name}, {structure.resolution} pixels", left=("stage", "type"), right=numbers)
    pixels = structure.resolution
    for number, stage in enumerate(structure.stages, start=1):
        pixels = -(-pixels // stage.stride)
        values = (stage.depth, stage.width, stage.stride, stage.kernel, f"{stage.ratio:g}", pixels)
        table.add_row(str(number), stage.type, *map(str, values))
    return table


def _facts_table(title: str, facts: Iterable[Fact]) -> Table:
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    return table


def _table(title: str | None, *, left: Iterable[str], right: Iterable[str]) -> Table:
    table = Table(title=Text(title) if title else None, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _ms(ms_per_image: float) -> str:
    return f"{ms_per_image:.4g} ms per image"


def _scores(score: dict[str, float]) -> str:
    return f"{score['top1']:.2%} of test images right, cross-entropy {score['cross_entropy']:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
