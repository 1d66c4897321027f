"""`genets profile`: the causes of latency on this device; and latency tables made in advance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genets.cli.options import (
    OUTPUT,
    SPACE,
    Json,
    Seed,
    check_seconds,
    complete_networks,
    complete_structures,
    given,
    option,
    preset_names,
)
from genets.cli.setting_options import SettingOptions
from genets.cli.target_options import TargetOptions, make_target
from genets.core.errors import SettingsError
from genets.core.output_folder import check_writable_folder

CPU_BLOCK_RESOLUTION = 112
FIGURE_OPTIONS = (
    "sweep", "network", "width", "ratio", "block_resolution", "run_limit", "time_limit",
)  # fmt: skip
# Settings that a study has itself, by the option that sets it for a table of a MasterNet.
STUDY_HAS = {
    "out": "a folder",
    "preset": "settings",
    "resolution": "a search space",
    "num_classes": "a number of classes",
    "seed": "a seed",
}


def profile(
    context: typer.Context,
    target: Annotated[dict[str, Any], TargetOptions(batch_size="64; 1 for figures on a CPU")],
    space: Annotated[dict[str, Any], SettingOptions(SPACE, remark="Only with --table MASTERNET.")],
    out: Annotated[
        Path | None,
        option(
            "Folder for page, pictures, CSV and JSON, new or to be continued; with --table "
            "MASTERNET the folder of the later search.",
            "none",
            OUTPUT,
        ),
    ] = None,
    sweep: Annotated[
        list[int] | None,
        option(
            "Batch size of Figure 2a; may be repeated.", "1 2 4 8 16 32 64 128", metavar="<int>"
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        option(
            "Network of Figure 2; may be repeated.",
            "the networks of the paper",
            metavar="<str>",
            autocompletion=complete_networks,
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        option(
            "Input size in pixels, of Figure 2 or of the MasterNet of --table.",
            "224 for Figure 2; the MasterNet's own for --table",
        ),
    ] = None,
    width: Annotated[
        list[int] | None,
        option("Block width of Figure 3; may be repeated.", "32 64 128 256", metavar="<int>"),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        option("Block ratio of Figure 3; may be repeated.", "1 0.5 0.25", metavar="<float>"),
    ] = None,
    block_resolution: Annotated[
        int | None,
        option(
            "Input size of Figure 3 in pixels.",
            f"224 as in the paper; on a CPU {CPU_BLOCK_RESOLUTION}",
        ),
    ] = None,
    run_limit: Annotated[
        float,
        option(
            "Longest expected time of one run, in seconds; slower networks and blocks are left out."
        ),
    ] = 0.5,
    time_limit: Annotated[
        float, option("Seconds of sampling for each latency.", callback=check_seconds)
    ] = 2.0,
    table: Annotated[
        str | None,
        option(
            "Make a latency table in place of figures: for a search from this MasterNet (zoo "
            "name, file or notation), or for this study and a further target.",
            "none",
            autocompletion=complete_structures,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        option(
            "Preset of the later search, which gives search space and seconds of timing. Only with "
            "--table MASTERNET.",
            "none: the defaults of a search, 30 seconds of timing",
            choices=preset_names(),
        ),
    ] = None,
    num_classes: Annotated[
        int, option("Number of classes of the data. Only with --table MASTERNET.", min=1)
    ] = 1000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Show how latency depends on batch, network size and block type.

    Makes Figures 2 and 3 of the paper: latency of networks by batch size, multiply-adds and
    parameters; and latency of XX, BL and DW blocks by width, ratio and parameters. The default
    figures take some minutes on a CPU. You can stop the command at any moment: finished rows are
    kept in OUT, and the same command continues.

    --table makes the latency table that a search needs. A later search in OUT uses the table if
    target, MasterNet, search space and number of classes are the same. Give the --preset of that
    search, which sets how long pieces are timed. With --table STUDY, give target options alone;
    those that you leave out come from the study. --table takes no options of the figures.

    \b
    genets profile --out runs/profile
    genets profile --device cuda --precision fp16 --time-limit 5 --out runs/gpu
    genets profile --table genet_normal --num-classes 10 --out runs/mine
    genets profile --table runs/mine --device cuda --precision fp16
    """
    if out is not None:
        check_writable_folder(out)
    _check_options(context, table, space)
    if table is not None:
        settings = space | {"master": table, "resolution": resolution, "seed": seed}
        _make_table(table, out, target, preset, settings, num_classes, json)
        return
    figures = given(
        resolution=resolution,
        batch_sizes=sweep,
        batch_networks=network,
        cost_networks=network,
        widths=width,
        ratios=ratio,
        block_resolution=block_resolution,
    )
    _make_figures(out, target, figures | {"run_limit_s": run_limit, "seed": seed}, time_limit, json)


