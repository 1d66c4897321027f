"""Searches of several rounds in closed form: nothing is timed and next to nothing is trained.

A network's loss has an interaction between its two super-blocks, which a sum over super-blocks
cannot hold: the best structure near one MasterNet is not the best near another.
"""

import math
from pathlib import Path

import torch

from closed_form_device import ClosedFormDevice
from genets.latency import LatencyTable, Measurement
from genets.nas import phases, run
from genets.nas.candidates.training import ConfirmRunner
from genets.nas.context import SearchContext
from genets.nas.selection.measured import MeasuredNetworks, NetworkLatency
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import TrialResult
from genets.nas.trials.runner import TrialRunner
from genets.networks import build, save_weights
from genets.training import Score

MASTER = "Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @8"
SETTINGS = {
    "data": "digits",
    "budget": "0.9x",
    "master": MASTER,
    "space": {"blocks": ["XX3", "DW3r3"], "depth_change": 1},
    "target": {"batch_size": 8, "threads": 1},
    "trials_per_super_block": 4,
    "controls_per_super_block": 1,
    "final_training": {"epochs": 1, "warmup_epochs": 0.5},
    "confirm": 2,
    "confirm_epochs": 1,
    "rounds": 2,
}


def settings(**changes):
    return SearchSettings(**{**SETTINGS, **changes})


def loss(structure):
    first, second = structure.super_blocks
    ends = 0.1 * math.log(structure.stem.width / 8) + 0.02 * math.log(structure.head.width / 16)
    size = math.log(first.width * first.depth * second.width * second.depth / 256)
    types = 0.1 * (first.type == "XX") + 0.2 * (first.type == second.type)
    shape = 0.05 * (math.log(second.width / first.width) - 0.5) ** 2
    pixels = 0.3 * math.log(structure.resolution / 8)
    return 1 - 0.05 * size + types + shape - ends - pixels


def score(value):
    return Score(math.exp(-value), value, 100)


DEVICE = ClosedFormDevice(block_ms=1e-3)


def _measured(self, structures):
    def measurement(structure):
        ms = DEVICE.network_ms(structure) / self.target.batch_size
        return Measurement(ms, 0.999 * ms, 1.001 * ms, ms, ms, (ms,), False, {}, "genets-1",
                           self.target, structure.resolution)  # fmt: skip

    master = measurement(self.master)
    for structure in structures:
        self._known[str(structure)] = NetworkLatency(
            measurement(structure), master.ms_per_image, master.low_ms_per_image
        )


def _trials(self, group):
    """As the network with the new super-block, and a loss that all trials there have."""
    found = []
    for trial in group:
        value = loss(trial.structure(self.job.master)) + 0.05 * (1 + trial.index)
        found.append(TrialResult(trial, "done", score(value).top1, value))
    return found


def _confirmed_score(self, structure):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(build(structure, 10), self.job.weights_of(structure), {})
    return score(loss(structure) - 0.1)  # another recipe


def latency_in_closed_form(patch, asked):
    """With a MonkeyPatch: the table that a search with these settings builds, and measuring."""
    patch.setattr(LatencyTable, "build", lambda *a, **k: DEVICE.table_of(asked))
    patch.setattr("genets.latency.predictor.storage.describe_environment",
                  lambda target: {"device_name": None, "threads": None,
                                  "packages": {"torch": None}})  # fmt: skip
    patch.setattr(MeasuredNetworks, "_measure_once", _measured)


def in_closed_form(patch, *, master_loss=None, asked=None):
    """With a MonkeyPatch: every phase but the hand-over's scores. asked: settings."""
    value = loss(settings().structure) if master_loss is None else master_loss
    latency_in_closed_form(patch, asked or settings())
    patch.setattr(SearchContext, "train", lambda *a, **k: None)
    patch.setattr(phases, "evaluate", lambda *a, **k: score(value))
    patch.setattr(TrialRunner, "_run", _trials)
    patch.setattr(ConfirmRunner, "_trained_score", _confirmed_score)
    patch.setattr(run, "hand_over", lambda result, net, data: result)


def files(folder: Path):
    """The names of what a study holds, but for locks and the like."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()}
