"""`genets compare`: many networks on many targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genets.cli.options import (
    BatchSizes,
    Device,
    Engines,
    Json,
    Precisions,
    Provider,
    Seed,
    Threads,
)
from genets.core.errors import GenetsError

if TYPE_CHECKING:
    from genets.analysis import Comparison

ROWS = "rows.json"


def compare(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of the paper's Table 7, zoo names, timm:NAME, files or notations."
        ),
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option("--set", help="paper34: those of Table 7; modern; or genets."),
    ] = None,
    device: Device = None,
    engine: Engines = None,
    provider: Provider = None,
    precision: Precisions = None,
    batch_size: BatchSizes = None,
    threads: Threads = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: each network's own]")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="genets-1, or paper: 30 runs, trimmed mean (section 3.2).")
    ] = "genets-1",
    time_limit: Annotated[
        float, typer.Option(help="Seconds of sampling for each network and target.")
    ] = 10.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for page, pictures, CSV and JSON, new or to go on with."),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare networks: latencies beside the paper's, frontier, speed-ups at equal accuracy.

    The networks of one target are timed in turn, A B A B, in one run. --engine, --precision and
    --batch-size may be given several times: every combination is a target. A network that cannot
    be measured is a row that says why. Stop it at any moment: finished rows are kept in OUT, and
    the same command goes on with the missing ones.

    \b
    genets compare --set paper34 --batch-size 1 --batch-size 64 --device cuda --precision fp16 \\
        --out runs/table7
    genets compare genet_light timm:resnet18 mine.toml --batch-size 1
    """
    from genets.cli.options import make_targets

    targets = make_targets(
        engine, precision, batch_size, {"device": device, "provider": provider, "threads": threads}
    )
    from genets.analysis import Timing, find_networks
    from genets.analysis import compare as compare_networks
    from genets.cli.output import print_json, print_lines, print_tables, tell_kept
    from genets.cli.progress import show_progress
    from genets.report import comparison_record, comparison_tables, write_comparison

    timing = Timing(protocol, time_limit)
    candidates = find_networks(networks or (), set_name, resolution, seed)
    finished: list[Comparison] = []
    if out:
        out.mkdir(parents=True, exist_ok=True)
    try:
        with show_progress(plain=json) as on_event:
            result = compare_networks(
                candidates,
                targets,
                timing=timing,
                file=out / ROWS if out else None,
                on_progress=on_event,
                on_rows=finished.append,
            )
    except KeyboardInterrupt:
        if finished and not json:
            print_tables(*comparison_tables(finished[-1]))
        tell_kept(out)
        raise
    files = write_comparison(result, out) if out else {}
    if json:
        print_json(comparison_record(result))
    else:
        print_tables(*comparison_tables(result))
        print_lines(f"{name}: {path}" for name, path in files.items())
    if not any(row.measurement for row in result.rows):
        raise GenetsError("no network could be measured; each row says why")
