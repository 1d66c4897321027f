"""`genets compare`: many networks on many targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from genets.cli.options import (
    OUTPUT,
    Json,
    Protocol_,
    Resolution,
    Seed,
    check_seconds,
    complete_networks,
    network_argument,
    option,
)
from genets.cli.target_options import TargetOptions, make_targets
from genets.core.errors import GenetsError
from genets.core.output_folder import check_writable_folder

if TYPE_CHECKING:
    from genets.analysis import Comparison

ROWS = "rows.json"


def compare(
    target: Annotated[dict[str, Any], TargetOptions(several=True)],
    networks: Annotated[
        list[str] | None,
        network_argument(
            help="Names of Table 7 of the paper, zoo names, timm:NAME, structure files, quoted "
            "notations or results folders."
        ),
    ] = None,
    set_name: Annotated[
        str | None,
        option(
            "Named set of networks; `paper34` is Table 7 of the paper.",
            "none",
            name="--set",
            choices=("paper34", "modern", "genets"),
        ),
    ] = None,
    resolution: Resolution = None,
    protocol: Protocol_ = "genets-1",
    time_limit: Annotated[
        float, option("Seconds of sampling for each network and target.", callback=check_seconds)
    ] = 10.0,
    reference: Annotated[
        str | None,
        option(
            "Reference of the ratios: a network, by its name in the table.",
            "the reference in OUT, or the smallest network that runs",
            metavar="NETWORK",
            autocompletion=complete_networks,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option("Folder for page, pictures, CSV and JSON, new or to be continued.", "none", OUTPUT),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare the latencies of many networks on one or several targets.

    Shows latencies beside the paper's, also as multiples of the latency of one network, the
    frontier, and speed-ups at equal accuracy. The networks of one target are timed in turn,
    A B A B, in one run. Every combination of the engines, precisions and batch sizes is a target. A
    network that cannot be measured gets a row with the reason. You can stop the command at any
    moment: finished rows are kept in OUT, and the same command continues with the missing rows.

    \b
    genets compare --set paper34 --batch-size 1 --batch-size 64 --device cuda --precision fp16 \\
        --out runs/table7
    genets compare genet_light timm:resnet18 mine.toml --batch-size 1
    genets compare runs/mine/results timm:resnet18 --batch-size 1
    """
    targets = make_targets(target)
    if out is not None:
        check_writable_folder(out)
    # PyTorch is imported only after the options are checked.
    from genets.analysis import Timing, find_networks
    from genets.analysis import compare as compare_networks
    from genets.cli.output import UnsavedRows, print_kept_rows, print_tables, write_and_print
    from genets.cli.progress import show_progress
    from genets.report.comparison.page import write_comparison
    from genets.report.comparison.tables import comparison_record, comparison_tables

    timing = Timing(protocol, time_limit)
    candidates = find_networks(networks or (), set_name, resolution, seed)
    finished: list[Comparison] = []
    unsaved = UnsavedRows()
    try:
        with show_progress(plain=json) as on_progress:
            result = compare_networks(
                candidates,
                targets,
                timing=timing,
                reference=reference,
                file=out / ROWS if out else None,
                on_progress=on_progress,
                on_rows=finished.append,
                on_unsaved=unsaved.add,
            )
    except (KeyboardInterrupt, OSError):
        if finished and not json:
            print_tables(*comparison_tables(finished[-1]))
        print_kept_rows(out)
        raise
    write_and_print(
        lambda: write_comparison(result, out) if out else {},
        json,
        comparison_record(result),
        comparison_tables(result),
    )
    unsaved.check()
    if not any(row.measurement for row in result.rows):
        raise GenetsError("no network could be measured; each row gives its reason")
