"""Searches of several rounds in closed form: nothing is timed and next to nothing is trained.

A network's loss has an interaction between its two super-blocks, which a sum over super-blocks
cannot hold: the best structure near one MasterNet is not the best near another.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import Result

from closed_form_device import ClosedFormDevice
from genets.data import ImageData, Split
from genets.latency import LatencyTable, Measurement, TableSettings, Target
from genets.latency.timing.calm import OnWait
from genets.nas import context
from genets.nas.candidates.export import OnnxCheck, write_network
from genets.nas.laboratory import Laboratory, OnShare
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.workers.job import Workers
from genets.networks import build, save_weights
from genets.structure import DesignSpace, Structure
from genets.training import Recipe, Score
from genets.training.predictions import Predictions

Output = TypeVar("Output")
SearchCommand = Callable[..., Result]

MASTER = "Conv3x8s2 XX3x16s2 DW3x16r3 Conv1x16 @8"
SETTINGS: dict[str, Any] = {
    "from_scratch": True,
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
    "screen": 0,
    "rounds": 2,
}


def settings(**changes: Any) -> SearchSettings:
    return SearchSettings(**{**SETTINGS, **changes})


def loss(structure: Structure) -> float:
    first, second = structure.super_blocks
    ends = 0.1 * math.log(structure.stem.width / 8) + 0.02 * math.log(structure.head.width / 16)
    size = math.log(first.width * first.depth * second.width * second.depth / 256)
    types = 0.1 * (first.type == "XX") + 0.2 * (first.type == second.type)
    shape = 0.05 * (math.log(second.width / first.width) - 0.5) ** 2
    pixels = 0.3 * math.log(structure.resolution / 8)
    return 1 - 0.05 * size + types + shape - ends - pixels


def score(value: float) -> Score:
    """Balanced accuracy is a little lower than top-1, as with some larger classes."""
    return Score(math.exp(-value), value, 100, 0.9 * math.exp(-value), 80.0)


DEVICE = ClosedFormDevice(block_ms=1e-3)
_tables: dict[tuple[Structure, DesignSpace, Target], LatencyTable] = {}


def table_of(asked: SearchSettings) -> LatencyTable:
    """Searches of the same space and target share a table, which is calibrated once."""
    key = asked.structure, asked.space.design_space(), asked.target.resolved()
    if key not in _tables:
        _tables[key] = DEVICE.table_of(asked)
    return _tables[key]


class ClosedFormLatency(Laboratory):
    """Times nothing; trains for real; an ONNX file would take longer than the training.

    asked: the settings of the search whose latency table is built.
    """

    def __init__(self, asked: SearchSettings | None = None) -> None:
        self.asked = asked or settings()

    def prepare_table(
        self,
        path: Path,
        expected: TableSettings,
        *,
        on_progress: OnShare | None = None,
        **_: Any,
    ) -> LatencyTable:
        if path.exists():
            return LatencyTable.load(path)
        table = table_of(self.asked)
        table.save(path)
        if on_progress is not None:
            on_progress(1.0)
        return table

    def measure(
        self,
        structures: Sequence[Structure],
        target: Target,
        num_classes: int,
        time_limit_s: float,
        on_progress: OnShare | None = None,
        *,
        relative: bool = False,
    ) -> dict[Structure, Measurement]:
        if on_progress is not None:
            on_progress(0.5)
        return {structure: self._measurement(structure, target) for structure in structures}

    def wait_for_calm(self, target: Target, limit_s: float, on_wait: OnWait) -> bool:
        return True

    def export(
        self, net: nn.Module, structure: Structure, data: ImageData, folder: Path
    ) -> OnnxCheck:
        write_network(net, structure, data, folder)
        return OnnxCheck(0.0)

    def _measurement(self, structure: Structure, target: Target) -> Measurement:
        ms = DEVICE.network_ms(structure) / target.batch_size
        return Measurement(ms, 0.999 * ms, 1.001 * ms, ms, ms, (ms,), False, {}, "genets-1",
                           target, structure.resolution)  # fmt: skip


class ClosedFormLaboratory(ClosedFormLatency):
    """Times, trains and exports nothing; candidates get the weights of an untrained network.

    trial_jobs: every job that was run, with its groups of trials.
    """

    def __init__(
        self, asked: SearchSettings | None = None, *, master_loss: float | None = None
    ) -> None:
        super().__init__(asked)
        own = loss(settings().structure)
        self.master_loss = own if master_loss is None else master_loss
        self.trial_jobs: list[Any] = []

    def train(
        self,
        net: nn.Module,
        data: ImageData,
        recipe: Recipe,
        *,
        on_epoch: Callable[[int, float], None],
        **_: Any,
    ) -> None:
        on_epoch(recipe.epochs - 1, 0.0)

    def evaluate(self, net: nn.Module, split: Split, device: str) -> Score:
        return score(self.master_loss)

    def test(self, net: nn.Module, split: Split, device: str) -> tuple[Score, Predictions]:
        """The share of the score of 100 images is right."""
        own = self.evaluate(net, split, device)
        labels = np.arange(100) % 10
        wrong = np.arange(100) >= round(100 * own.top1)
        return own, Predictions(labels, (labels + wrong) % 10)

    def run_trials(
        self, job: Any, groups: Sequence[tuple[Trial, ...]], workers: Workers
    ) -> Iterator[TrialResult]:
        """As the network with the new super-block, and a loss that all trials there have."""
        self.trial_jobs.append(job)
        for trial in [trial for group in groups for trial in group]:
            value = loss(trial.structure(job.master)) + 0.05 * (1 + trial.index)
            own = score(value)
            yield TrialResult(
                trial, "done", own.top1, value, balanced_accuracy=own.balanced_accuracy
            )

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: Workers
    ) -> Iterator[TrainedCandidate]:
        for (structure,) in groups:
            if job.folder is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    save_weights(build(structure, 10), job.weights_path(structure), {})
            value = score(loss(structure) - 0.1)  # another recipe
            yield TrainedCandidate(
                structure, "done", job.recipe.epochs, value.top1, value.cross_entropy,
                balanced_accuracy=value.balanced_accuracy,
            )  # fmt: skip

    def export(
        self, net: nn.Module, structure: Structure, data: ImageData, folder: Path
    ) -> OnnxCheck:
        return OnnxCheck(0.0)


def search(
    asked: SearchSettings, folder: Path, lab: Laboratory | None = None, **options: Any
) -> SearchResult:
    """Run a search in closed form. lab: by default one for these settings."""
    lab = lab or ClosedFormLaboratory(asked)
    return run_search(asked, folder, workers=1, lab=lab, **options)


def in_closed_form(patch: pytest.MonkeyPatch, lab: Laboratory | None = None) -> None:
    """With a MonkeyPatch: for what takes no laboratory, such as commands and `genets.search`."""
    patch.setattr(context, "Laboratory", lambda: lab or ClosedFormLaboratory())


def files(folder: Path) -> set[str]:
    """The names of what a study holds, but for locks and the like."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()}


def run_with_kills(
    monkeypatch: pytest.MonkeyPatch, names: Sequence[str], writes: int, run: Callable[[], Output]
) -> tuple[Output, int]:
    """Run again and again, with a kill after so many writes of a study.

    A run is killed before the next write where its number is even, and after it where it is odd.

    Args:
        monkeypatch: Replaces the methods.
        names: The methods of `Study` that write.
        writes: How many writes a run completes.
        run: Begins or continues a search.

    Returns:
        The result, and the number of kills.
    """
    left, odd, kills = 0, False, 0

    def killing(write: Any) -> Any:
        def wrapper(self: Study, *args: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0 and not odd:
                raise KeyboardInterrupt
            written = write(self, *args)
            if left < 0:
                raise KeyboardInterrupt
            return written

        return wrapper

    for name in names:
        monkeypatch.setattr(Study, name, killing(getattr(Study, name)))
    while kills < 100:
        left, odd = writes, not odd
        try:
            return run(), kills
        except KeyboardInterrupt:
            kills += 1
    raise AssertionError("the search does not end")
