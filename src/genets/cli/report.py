"""`genets report`: a study as a page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from genets.cli.options import Json

PAGE = "report.html"


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study, as given to search --out.")],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file.  [default: report.html in the study]")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Accepted by every command; a study keeps the seed it began with.")
    ] = 0,
    json: Json = False,
) -> None:
    """Write a study as one HTML file that needs no network: charts, tables, conditions.

    The frontier with every measured network, the chosen structure beside the MasterNet,
    pseudo-gradients with error bars, trials over time, predictions against measurements. A study
    that is unfinished, running or failed is shown with what there is.

    \b
    genets report runs/mine
    genets report runs/mine --out mine.html
    """
    from genets.cli.output import print_json, print_lines
    from genets.core.errors import GenetsError
    from genets.nas.study.snapshot import Snapshot
    from genets.report import state_sentences, study_record, write_study_page

    file = out or study / PAGE
    snapshot = Snapshot.read(study)
    if not file.parent.is_dir() or file.is_dir():
        raise GenetsError(f"--out must be a file in a folder that is there, not {file}")
    write_study_page(snapshot, file, f"{datetime.now():%Y-%m-%d %H:%M}")
    if json:
        print_json({"page": str(file), **study_record(snapshot)})
    else:
        print_lines([*state_sentences(snapshot), f"page: {file}"])
