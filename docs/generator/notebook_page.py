"""The example notebook: a program that runs it, and its page with the stored output.

    python docs/generator/notebook_page.py     # runs the cells and stores what they print

The cells run in this process, in order, and in an empty folder. That needs no Jupyter.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from genets.core.files import write_atomic

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


def notebook_page(path: Path = NOTEBOOK) -> str:
    """Make the page of a notebook from its cells and their stored output."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = [_part(cell) for cell in notebook["cells"]]
    title, _, rest = parts[0].partition("\n")
    download = f"[Download the notebook]({path.name})"
    return "\n\n".join([title, download, rest.strip(), *parts[1:]]) + "\n"


def run_notebook(path: Path = NOTEBOOK) -> None:
    """Run the cells of a notebook, and store what they print. Raises what a cell raises."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(cells, start=1):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), path.name, "exec"), names)
            lines = printed.getvalue().splitlines(keepends=True)
            stream = {"name": "stdout", "output_type": "stream", "text": lines}
            cell |= {"execution_count": number, "outputs": [stream] if lines else []}
    write_atomic(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _part(cell: dict[str, Any]) -> str:
    """Give one cell as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    blocks = [f"```python\n{source}\n```"]
    blocks += [f"```text\n{''.join(each['text']).rstrip()}\n```" for each in cell["outputs"]]
    return "\n\n".join(blocks)


if __name__ == "__main__":
    run_notebook()
