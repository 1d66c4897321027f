"""`genets profile`: what latency depends on, on this device; latency tables made ahead.

`genets profile --table`: the latency tables that a search needs, made ahead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genets.analysis import Progress
from genets.cli.options import Device, Engine, Json, Precision, Provider, Seed, Threads, make_target
from genets.cli.output import print_json, print_lines
from genets.cli.progress import show_progress
from genets.core.errors import SettingsError
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.study import is_study, load_settings
from genets.nas.table_ahead import table_ahead, table_for_study


def profile(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for page, pictures, CSV and JSON, new or to go on with."),
    ] = None,
    device: Device = None,
    engine: Engine = None,
    provider: Provider = None,
    precision: Precision = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Of Figures 2 (b, c) and 3, and of --table.  "
            "[default: 64, as in the paper; for figures on a CPU, 1]"
        ),
    ] = None,
    threads: Threads = None,
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--sweep", help="A batch size of Figure 2a; repeat.  [default: 1, 2 ... 128]"),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option("--network", help="A network of Figure 2, in place of the paper's; repeat."),
    ] = None,
    resolution: Annotated[int, typer.Option(help="Input size of Figure 2 in pixels.")] = 224,
    widths: Annotated[
        list[int] | None,
        typer.Option("--width", help="A width of Figure 3; repeat.  [default: 32 64 128 256]"),
    ] = None,
    ratios: Annotated[
        list[float] | None,
        typer.Option("--ratio", help="A ratio of Figure 3; repeat.  [default: 1 0.5 0.25]"),
    ] = None,
    block_resolution: Annotated[
        int | None,
        typer.Option(help="Input size of Figure 3.  [default: 224 as in the paper; on a CPU 112]"),
    ] = None,
    run_limit: Annotated[
        float, typer.Option(help="Leave out what would take more seconds for one run.")
    ] = 0.5,
    time_limit: Annotated[float, typer.Option(help="Seconds of sampling for each latency.")] = 2.0,
    table: Annotated[
        str | None,
        typer.Option(
            help="Instead of figures, make the latency table that a search needs: of a MasterNet "
            "(into OUT, where the search is to run), or of a study for a further target."
        ),
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(help="With --table MASTERNET: as for search.")
    ] = None,
    width_range: Annotated[
        tuple[float, float] | None, typer.Option(help="With --table MASTERNET: as for search.")
    ] = None,
    width_step: Annotated[
        int | None, typer.Option(help="With --table MASTERNET: as for search.")
    ] = None,
    num_classes: Annotated[
        int, typer.Option(min=1, help="With --table MASTERNET: classes of the data.")
    ] = 1000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Show what latency depends on, on your device: Figures 2 and 3 of the paper.

    Latency by batch size, multiply-adds and parameters; XX, BL and DW blocks by width, ratio and
    parameters. With its defaults it takes some minutes on a CPU. Stop it at any moment: finished
    rows are kept in OUT, and the same command goes on.

    \b
    genets profile --out runs/profile
    genets profile --device cuda --precision fp16 --time-limit 5 --out runs/gpu
    genets profile --table genet_normal --num-classes 10 --out runs/mine
    genets profile --table runs/mine --device cuda --precision fp16
    """
    from genets.cli.options import given

    target = given(
        device=device,
        engine=engine,
        provider=provider,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
    )
    if table is not None:
        space = given(blocks=blocks, width_range=width_range, width_step=width_step)
        make_table(table, out, target, space, num_classes, seed, json)
        return
    figures = given(
        batch_sizes=batch_sizes,
        batch_networks=networks,
        cost_networks=networks,
        widths=widths,
        ratios=ratios,
        block_resolution=block_resolution,
    )
    limits = {"resolution": resolution, "run_limit_s": run_limit, "seed": seed}
    _figures(out, target, figures | limits, time_limit, json)


def _figures(
    out: Path | None,
    options: dict[str, Any],
    figures: dict[str, Any],
    time_limit: float,
    json: bool,
) -> None:
    from genets.cli.options import make_target

    if options.get("device", "cpu") == "cpu":  # what a CPU can do in about the same time
        options = {"batch_size": 1} | options
        figures = {"block_resolution": 112} | figures
    target = make_target(options)
    # From here on with PyTorch, for which no wrong word has to wait.
    from genets.analysis import Timing
    from genets.analysis.profile.profile import ProfileSettings
    from genets.analysis.profile.profile import profile as make_profile
    from genets.cli.output import print_json, print_lines, print_tables, tell_kept
    from genets.cli.progress import show_progress
    from genets.report import profile_record, profile_sentences, profile_tables, write_profile

    settings = ProfileSettings(target=target, timing=Timing(time_limit_s=time_limit), **figures)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    try:
        with show_progress(plain=json) as on_event:
            result = make_profile(settings, folder=out, on_progress=on_event)
    except KeyboardInterrupt:
        tell_kept(out)
        raise
    files = write_profile(result, out) if out else {}
    if json:
        print_json(profile_record(result))
        return
    print_tables(*profile_tables(result))
    print_lines(
        [*profile_sentences(result).values(), *(f"{name}: {path}" for name, path in files.items())]
    )


def make_table(
    name: str,
    out: Path | None,
    options: dict[str, Any],
    space: dict[str, Any],
    num_classes: int,
    seed: int,
    json: bool,
) -> None:
    """Measure the table of MasterNet or study `name`, keep it, and say how good it is."""
    with show_progress(plain=json) as on_event:

        def tell(share: float) -> None:
            on_event(Progress("latency table", round(100 * share), 100))

        if is_study(Path(name)):
            target = make_target(options, load_settings(Path(name)).target) if options else None
            made, path = table_for_study(Path(name), target, tell)
        else:
            if out is None:
                raise SettingsError(
                    "--table with a MasterNet needs --out: where the search will be"
                )
            settings = SearchSettings(
                data="none", budget="1x", master=name, space=space, target=make_target(options)
            )
            around = settings.space.design_space().around(settings.structure)
            made, path = table_ahead(
                around, settings.target, num_classes, out, seed=seed, on_progress=tell
            )
    facts = {
        "table": str(path),
        "target": made.target.name,
        "entries": len(made.timed_ms),
        "rmspe": made.rmspe,
    }
    if json:
        print_json(facts)
    else:
        print_lines(
            [
                f"{len(made.timed_ms)} entries for {made.target.name} in {path}; error on whole "
                f"networks that no fit has seen: {made.rmspe:.1%} RMSPE"
            ]
        )
