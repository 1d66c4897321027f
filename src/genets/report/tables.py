"""Tables for the screen: values in, rich renderables out.

Names that users chose go in as `rich.text.Text`, so that brackets in them are not markup.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

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
