"""HTML pages: one file that contains everything, for a browser without a network.

Callers pass plain text; this module escapes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

# The menu of a chart has no links to an editor on the web.
EMBED_OPTIONS = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    quiet: bool = False

    def html(self) -> str:
        return f"<p{_class('quiet' if self.quiet else '')}>{escape(self.text)}</p>"


@dataclass(frozen=True, slots=True)
class Code:
    """Commands or lines of Python, which a reader copies."""

    lines: Sequence[str]

    def html(self) -> str:
        return f"<pre><code>{escape(chr(10).join(self.lines))}</code></pre>"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    style: `text` for long text and `left` for words, which are aligned to the left; `quiet` for
    secondary values.
    """

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table with numbers aligned to the right; the first column stays visible when it scrolls.

    On a narrow screen each row becomes a card: the first cell is its title, and the name of the
    column stands before each other cell.

    Attributes:
        strong: Numbers of the highlighted rows, counted from 0.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    strong: frozenset[int] = frozenset()

    def html(self) -> str:
        head = "".join(
            f"<th scope=col{_class('left' if self._is_words(column) else '')}>{escape(name)}</th>"
            for column, name in enumerate(self.header)
        )
        body = "".join(
            f"<tr{_class('strong' if number in self.strong else '')}>"
            f"{''.join(_cell(*pair) for pair in zip(row, self.header, strict=True))}</tr>"
            for number, row in enumerate(self.rows)
        )
        return (
            f'<div class="table"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def _is_words(self, column: int) -> bool:
        """Whether a cell of the column is aligned to the left."""
        cells = (row[column] for row in self.rows)
        return any(isinstance(cell, Cell) and cell.style in ("text", "left") for cell in cells)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart that takes the width of its place on the page.

    Attributes:
        chart: A chart of Altair, one view or layers, without a width.
    """

    chart: Any
    caption: str

    def html(self, number: int) -> str:
        return (
            f"<figure><figcaption>{escape(self.caption)}</figcaption>"
            f'<div class="chart" id="chart{number}"></div></figure>'
        )

    def spec(self) -> dict[str, Any]:
        record: dict[str, Any] = self.chart.properties(width="container").to_dict()
        return record


Block = Paragraph | Code | PageTable | Figure


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: Sequence[Block]


def page(
    title: str,
    conditions: Mapping[str, str],
    sections: Iterable[Section],
    headline: str = "",
    lead: str = "",
) -> str:
    """Make a page.

    Args:
        title: The title, and the heading where there is no headline.
        conditions: The conditions of the figures, shown below the title; below all sections where
            there is a headline.
        sections: The content; a section without blocks is skipped.
        headline: The result in one sentence, as the heading below a small title.
        lead: The words of the headline, explained below it.

    Returns:
        The HTML.
    """
    specs: list[dict[str, Any]] = []
    body = "".join(_section(section, specs) for section in sections if section.blocks)
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in conditions.items())
    content = f"<h1>{escape(title)}</h1><dl>{facts}</dl>{body}"
    if headline:
        content = (
            f'<p class="title">{escape(title)}</p><h1>{escape(headline)}</h1>'
            f"{Paragraph(lead, True).html() if lead else ''}{body}"
            f"<section><h2>Conditions</h2><dl>{facts}</dl></section>"
        )
    css = files("genets.report").joinpath("page.css").read_text(encoding="utf-8")
    scripts = _scripts(specs) if specs else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>\n"
        f"<body>{content}{scripts}</body></html>\n"
    )


def _section(section: Section, specs: list[dict[str, Any]]) -> str:
    parts, figures = [f"<h2>{escape(section.title)}</h2>"], []
    for block in section.blocks:
        if isinstance(block, Figure):
            figures.append(block.html(len(specs)))
            specs.append(block.spec())
            continue
        parts += _grid(figures)
        figures = []
        parts.append(block.html())
    return f"<section>{''.join(parts + _grid(figures))}</section>\n"


def _grid(figures: Sequence[str]) -> list[str]:
    return [f'<div class="charts">{"".join(figures)}</div>'] if figures else []


def _cell(cell: Cell | str, column: str) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    return f'<td{_class(cell.style)} data-label="{escape(column)}">{escape(cell.text)}</td>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _scripts(specs: Sequence[Mapping[str, Any]]) -> str:
    # A name with "</script>" would end the script, so every "<" is escaped.
    values = json.dumps(specs, allow_nan=False).replace("<", "\\u003c")
    return (
        f"<script>{_library()}</script>\n<script>const specs = {values};\n"
        f"specs.forEach((spec, i) => vegaEmbed('#chart' + i, spec, {json.dumps(EMBED_OPTIONS)}));"
        "</script>"
    )


@cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])  # of the charts' Vega-Lite
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    return bundle
