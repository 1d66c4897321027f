"""A laboratory that looks its answers up in a public table, so that a search trains nothing.

The rounds of a search run as they are: planning, the accuracy model, selection, candidates. A trial
scores as the network with the new super-block does in the table, where it was trained from scratch;
so a control trial is the MasterNet's own training. A latency is a number of the table, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genets.latency import LatencyTable, Measurement, TableSettings, Target
from genets.latency.timing.calm import OnWait
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory, OnShare
from genets.nas.rounds import search_rounds
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.workers.job import Workers
from genets.structure import Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds
from genets.training import Score
from tables import Floats, Table, macro_space

IMAGES = 10_000  # of the test split of CIFAR-10
TARGET = Target(device="cpu", batch_size=1, threads=1)


class CountedLatency(LatencyTable):
    """A latency table whose ms are millions of multiply-adds; it makes no error."""

    def stage_ms_per_image(
        self,
        index: int,
        input_widths: Sequence[int],
        stages: Sequence[SuperBlock],
        *,
        resolution: int | None = None,
    ) -> Floats:
        master = self.space.master
        pixels = dict(zip(master.indices, input_resolutions(master), strict=True))[index]
        counted = [
            [stage_multiply_adds(s, width, pixels) for s in stages] for width in input_widths
        ]
        return np.array(counted) / 1e6

    @property
    def offset_ms_per_image(self) -> float:
        return 0.0

    @property
    def rmspe(self) -> float:
        return 0.0

    def correct(self, ms_per_image: Mapping[Structure, float]) -> LatencyTable:
        return self


@dataclass(frozen=True)
class Outcome:
    """What a method found.

    Attributes:
        winner: the row of the network that it chose.
        trainings: how many different trainings it used.
    """

    winner: int
    trainings: int


class TableLaboratory(Laboratory):
    """Answers from one column of a table.

    Attributes:
        used: the rows of all networks that were trained.
    """

    def __init__(self, table: Table, training: int) -> None:
        self.table = table
        self.scores = table.scores[:, training]
        self.used: set[int] = set()

    def prepare_table(self, path: Path, expected: TableSettings, **_: Any) -> LatencyTable:
        return CountedLatency(expected.space, expected.target, expected.num_classes, {}, ())

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
        return {structure: self._measurement(structure, target) for structure in structures}

    def wait_for_calm(self, target: Target, limit_s: float, on_wait: OnWait) -> bool:
        return True

    def _measurement(self, structure: Structure, target: Target) -> Measurement:
        ms = float(self.table.multiply_adds[self.table.number[structure]]) / 1e6
        pixels = structure.resolution
        return Measurement(ms, ms, ms, ms, ms, (ms,), False, {}, "genets-1", target, pixels)

    def score(self, structure: Structure) -> Score:
        row = self.table.number[structure]
        self.used.add(row)
        return Score(float(self.scores[row]), float(1 - self.scores[row]), IMAGES)

    def run_trials(
        self, job: Any, groups: Sequence[tuple[Trial, ...]], workers: Workers
    ) -> Iterator[TrialResult]:
        for trial in [trial for group in groups for trial in group]:
            score = self.score(trial.structure(job.master))
            yield TrialResult(trial, "done", score.top1, score.cross_entropy)

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: Workers
    ) -> Iterator[TrainedCandidate]:
        for structure in [structure for group in groups for structure in group]:
            score = self.score(structure)
            yield TrainedCandidate(structure, "done", 1, score.top1, score.cross_entropy)


def search_macro(
    table: Table, start: int, training: int, budget: float, changes: Mapping[str, Any]
) -> Outcome:
    """Run the rounds of a search on NAS-Bench-Macro.

    Args:
        table: the table.
        start: the row of the first MasterNet.
        training: which of the three trainings the search sees.
        budget: the largest allowed number of multiply-adds.
        changes: settings that differ from the defaults.
    """
    master = table.structures[start]
    space = macro_space(master)
    # Multiply-adds are whole numbers. With half a one more, rounding excludes no network whose
    # multiply-adds are equal to the budget.
    budget_ms = (float(budget) + 0.5) / 1e6
    settings = SearchSettings(
        **{
            "data": "digits",
            "from_scratch": True,
            "budget": f"{budget_ms!r}ms",
            "master": master,
            "seed": training,
            "space": {
                "blocks": [str(block) for block in space.space.blocks],
                "width_range": [1.0, 1.0],
                "stem_width_range": [1.0, 1.0],
                "head_width_range": [1.0, 1.0],
                "depth_change": 0,
            },
            "target": {"device": "cpu", "batch_size": 1, "threads": 1},
            "trials_per_super_block": 2,  # all other blocks
            "controls_per_super_block": 1,
            "metric": "top1",
            **changes,
        }
    )
    lab = TableLaboratory(table, training)
    with (
        tempfile.TemporaryDirectory(prefix="genets-table-") as folder,
        Study.create_or_resume(Path(folder) / "study", settings) as study,
    ):
        context = SearchContext(study, 10, lab=lab, workers=1)
        winner = search_rounds(context, lab.score(master))
    return Outcome(table.number[winner.structure], len(lab.used))
