"""Studies made of closed forms: nothing is trained, nothing is timed."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from closed_form_device import ClosedFormDevice
from genets.latency import LatencyTable, Measurement
from genets.nas.selection.network_latency import NetworkLatency
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import Candidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.trials.plan import plan_trials
from genets.structure import Structure, SuperBlock
from genets.training import Score

ENVIRONMENT = {"device_name": "a <b>device</b>", "packages": {"torch": "2"}}
MASTER_MS, LOSS = 0.02, 0.5


DEVICE = ClosedFormDevice(0.02, environment=ENVIRONMENT)


def measured_record(
    structure: Structure, settings: SearchSettings, table: LatencyTable
) -> dict[str, Any]:
    target = settings.target.resolved()
    ms = DEVICE.network_ms(structure) / target.batch_size
    m = Measurement(ms, 0.99 * ms, 1.01 * ms, ms, ms, (ms,), True, {}, "genets-1", target, 16)
    return NetworkLatency(m, table.master_ms_per_image, 0.99 * table.master_ms_per_image).to_json()


def trial_result(trial: Trial, master: Structure, failing: Callable[[Trial], bool]) -> TrialResult:
    if failing(trial):
        return TrialResult(trial, "failed", seconds=1.0, reason="<img src=x> out of memory")
    own, tried = master.super_blocks[trial.index], trial.super_block
    loss = 0.6 - 0.05 * math.log(tried.width * tried.depth / own.width / own.depth)
    loss += 0.02 * (tried.type != own.type) + 0.003 * trial.repeat
    top1 = 1 - loss / 2
    return TrialResult(trial, "done", top1, loss, 2.0, balanced_accuracy=0.9 * top1)


def make_study(
    folder: Path,
    upto: str = "selected",
    failing: Callable[[Trial], bool] = lambda trial: False,
    failure: str | None = None,
    **changes: Any,
) -> Path:
    """A study that got as far as `upto`: settings, table, master, trials, selected."""
    values: dict[str, Any] = {
        "data": "digits",
        "budget": "0.8x",
        "target": {"batch_size": 8, "threads": 1},
        "space": {"blocks": ["XX3", "BL3r0.5", "DW3r3"], "depth_change": 1},
        "trials_per_super_block": 6,
        "controls_per_super_block": 2,
    }
    settings = SearchSettings(**values | changes)
    master = settings.structure
    around = settings.space.design_space().around(master)
    with Study.create_or_resume(folder, settings) as study:
        if failure:
            study.save_json("failure", {"sentence": failure})
        if upto == "settings":
            return study.folder
        table = DEVICE.table_of(settings)
        path = study.latency_folder / f"{settings.target.resolved().name}.json"
        table.save(path)
        smaller = master.with_stage(3, SuperBlock("XX", 1, 48))
        records = {str(s): measured_record(s, settings, table) for s in (master, smaller)}
        study.save_json(f"latency/{path.stem}-measured", records)
        if upto == "table":
            return study.folder
        study.save_json("master", asdict(Score(0.8, LOSS, 500, 0.75, 400.0)))
        if upto == "master":
            return study.folder
        counts = (settings.trials_per_super_block, settings.controls_per_super_block)
        for trial in plan_trials(around, *counts, seed=0):
            study.record(trial_result(trial, master, failing))
        if upto == "trials":
            return study.folder
        ms = DEVICE.network_ms(smaller) / 8
        selected = Candidate(smaller, 1.2 * ms, ms, ms, 0.99 * ms, 1.01 * ms,
                            table.master_ms_per_image, False, -0.5, 0.01, 0.02)  # fmt: skip
        study.save_json("selected", selected.to_json())
        return study.folder
