"""`genets select`: a network for another budget or target, from the trials of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genets.cli.options import DATA, Json, TargetOptions, Wait, make_target, option
from genets.latency.budget import DEFAULT_WAIT_MINUTES


def select(
    study: Annotated[Path, typer.Argument(help="Folder of a study: the --out of genets search.")],
    budget: Annotated[
        str,
        option(
            "Largest latency: ms or us per image, or a factor of the MasterNet's latency, such "
            "as 0.2ms, 150us, 0.5x.",
            panel=DATA,
        ),
    ],
    target: Annotated[dict[str, Any], TargetOptions("the study's")],
    top: Annotated[
        int | None,
        option(
            "Number of alternatives with different block types, the best first.",
            "one network, without alternatives",
            min=1,
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        option(
            "Input size in pixels, one of the study's.",
            "the winner's, or without a winner the MasterNet's",
        ),
    ] = None,
    wait: Wait = DEFAULT_WAIT_MINUTES,
    json: Json = False,
) -> None:
    """Select a network for another budget or target, without training.

    The network comes from the trials of a study, in seconds. For a new target, a latency table is
    measured first. The latencies shown are measured and meet the budget. Each alternative of
    --top has a combination of block types that no better alternative has.

    \b
    genets select runs/mine --budget 0.1ms
    genets select runs/mine --budget 0.5x --device cuda --precision fp16
    genets select runs/mine --budget 0.5x --top 5
    """
    from genets.cli.output import print_remark, print_result
    from genets.cli.progress import show_progress
    from genets.nas.reselect import select_top
    from genets.nas.study.reader import load_settings
    from genets.report.study.tables import alternatives_table, selected_table

    chosen = make_target(target, load_settings(study).target) if target else None
    with show_progress(plain=json) as on_event:
        selected = select_top(
            study, budget, top or 1,
            target=chosen, resolution=resolution, wait_minutes=wait, on_event=on_event,
        )  # fmt: skip
    records = [each.to_json() for each in selected]
    if top is None:
        print_result(json, records[0], [selected_table(selected[0])])
    else:
        record = {"asked": top, "alternatives": records}
        print_result(json, record, [alternatives_table(selected)])
    if len(selected) < (top or 1):
        print_remark(
            f"note: only {len(selected)} of {top}: no other combination of block types meets the "
            "budget"
        )
