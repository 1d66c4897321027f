"""`genets search`: a search, its plan, or a look at a running search."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genets.cli.masters import choose_master, read_masters
from genets.cli.options import (
    CANDIDATES,
    DATA,
    MASTER,
    OUTPUT,
    SPACE,
    START,
    TRAINING,
    TRIALS,
    WORKERS,
    Json,
    MasterResolution,
    Wait,
    check_seconds,
    option,
    preset_names,
)
from genets.cli.setting_options import RecipeOptions, SettingOptions
from genets.cli.target_options import TargetOptions, make_target
from genets.cli.watch import INTERVAL_S, watch_study
from genets.cli.worker_options import (
    RayOptions,
    SlurmOptions,
    WorkersOn,
    make_machines,
    show_worker_options,
)
from genets.core.errors import GenetsError, InfeasibleBudgetError, SettingsError
from genets.core.output_folder import check_writable_folder
from genets.latency.budget import DEFAULT_WAIT_MINUTES

if TYPE_CHECKING:
    from genets.nas.new_study import CompleteSettings
    from genets.nas.settings.settings import SearchSettings


WATCH_OPTIONS = {"watch", "interval", "json"}


def _check_given(context: typer.Context, out: Path | None) -> Path | None:
    """Return --out. Ends with the message of a missing option unless --watch is given."""
    if out is None and context.params.get("watch") is None:
        context.fail("Missing option '--out'.")
    return out


def _check_alone(context: typer.Context) -> None:
    """Raise SettingsError where an option is given that --watch would ignore."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    if given - WATCH_OPTIONS:
        raise SettingsError(
            "--watch only reads a study, so it takes --interval and --json alone; leave out the "
            "other options"
        )


