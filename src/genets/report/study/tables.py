"""Tables and records of what was selected from a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.nas.study.records import Selected


def lower_bound(selected: Selected, caution: float) -> float | None:
    """Predicted value less `caution` standard deviations; None where nothing was taken off."""
    value, std = selected.predicted_accuracy, selected.predicted_accuracy_std
    return None if not caution or value is None or std is None else value - caution * std


def selected_record(selected: Selected, caution: float) -> dict[str, Any]:
    """For JSON; a cautious selection says by what it was selected."""
    bound = lower_bound(selected, caution)
    return selected.to_json() | (
        {} if bound is None else {"caution": caution, "predicted_accuracy_bound": bound}
    )


def alternatives_table(found: Sequence[Selected], caution: float) -> Table:
    """A line for each alternative, the best first. All latencies are ms per image."""
    table = Table(title=Text("Alternatives, ms per image"), title_justify="left")
    numbers = ["", "value", "std", *(["bound of value"] if caution else [])]
    for name in (*numbers, "budget", "predicted", "measured", "x MasterNet", "up to", "below"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("types", no_wrap=True)
    table.add_column("structure", overflow="fold", min_width=24)
    for number, one in enumerate(found, start=1):
        std, bound = one.predicted_accuracy_std, lower_bound(one, caution)
        values = (one.predicted_accuracy, std, *([bound] if caution else []))
        cells = [str(number), *("-" if value is None else f"{value:.4f}" for value in values)]
        cells[1] += "*" * bool(one.outside)
        cells += [f"{ms:.4g}" for ms in (one.budget_ms, one.predicted_ms)]
        cells += [f"{one.measured_ms:.4g}{'~' * one.noisy}"]
        cells += [f"{one.measured_ms / one.master_ms:.2f}", f"{one.high_ms:.4g}"]
        cells.append(f"{one.margin:.1%}")
        types = " ".join(super_block.type for super_block in one.structure.super_blocks)
        table.add_row(*cells, types, Text(str(one.structure)))
    table.caption = Text(_LEGEND)
    table.caption_justify = "left"
    return table


_LEGEND = (
    "value: predicted top-1, or minus the cross-entropy, on validation images. up to: the upper "
    "end of the 95 % interval; below: what it leaves of the budget. ~ noisy. * beyond what trials "
    "have tried there"
)