def _check_options(context: typer.Context, table: str | None, space: dict[str, Any]) -> None:
    """Raise SettingsError for a given option that would do nothing."""
    from genets.nas.study.reader import is_study

    of_study = STUDY_HAS | dict.fromkeys(space.get("space", ()), "a search space")
    of_master = of_study.keys() - {"out", "resolution", "seed"}  # the figures have these three, too
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        flag = f"--{name}".replace("_", "-")
        if table is None:
            if name in of_master:
                raise SettingsError(f"{flag} needs --table MASTERNET")
        elif name in FIGURE_OPTIONS:
            raise SettingsError(f"{flag} is for the figures; leave it out with --table")
        elif name in of_study and is_study(Path(table)):
            raise SettingsError(f"study {table} has {of_study[name]} of its own; leave {flag} out")


def _make_figures(
    out: Path | None, target: dict[str, Any], figures: dict[str, Any], time_limit: float, json: bool
) -> None:
    if make_target(target).is_cpu:  # figures of a CPU should not take longer
        target = {"batch_size": 1} | target
        figures = {"block_resolution": CPU_BLOCK_RESOLUTION} | figures
    chosen = make_target(target)
    # PyTorch is imported only after the options are checked.
    from genets.analysis import Timing
    from genets.analysis.profile.profile import ProfileSettings
    from genets.analysis.profile.profile import profile as make_profile
    from genets.cli.output import UnsavedRows, print_kept_rows, write_and_print
    from genets.cli.progress import show_progress
    from genets.report.profile.page import write_profile
    from genets.report.profile.tables import profile_record, profile_sentences, profile_tables

    settings = ProfileSettings(target=chosen, timing=Timing(time_limit_s=time_limit), **figures)
    unsaved = UnsavedRows()
    try:
        with show_progress(plain=json) as on_progress:
            result = make_profile(
                settings, folder=out, on_progress=on_progress, on_unsaved=unsaved.add
            )
    except (KeyboardInterrupt, OSError):
        print_kept_rows(out)
        raise
    write_and_print(
        lambda: write_profile(result, out) if out else {},
        json,
        profile_record(result),
        profile_tables(result),
        profile_sentences(result).values(),
    )
    unsaved.check()


def _make_table(
    name: str,
    out: Path | None,
    target: dict[str, Any],
    preset: str | None,
    given: dict[str, Any],
    num_classes: int,
    json: bool,
) -> None:
    """Measure the table of the MasterNet or study `name`, store it and print its error.

    given: The settings of the later search that the options give.
    """
    from genets.nas.new_study import settings_at
    from genets.nas.settings.settings import SearchSettings
    from genets.nas.study.reader import is_study, load_settings

    if is_study(Path(name)):
        base = load_settings(Path(name)).target
        chosen = make_target(target, base) if target else None
        settings = None
    else:
        if out is None:
            raise SettingsError("--table MASTERNET needs --out, the folder of the later search")
        # A table needs no starting weights, which this machine may lack.
        unused = {"data": "none", "budget": "1x", "pretrained": False}
        values = settings_at(out, preset, given, {"target": make_target(target)}, unused)
        settings = SearchSettings(**values)
    # PyTorch is imported only after the options are checked.
    from genets.cli.output import print_result
    from genets.cli.progress import show_progress
    from genets.core.progress import Progress
    from genets.nas.latencies.tables import table_ahead, table_for_study

    with show_progress(plain=json) as on_progress:

        def show(share: float) -> None:
            on_progress(Progress("latency table", 100 * share, 100))

        if settings is None:
            made, path = table_for_study(Path(name), chosen, show)
        else:
            assert out is not None
            made, path = table_ahead(settings, num_classes, out, show)
    record = {
        "table": str(path),
        "target": made.target.name,
        "entries": len(made.timed_ms),
        "source": made.source_name,
        "rmspe": made.rmspe if made.held_out_ms_per_image else None,
    }
    source = f", made from the table of {made.source_name}" if made.source_name else ""
    error = (
        f"error on held-out whole networks: {made.rmspe:.1%} RMSPE"
        if made.held_out_ms_per_image
        else "no network was held out"
    )
    sentence = f"{len(made.timed_ms)} entries for {made.target.name} in {path}{source}; {error}"
    print_result(json, record, lines=[sentence])
