"""Studies made of closed forms: nothing is trained, nothing is timed."""

import math
from dataclasses import asdict

import numpy as np

from genets.latency import LatencyTable, Measurement
from genets.latency.probes import Piece, ends_of, pieces_of
from genets.latency.table import WholeNetwork
from genets.nas.measured import Measured
from genets.nas.planning import plan_trials
from genets.nas.result import Selected
from genets.nas.settings import SearchSettings
from genets.nas.study import Study
from genets.nas.trial import TrialResult
from genets.structure import SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds
from genets.training import Score

ENVIRONMENT = {"device_name": "a <b>device</b>", "packages": {"torch": "2"}}
MASTER_MS, LOSS = 0.02, 0.5


def stage_ms(stage, width, pixels):
    return 0.02 * stage.depth + 1e-6 * stage_multiply_adds(stage, width, pixels)


def network_ms(structure):
    widths = [3, *(stage.width for stage in structure.stages)]
    sizes = input_resolutions(structure)
    return sum(map(stage_ms, structure.stages, widths, sizes))


def piece_ms(item):
    if not isinstance(item, Piece):
        return 0.02 + 1e-4 * item.input_width
    block = item.block
    stage = SuperBlock(block.type, item.depth, item.width, item.stride, block.kernel, block.ratio)
    return stage_ms(stage, item.input_width, item.resolution)


def table_of(settings):
    master = settings.structure
    around = settings.space.design_space().around(master)
    rng = np.random.default_rng(0)
    networks = [WholeNetwork(master, network_ms(master), "calibration")]
    for number in range(12):
        structure = around.sample(rng)
        use = "held-out" if number % 2 else "calibration"
        networks.append(WholeNetwork(structure, network_ms(structure), use))
    items = [*pieces_of(around, master.resolution), *ends_of(around, master.resolution)]
    timed = {item: piece_ms(item) for item in items}
    return LatencyTable(around, settings.target.resolved(), 10, timed, tuple(networks), ENVIRONMENT)


def measured_record(structure, settings, table):
    target = settings.target.resolved()
    ms = network_ms(structure) / target.batch_size
    m = Measurement(ms, 0.99 * ms, 1.01 * ms, ms, ms, (ms,), True, {}, "genets-1", target, 16)
    return Measured(m, table.master_ms_per_image, 0.99 * table.master_ms_per_image).to_json()


def trial_result(trial, master, failing):
    if failing(trial):
        return TrialResult(trial, "failed", seconds=1.0, reason="<img src=x> out of memory")
    own, tried = master.super_blocks[trial.index], trial.super_block
    loss = 0.6 - 0.05 * math.log(tried.width * tried.depth / own.width / own.depth)
    loss += 0.02 * (tried.type != own.type) + 0.003 * trial.repeat
    return TrialResult(trial, "done", 1 - loss / 2, loss, 2.0)


def make_study(folder, upto="selected", failing=lambda trial: False, failure=None, **changes):
    """A study that got as far as `upto`: settings, table, master, trials, selected."""
    values = {"data": "digits", "budget": "0.8x", "target": {"batch_size": 8, "threads": 1},
              "space": {"blocks": ["XX3", "BL3r0.5", "DW3r3"], "depth_change": 1},
              "trials_per_super_block": 6}  # fmt: skip
    settings = SearchSettings(**values | changes)
    master = settings.structure
    around = settings.space.design_space().around(master)
    with Study.create_or_resume(folder, settings) as study:
        if failure:
            study.save_json("failure", {"sentence": failure})
        if upto == "settings":
            return study.folder
        table = table_of(settings)
        path = study.latency_folder / f"{settings.target.resolved().name}.json"
        table.save(path)
        smaller = master.with_super_block(3, SuperBlock("XX", 1, 48))
        records = {str(s): measured_record(s, settings, table) for s in (master, smaller)}
        study.save_json(f"latency/{path.stem}-measured", records)
        if upto == "table":
            return study.folder
        study.save_json("master", asdict(Score(0.8, LOSS, 500)))
        if upto == "master":
            return study.folder
        counts = (settings.trials_per_super_block, settings.controls_per_super_block)
        for trial in plan_trials(around, *counts, seed=0):
            study.record(trial_result(trial, master, failing))
        if upto == "trials":
            return study.folder
        ms = network_ms(smaller) / 8
        selected = Selected(smaller, 1.2 * ms, ms, ms, 0.99 * ms, 1.01 * ms,
                            table.master_ms_per_image, False, -0.5, 0.01, 0.02)  # fmt: skip
        study.save_json("selected", selected.to_json())
        return study.folder
