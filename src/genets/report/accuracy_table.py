"""Tables of `genets eval` and `genets export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.latency.accuracy import Accuracy


def accuracy_table(name: str, images: str, accuracies: Mapping[str, Accuracy]) -> Table:
    """One line for each target. images: which data and split."""
    counted = next(iter(accuracies.values())).images
    table = Table(title=Text(f"{name} on {counted} images of {images}"), title_justify="left")
    table.add_column("target", no_wrap=True)
    for column in ("top-1", "top-5", "cross-entropy"):
        table.add_column(column, justify="right", no_wrap=True)
    for target, one in accuracies.items():
        table.add_row(target, f"{one.top1:.2%}", f"{one.top5:.2%}", f"{one.cross_entropy:.4f}")
    return table


def export_table(name: str, folder: Path, contract: Mapping[str, Any]) -> Table:
    """What was written, what it must be fed, and how close it is when loaded again."""
    fed, how = contract["input"], contract["quantisation"]
    facts = [
        *(("file", str(folder / file)) for file in (*contract["files"], "contract.json")),
        ("input", f"{fed['name']}, {fed['dtype']} {tuple(fed['shape'])}, {fed['values']}"),
        ("mean, std", "not known" if fed["mean"] is None else f"{fed['mean']}, {fed['std']}"),
        ("quantised", "no" if how is None else f"{how['tool']}; {how['images']} images"),
        ("loaded again", f"differs by {contract['largest_difference_when_loaded_again']:.2g}"),
    ]
    table = Table(title=Text(name), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact, value in facts:
        table.add_row(fact, Text(value))
    return table
