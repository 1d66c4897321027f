"""`genets select`: another budget or device from the trials of a study."""

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
    """Select a network for another budget or target from a finished study, in seconds.

    Nothing is trained. Options of the target that are left out are those of the study; for a
    new target its latency table is measured first. The structure is measured before it is shown.

    \b
    genets select runs/mine --budget 0.1ms
    genets select runs/mine --budget 0.5x --device cuda --precision fp16
    """
    from genets.cli.output import print_json, print_tables
    from genets.cli.progress import show_progress
    from genets.cli.targets import given, make_target
    from genets.nas import run
    from genets.nas.study import load_settings
    from genets.report import selected_table

    options = given(
        device=device,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
    )
    target = make_target(options, load_settings(study).target) if options else None
    with show_progress(plain=json) as on_event:
        selected = run.select(study, budget, target=target, on_event=on_event)
    if json:
        print_json(selected.to_json())
    else:
        print_tables(selected_table(selected))