def search(
    context: typer.Context,
    settings: Annotated[
        dict[str, Any], SettingOptions(DATA, MASTER, SPACE, TRIALS, TRAINING, CANDIDATES)
    ],
    recipes: Annotated[dict[str, Any], RecipeOptions()],
    target: Annotated[dict[str, Any], TargetOptions()],
    ray: Annotated[dict[str, Any], RayOptions()],
    slurm: Annotated[dict[str, Any], SlurmOptions()],
    out: Annotated[
        Path | None,
        option(
            "Folder of the study, new or to be continued.",
            "none; needed unless --watch is given",
            OUTPUT,
            callback=_check_given,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        option(
            "Settings to start from. quick: small images, minutes on a CPU. photos: hundreds to "
            "thousands of photographs and pretrained weights, which are fine-tuned. imagenet: the "
            "method of genets with the paper's recipe, days on GPUs. paper: the scale of the paper "
            "with the method of genets. paper-literal: the scale and the method of the paper, for "
            "comparison.",
            "none: MasterNet, resolution and recipes follow from the images, and the other "
            "defaults are as in quick",
            START,
            choices=preset_names(),
        ),
    ] = None,
    settings_file: Annotated[
        Path | None,
        option(
            "TOML file of any settings. The file overrides the preset; options override the file.",
            "none",
            START,
            name="--settings",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        option(
            "Any setting and its value, such as final_training.mixup=0.2; may be repeated. --set "
            "overrides the settings file; other options override --set.",
            "none",
            START,
            name="--set",
            metavar="SETTING=VALUE",
        ),
    ] = None,
    resolution: MasterResolution = None,
    compare_masters: Annotated[
        str | None,
        option(
            "Structures to compare, such as net1,net2, in place of --master. Each structure is "
            "trained twice from scratch, and the best structure becomes the MasterNet.",
            "none",
            MASTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        option(
            "Number of processes that train trials and candidates.",
            "one for each core, or one to four for each GPU",
            WORKERS,
            min=1,
        ),
    ] = None,
    workers_on: WorkersOn = "local",
    processes: Annotated[
        int | None,
        option(
            "Number of processes that train the MasterNet, and later the winner, on this machine. "
            "The processes share each batch. Give the number of GPUs.",
            "1",
            WORKERS,
        ),
    ] = None,
    wait: Wait = DEFAULT_WAIT_MINUTES,
    plan: Annotated[
        bool,
        option(
            "Print the phases of the search, an estimate of its time (from a probe of about a "
            "minute on this machine), its GPU-hours and its disk space, and end. OUT is not made.",
            panel=OUTPUT,
            name="--plan",
        ),
    ] = False,
    watch: Annotated[
        Path | None,
        option(
            "Show the search of the study in this folder until it ends: phases, trials, workers, "
            "time left, and the predicted frontier. --watch only reads, so it works in another "
            "terminal, or on another machine that sees the folder. Only --interval and --json may "
            "be given with --watch.",
            "none",
            OUTPUT,
            metavar="STUDY",
            is_eager=True,  # before --out, which depends on it
        ),
    ] = None,
    interval: Annotated[
        float,
        option(
            "Time between two readings of --watch, in seconds.",
            panel=OUTPUT,
            metavar="SECONDS",
            callback=check_seconds,
        ),
    ] = INTERVAL_S,
    json: Json = False,
) -> None:
    """Find, train and export the best network within a latency budget.

    You can stop the search at any moment: the same command, or --out alone, continues it. If OUT
    is a study, its settings replace the defaults below. Most changed settings are then refused;
    docs/study.md lists those that may change, such as --rivals.

    \b
    genets search --data digits --budget 0.5x --preset quick --out runs/demo
    genets search --data photos/ --budget 0.2ms --device cuda --precision fp16 --out runs/photos
    genets search --data photos/ --budgets 0.8x,0.5x,0.3x --out runs/sizes
    genets search --data photos/ --budget 0.5x --set final_training.mixup=0.2 --out runs/mixup
    genets search --data photos/ --budget 0.5x --out runs/photos --plan
    genets search --out runs/photos
    genets search --out runs/photos --workers-on ray --ray-address 10.0.0.1:6379
    genets search --out runs/photos --workers-on slurm --slurm-partition gpu --workers 16
    genets search --watch runs/photos
    """
    if watch is not None:
        _check_alone(context)
        watch_study(watch, interval, json)
        return
    assert out is not None

    clusters = {"ray": ray, "slurm": slurm}
    places = make_machines(workers_on, clusters)
    machines = {"workers": workers, "workers_on": places, "processes": processes,
                "wait_minutes": wait}  # fmt: skip
    if resolution is not None:
        settings["resolution"] = resolution
    given = _given_settings(settings_file, recipes, changes or [], settings)
    chosen = _merge_settings(out, preset, given, target)
    masters = [] if compare_masters is None else read_masters(compare_masters, given)
    if plan and masters:
        raise SettingsError(
            "--plan needs one MasterNet, and --compare-masters trains several to choose one; "
            "give --master"
        )
    if plan:
        _plan(chosen, out, preset, machines, json)
        return
    complete = _complete(chosen | ({"master": masters[0]} if masters else {}), out, preset)
    values = dict(complete.values)
    if masters:
        values["master"] = choose_master(masters, values, out, places, plain=json)
    again = show_worker_options(workers, workers_on, clusters, processes)
    with _shown_continuation(out, again):
        _run(out, values, complete.reasons, machines, json)


def _given_settings(
    file: Path | None, recipes: dict[str, Any], changes: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """Merge the settings of the file and of the options; --set changes fields of the recipes."""
    from genets.nas.settings.toml_tables import (
        load_settings_file,
        merge,
        merge_settings,
        parse_setting_changes,
    )

    from_file = load_settings_file(file) if file else {}
    merged = merge_settings(from_file, recipes, parse_setting_changes(changes), settings)
    return merge(merged, recipes)


def _merge_settings(
    out: Path, preset: str | None, given: dict[str, Any], target: dict[str, Any]
) -> dict[str, Any]:
    """Merge the settings of the study at `out`, of the preset, and the given ones."""
    from genets.latency import Target
    from genets.nas.new_study import settings_at

    merged = settings_at(out, preset, given)
    if target:
        merged["target"] = make_target(target, Target.from_json(merged.get("target", {})))
    return merged


def _check(settings: dict[str, Any]) -> SearchSettings:
    from genets.nas.settings.settings import SearchSettings

    return SearchSettings(**settings)


def _complete(chosen: dict[str, Any], out: Path, preset: str | None) -> CompleteSettings:
    """Complete the settings of a new study from its images, and show the reasons."""
    from genets.cli.output import print_remark
    from genets.nas.new_study import complete_settings

    _check(chosen)
    check_writable_folder(out)  # before any image is read
    complete = complete_settings(chosen, out, preset)
    for reason in complete.reasons:
        print_remark(reason)
    return complete


def _plan(
    chosen: dict[str, Any],
    out: Path,
    preset: str | None,
    machines: dict[str, Any],
    json: bool,
) -> None:
    """Print the plan of a search. machines: see `_run`."""
    _check(chosen)
    check_writable_folder(out)
    from genets.cli.output import print_remark, print_result
    from genets.cli.progress import show_progress
    from genets.nas.plan.search_plan import plan_search
    from genets.report.study.plan import plan_sentence, plan_tables

    with show_progress(plain=json) as on_event:
        plan = plan_search(out=out, preset=preset, on_event=on_event, **machines, **chosen)
    print_result(json, plan.to_json(), plan_tables(plan), [plan_sentence(plan)])
    for warning in () if json else plan.warnings:
        print_remark(f"warning: {warning}")


def _run(
    out: Path,
    settings: dict[str, Any],
    reasons: Sequence[str],
    machines: dict[str, Any],
    json: bool,
) -> None:
    """Run a search. machines: options of `run_search` that are no settings of the study."""
    checked = _check(settings)
    # PyTorch is imported only after the settings are checked.
    from genets.cli.output import print_error, print_remark, print_result
    from genets.cli.progress import show_progress
    from genets.nas.latencies.calm import leaves_threads_open
    from genets.nas.search import run_search
    from genets.nas.settings.from_data import MIN_PHOTO_SIDE
    from genets.nas.study.reader import is_study
    from genets.report.study.facts import finished_parts
    from genets.report.study.tables import search_tables
    from genets.report.wording import refused_sentence

    is_new = not is_study(out)
    if not is_new:
        parts = finished_parts(out) or ["no phase has ended yet"]
        print_remark(f"Continuing {out}: {', '.join(parts)}.")
    with show_progress(plain=json) as on_event:
        result = run_search(
            checked, out, open_threads=leaves_threads_open(settings), reasons=reasons,
            on_reason=print_remark, on_stop=print_error, on_event=on_event, **machines,
        )  # fmt: skip
    print_result(json, result.to_json(), search_tables(result))
    if not json:
        for warning in result.warnings:
            print_remark(f"warning: {warning}")
        if is_new and not checked.rivals and checked.structure.resolution >= MIN_PHOTO_SIDE:
            again = f"genets search --out {shlex.quote(str(out))} --rivals default"
            print_remark(f"To fetch published networks and compare the winner with them: {again}")
    if result.refused:
        raise InfeasibleBudgetError(refused_sentence(result.refused))


@contextmanager
def _shown_continuation(out: Path, worker_options: str) -> Iterator[None]:
    """Show the faults of a search that ends without a result, and how to continue it."""
    try:
        yield
    except (KeyboardInterrupt, GenetsError) as end:
        from genets.cli.output import print_remark
        from genets.nas.faults import study_faults
        from genets.nas.snapshot import Snapshot
        from genets.nas.study.reader import is_study

        if is_study(out):
            # A refused budget was shown with all warnings; wrong settings have nothing to do with
            # the faults of the runs before.
            with suppress(GenetsError):  # the study itself may be damaged
                is_other = isinstance(end, (InfeasibleBudgetError, SettingsError))
                for sentence in () if is_other else study_faults(Snapshot.read(out)):
                    print_remark(f"warning: {sentence}")
            if isinstance(end, KeyboardInterrupt):
                again = f"genets search --out {shlex.quote(str(out))}{worker_options}"
                print_remark(f"The study is kept. To continue: {again}")
        raise
