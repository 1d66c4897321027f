"""`genets search`: the main job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.cli import search_options as options
from genets.cli.options import BatchSize, Device, Engine, Json, Precision, Threads

if TYPE_CHECKING:
    from genets.nas.settings.settings import SearchSettings


NOT_SETTINGS = ("out", "preset", "settings", "masternet", "workers", "json")
# The settings that have another name than their option, or stand in a table.
SETTINGS = {
    **{name: f"target.{name}" for name in
       ("device", "engine", "precision", "batch_size", "threads")},
    **{name: f"space.{name}" for name in
       ("blocks", "width_range", "stem_width_range", "head_width_range", "width_step",
        "depth_change", "resolutions")},
    "thaw": "trial_training.thaw",
    **{f"{name}_epochs": f"{name}_training.epochs" for name in ("master", "trial", "final")},
}  # fmt: skip


def search(
    out: options.Out,
    data: options.Data = None,
    budget: options.Budget = None,
    preset: options.Preset = None,
    settings: options.SettingsFile = None,
    master: options.Master = None,
    masternet: options.MasterNet = None,
    resolution: options.Resolution = None,
    resolutions: options.Resolutions = None,
    blocks: options.Blocks = None,
    width_range: options.WidthRange = None,
    stem_width_range: options.StemWidthRange = None,
    head_width_range: options.HeadWidthRange = None,
    width_step: options.WidthStep = None,
    depth_change: options.DepthChange = None,
    device: Device = None,
    engine: Engine = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    trials_per_super_block: options.TrialsEach = None,
    controls_per_super_block: options.ControlsEach = None,
    trials: options.Trials = None,
    sampling: options.Sampling = None,
    thaw: options.Thaw = None,
    master_epochs: options.MasterEpochs = None,
    trial_epochs: options.TrialEpochs = None,
    final_epochs: options.FinalEpochs = None,
    metric: options.Metric = None,
    regression: options.Regression = None,
    selection: options.Selection = None,
    confirm: options.Confirm = None,
    confirm_epochs: options.ConfirmEpochs = None,
    rounds: options.Rounds = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
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
    given = _given(locals())
    _run(out, _settings(out, preset, settings, given, masternet, json), workers, json)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings among the options, those that are left out not among them."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in NOT_SETTINGS:
            continue
        table, _, field = SETTINGS.get(name, name).rpartition(".")
        (given.setdefault(table, {}) if table else given)[field] = value
    return given


def _settings(
    out: Path,
    preset: str | None,
    file: Path | None,
    given: dict[str, Any],
    masternet: str | None,
    json: bool,
) -> SearchSettings:
    """Those of the study at `out`, or a preset; under those of `file`; under `given`."""
    from genets.cli.masters import choose_master
    from genets.cli.options import make_target
    from genets.core.errors import SettingsError
    from genets.latency import Target
    from genets.nas.settings.layers import load_settings_file, merge
    from genets.nas.settings.presets import settings_at
    from genets.nas.settings.settings import SearchSettings

    base = settings_at(out, preset, load_settings_file(file) if file else {})
    values = merge(base, given)
    if "target" in given:
        values["target"] = make_target(given["target"], Target.from_json(base.get("target", {})))
    if masternet is not None:
        if "master" in given:
            raise SettingsError("give --master or --masternet, not both")
        values["master"] = choose_master(masternet, values, out, plain=json)
    return SearchSettings(**values)


def _run(out: Path, settings: SearchSettings, workers: int | None, json: bool) -> None:
    from genets.cli.output import error_console, print_json, print_tables
    from genets.cli.progress import show_progress
    from genets.nas.search import run_search
    from genets.report import search_table

    try:
        with show_progress(plain=json) as on_event:
            result = run_search(settings, out, workers=workers, on_event=on_event)
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
