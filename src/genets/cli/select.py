"""`genets select`: another budget or device from the trials of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genets.cli.options import BatchSize, Device, Engine, Json, Precision, Threads


def select(
    study: Annotated[Path, typer.Argument(help="Folder of a study, as given to search --out.")],
    budget: Annotated[
        str,
        typer.Option(help="ms or us per image, or times the MasterNet: 0.2ms, 150us, 0.5x."),
    ],
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Alternatives of other block types, the best first."),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="One of the study's input sizes.  [default: the winner's, else the MasterNet's]"
        ),
    ] = None,
    device: Device = None,
    engine: Engine = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    seed: Annotated[
        int, typer.Option(help="Accepted by every command; a study keeps the seed it began with.")
    ] = 0,
    json: Json = False,
) -> None:
    """Select a network for another budget or target from a study's trials, in seconds.

    Nothing is trained. Options of the target that are left out are those of the study; for a
    new target its latency table is measured first. What is shown was measured, and keeps the
    budget. Each alternative of --top is the best whose block types, super-block by super-block,
    are not those of any before it.

    \b
    genets select runs/mine --budget 0.1ms
    genets select runs/mine --budget 0.5x --device cuda --precision fp16
    genets select runs/mine --budget 0.5x --top 5
    """
    from genets.cli.options import given, make_target
    from genets.cli.output import error_console, print_json, print_tables
    from genets.cli.progress import show_progress
    from genets.nas.reselect import select_top
    from genets.nas.study.reader import load_settings
    from genets.report import alternatives_table, selected_table

    options = given(
        device=device,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
    )
    target = make_target(options, load_settings(study).target) if options else None
    with show_progress(plain=json) as on_event:
        found = select_top(
            study,
            budget,
            top or 1,
            target=target,
            resolution=resolution,
            on_event=on_event,
        )
    records = [selected.to_json() for selected in found]
    if top is None:
        if json:
            print_json(records[0])
        else:
            print_tables(selected_table(found[0]))
        return
    if json:
        print_json({"asked": top, "alternatives": records})
    else:
        print_tables(alternatives_table(found))
    if len(found) < top:
        sentence = f"only {len(found)} of {top}: no other block types keep the budget"
        error_console().print(f"note: {sentence}", markup=False, soft_wrap=True)
