"""The example notebook: a program that runs it, and its page with the stored output.

    python docs/generator/notebook_page.py     # runs the cells and stores what they print

The cells run in this process, in order, and in an empty folder. That needs no Jupyter.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genets.core.files import write_atomic

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


def notebook_page(notebook: Mapping[str, Any], note: str = "") -> str:
    """Make the page of a notebook from its cells and their output.

    Args:
        notebook: The content of the notebook's file.
        note: A sentence below the title, which says where the output comes from.
    """
    parts = [_part(cell) for cell in notebook["cells"]]
    title, _, rest = parts[0].partition("\n")
    download = (
        f"[Download the notebook]({NOTEBOOK.name}). To run it, install Jupyter in the environment "
        f"of genets (`pip install notebook`), and give the command `jupyter notebook "
        f"{NOTEBOOK.name}`."
    )
    beginning = [each for each in (title, download, note, rest.strip()) if each]
    return "\n\n".join([*beginning, *parts[1:]]) + "\n"


def read_notebook(path: Path = NOTEBOOK) -> dict[str, Any]:
    """Read a notebook with the output that it stores."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run_notebook(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Run the cells of a notebook, and give the notebook with what its cells print.

    Raises what a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    number, cells = 0, []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
                lines = printed.getvalue().splitlines(keepends=True)
                stream = {"name": "stdout", "output_type": "stream", "text": lines}
                outputs = [stream] if lines else []
                cell = {**cell, "execution_count": number, "outputs": outputs}
            cells.append(cell)
    return {**notebook, "cells": cells}


def store_notebook(path: Path = NOTEBOOK) -> None:
    """Run the cells of a notebook, and store what they print. Raises what a cell raises."""
    notebook = run_notebook(read_notebook(path))
    write_atomic(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _part(cell: Mapping[str, Any]) -> str:
    """Give one cell as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    blocks = [f"```python\n{source}\n```"]
    blocks += [f"```text\n{''.join(each['text']).rstrip()}\n```" for each in cell["outputs"]]
    return "\n\n".join(blocks)


if __name__ == "__main__":
    store_notebook()
