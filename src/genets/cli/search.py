"""`genets search`: the main job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.options import BatchSize, Device, Engine, Json, Precision, Threads

if TYPE_CHECKING:
    from genets.nas.settings import SearchSettings


def search(
    out: Annotated[Path, typer.Option(help="Folder of the study, new or to go on with.")],
    data: Annotated[
        str | None, typer.Option(help="Name of a data set (digits), or a folder of images.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="ms or us per image, or times the MasterNet: 0.2ms, 150us, 0.5x."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="quick or paper.  [default: quick]")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file of settings; options override it.")
    ] = None,
    master: Annotated[
        str | None,
        typer.Option(help="MasterNet: zoo name, file or notation.  [default: master_small]"),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the MasterNet's]")
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(help="Blocks to choose from, as XX3,BL3r0.25,DW5r6.")
    ] = None,
    width_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Least and largest width, times the MasterNet's."),
    ] = None,
    width_step: Annotated[
        int | None, typer.Option(help="Widths are multiples of this, and of 8.")
    ] = None,
    depth_change: Annotated[
        int | None, typer.Option(help="Blocks that may be added or taken away.")
    ] = None,
    device: Device = None,
    engine: Engine = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    trials: Annotated[int | None, typer.Option(help="Trials for each super-block.")] = None,
    controls: Annotated[
        int | None, typer.Option(help="Control trials for each super-block.")
    ] = None,
    master_epochs: Annotated[
        int | None, typer.Option(help="Epochs that the MasterNet is trained.")
    ] = None,
    trial_epochs: Annotated[int | None, typer.Option(help="Epochs of one trial.")] = None,
    final_epochs: Annotated[
        int | None, typer.Option(help="Epochs that the winner is trained.")
    ] = None,
    response: Annotated[
        str | None, typer.Option(help="Score that is predicted: cross_entropy or top1.")
    ] = None,
    regression: Annotated[
        str | None, typer.Option(help="bayes, or paper: the literal formula of section 4.2.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option(help="exact, or random: sampling, as in the paper.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.  [default: 0]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that run trials.  [default: chosen]")
    ] = None,
    json: Json = False,
) -> None:
    """Find, train and hand over the best network for a data set within a latency budget.

    Stop it at any moment; the same command, or --out alone, goes on where it was. Options that
    are left out are those of the study, if OUT is one; changed ones are refused.

    \b
    genets search --data digits --budget 0.5x --preset quick --out runs/demo
    genets search --data photos/ --budget 0.2ms --device cuda --precision fp16 --out runs/photos
    genets search --out runs/photos
    """
    from genets.cli.targets import given

    options = given(
        data=data,
        budget=budget,
        master=master,
        resolution=resolution,
        seed=seed,
        trials_per_super_block=trials,
        controls_per_super_block=controls,
        response=response,
        regression=regression,
        selection=selection,
    )
    tables = {
        "target": given(
            device=device,
            engine=engine,
            precision=precision,
            batch_size=batch_size,
            threads=threads,
        ),
        "space": given(
            blocks=blocks,
            width_range=width_range,
            width_step=width_step,
            depth_change=depth_change,
        ),
        "master_training": given(epochs=master_epochs),
        "trial_training": given(epochs=trial_epochs),
        "final_training": given(epochs=final_epochs),
    }
    options |= {name: table for name, table in tables.items() if table}
    _run(out, _settings(out, preset, settings, options), workers, json)


def _settings(
    out: Path, preset: str | None, file: Path | None, options: dict[str, Any]
) -> SearchSettings:
    """Those of the study at `out`, or a preset; under those of `file`; under `options`."""
    from genets.cli.targets import make_target
    from genets.errors import SettingsError, unknown_name
    from genets.latency import Target
    from genets.nas.presets import PRESETS
    from genets.nas.settings import SearchSettings, load_settings_file, merge
    from genets.nas.study import is_study, load_settings

    if preset is not None and preset not in PRESETS:
        raise SettingsError(unknown_name("preset", preset, PRESETS))
    stored = load_settings(out).to_dict() if is_study(out) else {}
    from_file = load_settings_file(file) if file else {}
    base = merge(stored, PRESETS[preset] if preset else {}, from_file)
    values = merge(base, options)
    if "target" in options:
        values["target"] = make_target(options["target"], Target.from_json(base.get("target", {})))
    return SearchSettings(**values)


def _run(out: Path, settings: SearchSettings, workers: int | None, json: bool) -> None:
    from genets.cli.output import error_console, print_json, print_tables
    from genets.cli.progress import show_progress
    from genets.nas import run
    from genets.report import search_table

    try:
        with show_progress(plain=json) as on_event:
            result = run.search(settings, out, workers=workers, on_event=on_event)
    except KeyboardInterrupt:
        again = f"genets search --out {shlex.quote(str(out))}"
        error_console().print(f"The study is kept; to go on: {again}", markup=False, soft_wrap=True)
        raise
    if json:
        print_json(result.to_json())
        return
    print_tables(search_table(result))
    for warning in result.warnings:
        error_console().print(f"warning: {warning}", markup=False, soft_wrap=True)
