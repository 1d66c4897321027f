"""`genets report`: a study as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genets.cli.options import OUTPUT, Json, option

PAGE = "report.html"


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study: the --out of genets search.")],
    out: Annotated[Path | None, option("The HTML file.", f"{PAGE} in the study", OUTPUT)] = None,
    json: Json = False,
) -> None:
    """Write a study as one HTML file that works offline.

    The page has charts, tables and the conditions of the search. It shows the frontier with every
    measured network, the chosen structure beside the MasterNet, pseudo-gradients with error bars,
    trials over time, and predictions against measurements. The page of an unfinished, running or
    failed study shows the results so far.

    \b
    genets report runs/mine
    genets report runs/mine --out mine.html
    """
    from genets.cli.output import print_json, print_lines
    from genets.core.errors import GenetsError
    from genets.core.output_folder import check_writable_file
    from genets.nas.snapshot import Snapshot
    from genets.report.files import current_date
    from genets.report.study.facts import state_sentences, study_record
    from genets.report.study.page import write_study_page

    if out is not None:
        check_writable_file(out)
    file = out or study / PAGE
    snapshot = Snapshot.read(study)
    try:
        write_study_page(snapshot, file, current_date())
    except OSError as error:
        if out is not None:
            raise
        raise GenetsError(f"{file}: {error.strerror}; give another place with --out") from error
    if json:
        print_json({"page": str(file), **study_record(snapshot)})
    else:
        print_lines([*state_sentences(snapshot), f"page: {file}"])
