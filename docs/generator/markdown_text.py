"""Markdown that generated pages share: tables, and text that is safe inside a table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- made by docs/generator from the code -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table. The cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cell(text: str) -> str:
    """Make a text safe for a cell: only its `code` keeps a meaning."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def code(text: str) -> str:
    """Show a short text as code, also in a cell of a table."""
    return f"`{' '.join(text.split())}`" if text else ""


def page(title: str, *parts: str) -> str:
    """Make a page from its parts."""
    lines = [f"# {title}", GENERATED, *(part.strip("\n") for part in parts if part)]
    return "\n\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Escape what Markdown or HTML would interpret."""
    return re.sub(r"[|*\[\]]", lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))
