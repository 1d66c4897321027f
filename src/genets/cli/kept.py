"""What a command that was stopped says of the rows that it had measured."""

from __future__ import annotations

from pathlib import Path

ROW_FILES = "rows*.json"


def tell_kept(folder: Path | None) -> None:
    """Say on standard error how many measured rows `folder` holds; nothing where there are none."""
    from genets.analysis.comparison.row_file import load_rows
    from genets.cli.output import error_console

    files = sorted(folder.glob(ROW_FILES)) if folder else []
    kept = sum(row.measurement is not None for file in files for row in load_rows(file).rows)
    if kept:
        rows = "1 finished row is" if kept == 1 else f"{kept} finished rows are"
        sentence = f"{rows} kept in {folder}; the same command goes on with the rest."
        error_console().print(sentence, markup=False, soft_wrap=True)
