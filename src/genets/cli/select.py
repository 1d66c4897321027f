"""`genets select`: a network for another budget or target, from the trials of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.options import DATA, OUTPUT, Json, Wait, option
from genets.cli.target_options import TargetOptions, make_target
from genets.core.errors import GenetsError
from genets.latency.budget import DEFAULT_WAIT_MINUTES, Budget

if TYPE_CHECKING:
    from rich.table import Table

    from genets.latency import Target
    from genets.nas.selected_folder import SelectedFolder, Selection
    from genets.nas.settings.settings import SearchSettings
    from genets.nas.study.reader import StudyReader
    from genets.nas.study.records import Candidate
    from genets.training import Metric, RunResult


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
    out: Annotated[
        Path | None,
        option(
            "Folder for structure, measurement, recipe and the command that trains the network; "
            "with --top a folder for each alternative inside.",
            "none",
            OUTPUT,
        ),
    ] = None,
    train: Annotated[
        bool,
        option(
            "Train the network in OUT, with the recipe and the teacher of the winner.",
            panel=OUTPUT,
            name="--train",
        ),
    ] = False,
    wait: Wait = DEFAULT_WAIT_MINUTES,
    json: Json = False,
) -> None:
    """Select a network for another budget or target from a study.

    The network comes from the trials of the study, and measuring takes most of the time. No network
    is trained without --train; for --out, the study may run a few of its trials again. For a new
    target, a latency table is measured first. The latencies shown are measured and meet the budget.
    Each alternative of --top has a combination of block types that no better alternative has.

    \b
    genets select runs/mine --budget 0.3x
    genets select runs/mine --budget 0.3x --out runs/faster --train
    genets select runs/mine --budget 0.5x --device cuda --precision fp16
    genets select runs/mine --budget 0.5x --top 5
    """
    if train and (out is None or top is not None):
        raise GenetsError("--train needs --out, and trains one network, so leave --top out")
    from genets.cli.output import print_json, print_lines, print_remark, print_tables
    from genets.cli.train import print_training
    from genets.nas.selected_folder import Selection, check_folder
    from genets.nas.study.reader import StudyReader, load_settings

    asked = Budget.parse(budget)
    settings = load_settings(study)
    chosen = make_target(target, settings.target) if target else None
    reader, used = StudyReader(study), (chosen or settings.target).resolved()
    # Before minutes of measuring; with --top the alternatives are in numbered folders.
    for folder in _folders(out, top or 1, several=top is not None):
        check_folder(folder)
    options = {"target": chosen, "resolution": resolution, "wait_minutes": wait}
    selected = _select(reader, budget, used, top or 1, options, plain=json)
    if not json:  # before anything is written, because writing may fail
        print_tables(_table(selected, settings.metric, top))
    folders = _folders(out, len(selected), several=top is not None)
    record, trained = _record(reader, selected, [], top), None
    try:
        selections = [Selection(each, asked, used, wait) for each in selected]
        written = _write(reader, selections, folders)
        record = _record(reader, selected, written, top)
        if train:
            trained = _train(written[0], settings, plain=json)
            record["trained"] = trained and trained.to_json()
    finally:
        if json:  # the record of the measurements, also where writing or training fails
            print_json(record)
    if not json:
        print_lines(
            f"this command trains the network: {folder.command}" for folder in written if not train
        )
        print_lines([f"written: {out}"] if out else [])
    if trained is not None and not json:
        print_training(trained, json)
    if len(selected) < (top or 1):
        print_remark(
            f"note: only {len(selected)} of the {top} requested networks are shown, because no "
            "other combination of block types meets the budget"
        )


def _select(
    study: StudyReader, budget: str, used: Target, top: int, options: dict[str, Any], *, plain: bool
) -> list[Candidate]:
    """Say how long measuring takes, and select.

    Args:
        study: The study.
        budget: The budget.
        used: The target of the latencies.
        top: The number of structures.
        options: Further arguments of `select_top`.
        plain: Whether progress is shown in lines.
    """
    from genets.cli.output import print_remark
    from genets.cli.progress import show_progress
    from genets.nas.reselect import select_top
    from genets.report.study.facts import measuring_sentence

    print_remark(measuring_sentence(study, used, top))
    with show_progress(plain=plain) as on_event:
        return select_top(study.folder, budget, top, on_event=on_event, **options)


def _table(selected: list[Candidate], metric: Metric, top: int | None) -> Table:
    """The table of one structure, or with --top of the alternatives."""
    from genets.report.study.tables import alternatives_table, selected_table

    if top is None:
        return selected_table(selected[0], metric)
    return alternatives_table(selected, metric)


def _train(written: SelectedFolder, settings: SearchSettings, *, plain: bool) -> RunResult | None:
    """Train the structure of a folder, on the training device of the study.

    Returns None in all but the first of several processes.
    """
    from genets.cli.train import run_training

    machine = {"device": settings.training_device}
    return run_training(written.settings, written.out, machine, plain=plain)


def _folders(out: Path | None, number: int, *, several: bool) -> list[Path]:
    """The folders of the selected structures; none without --out."""
    if out is None:
        return []
    return [out / str(each) for each in range(1, number + 1)] if several else [out]


def _write(
    study: StudyReader, selections: list[Selection], folders: list[Path]
) -> list[SelectedFolder]:
    """Write each structure to its folder, after all folders are checked."""
    from genets.nas.selected_folder import check_folder, write_selected

    pairs = list(zip(selections, folders, strict=False))  # without --out there are no folders
    for selection, folder in pairs:
        check_folder(folder, selection.candidate.structure)
    return [write_selected(study, selection, folder) for selection, folder in pairs]


def _record(
    study: StudyReader, selected: list[Candidate], written: list[SelectedFolder], top: int | None
) -> dict[str, Any]:
    """The selection for JSON, with the files and the command of each structure."""
    records = [candidate.to_json() | {"metric": study.settings.metric} for candidate in selected]
    for record, folder in zip(records, written, strict=False):
        record["files"] = {name: str(path) for name, path in folder.files.items()}
        record["train"] = folder.command
    return records[0] if top is None else {"asked": top, "alternatives": records}
