"""Candidates: trained with the MasterNet as teacher, and scored on the validation images.

They begin with fresh weights, or with inherited ones (see `assembly`). For an int8 target, each
trained candidate is also scored after quantisation (see `quantised`).
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import nn

from genets.core.errors import GenetsError, TargetError, TrainingError, is_out_of_memory
from genets.data import ImageData
from genets.data.seeds import derive_seed, seeded_globals
from genets.data.split import Fold
from genets.latency import Target
from genets.nas.candidates.assembly import assemble, needed_trials
from genets.nas.candidates.quantised import score_quantised
from genets.nas.study import layout
from genets.nas.study.records import TrainedCandidate, Trial
from genets.nas.trials.folds import run_in_folds
from genets.nas.trials.runner import MasterNetJob, MasterNetRunner
from genets.nas.trials.weights import TrialWeights
from genets.nas.workers.files import ROOT, read_files, scratch_path
from genets.nas.workers.job import Runner
from genets.networks import build, load_weights, save_weights
from genets.networks.channels import MasterChannels
from genets.networks.inheritance import inherit
from genets.structure import Structure
from genets.training import Metric, Score, evaluate, fitting_threads, train_on
from genets.training.epoch_checkpoints import EpochCheckpoints, newest_epoch, training_key
from genets.training.loop import estimate_norm_statistics
from genets.training.resources import failure_reason
from genets.training.teacher import TeacherNetwork


@dataclass(frozen=True, kw_only=True)
class CandidateJob(MasterNetJob):
    """The common inputs of the trainings of all candidates.

    A candidate that is trained as long as the winner gets the same weights as the winner. The
    weights of a fold are not kept, because the winner is trained on the whole training split.

    Attributes:
        folder: Where the trained weights are written, see `weights_path`; None keeps none.
        source: The MasterNet whose weights are inherited: that of the round. The teacher is that of
            the first round, which is `master`.
        source_weights: The file of its weights.
        metric: The score on the validation images that decides where a recipe has a linear start.
        trials: The trials of the round that ended well.
        trial_weights: The weights of these trials, which candidates inherit; None where candidates
            are trained from scratch.
        larger: The winner of a larger budget and the file of its weights, from which a candidate
            starts where that is better; None where there is no such winner. Folds have none,
            because it was trained on their images.
        int8_target: The target, if candidates are also scored after quantisation for it.
        has_checkpoints: Whether an interrupted training may continue, because `folder` stays.
    """

    folder: Path | None
    source: Structure
    source_weights: Path
    metric: Metric
    trials: tuple[Trial, ...] = ()
    trial_weights: TrialWeights | None = None
    larger: tuple[Structure, Path] | None = None
    int8_target: Target | None = None
    has_checkpoints: bool = True

    @property
    def inherits(self) -> bool:
        return self.trial_weights is not None

    def in_fold(self, fold: Fold) -> Self:
        """See `MasterNetJob.in_fold`."""
        return replace(
            super().in_fold(fold),
            source_weights=layout.in_fold(self.source_weights, fold.number),
            trial_weights=self.trial_weights and self.trial_weights.in_fold(fold),
            larger=None,
        )

    @property
    def result_type(self) -> type[TrainedCandidate]:
        """See `workers.job.Job`."""
        return TrainedCandidate

    def runner(self, worker: int = 0) -> Runner[Structure, TrainedCandidate]:
        return run_in_folds(self.at_worker(worker), CandidateRunner)

    def inputs(self, structures: Sequence[Structure]) -> dict[Path, bytes]:
        """See `workers.job.Job`; also the weights that these candidates inherit."""
        paths: list[Path] = []
        needed = needed_trials(structures, self.source, self.trials)
        for job in self.each_fold():
            paths.append(job.source_weights)
            if job.trial_weights is not None:
                paths += map(job.trial_weights.path, needed)
            if job.larger is not None:
                paths.append(job.larger[1])
        return super().inputs(structures) | read_files(paths)

    def elsewhere(self, scratch: Path) -> Self:
        """See `workers.job.Job`."""
        return replace(
            super().elsewhere(scratch),
            folder=self.folder and scratch_path(scratch, self.folder),
            has_checkpoints=scratch == ROOT,
            source_weights=scratch_path(scratch, self.source_weights),
            trial_weights=self.trial_weights and self.trial_weights.elsewhere(scratch),
            larger=self.larger and (self.larger[0], scratch_path(scratch, self.larger[1])),
        )

    def progress(self, structure: Structure) -> int:
        """See `workers.job.Job`."""
        if not (self.keeps_weights and self.has_checkpoints):
            return 0
        return newest_epoch(self.checkpoints_folder(structure))

    def failed(self, structure: Structure, reason: str) -> TrainedCandidate:
        """See `workers.job.Job`."""
        return TrainedCandidate(structure, "failed", self.recipe.epochs, reason=reason)

    @property
    def keeps_weights(self) -> bool:
        """Whether the trained weights are written; those of a fold are not."""
        return self.folder is not None and self.fold is None

    def weights_path(self, structure: Structure) -> Path:
        """The file of the trained weights; `folder` must not be None."""
        assert self.folder is not None
        return self.folder / f"{derive_seed(str(structure)):016x}.safetensors"

    def checkpoints_folder(self, structure: Structure) -> Path:
        """The folder of the checkpoints of its training; see `weights_path`."""
        return self.weights_path(structure).with_suffix(layout.CANDIDATE_CHECKPOINTS)


class CandidateRunner(MasterNetRunner[CandidateJob]):
    """Trains candidates of one study."""

    def __init__(self, job: CandidateJob) -> None:
        super().__init__(job)
        self._other_data: ImageData | None = None  # at the resolution of the last candidate

    def run(self, group: Sequence[Structure]) -> list[TrainedCandidate]:
        """Train and score each structure.

        A candidate fails whose loss becomes NaN, whose quantisation fails, or for which memory
        runs out. Raises DataError, and GenetsError where weights cannot be written.
        """
        return [self._run(structure) for structure in group]

    def _run(self, structure: Structure) -> TrainedCandidate:
        start = time.perf_counter()
        epochs = self.job.recipe.epochs
        try:
            score, seconds_before = self._trained_score(structure)
        except (TrainingError, TargetError, RuntimeError, MemoryError) as error:
            lacks_memory = is_out_of_memory(error)
            if not (isinstance(error, GenetsError) or lacks_memory):
                raise
            if self.job.keeps_weights and not lacks_memory:  # otherwise it may run again
                shutil.rmtree(self.job.checkpoints_folder(structure), ignore_errors=True)
            return TrainedCandidate(
                structure,
                "failed",
                epochs,
                seconds=time.perf_counter() - start,
                reason=failure_reason(error),
                lacks_memory=lacks_memory,
            )
        seconds = seconds_before + time.perf_counter() - start
        return TrainedCandidate.of(structure, epochs, score, seconds)

    def _trained_score(self, structure: Structure) -> tuple[Score, float]:
        """Train and score a structure.

        Returns:
            The score, and the seconds of training before an interruption.
        """
        job = self.job
        net, data, teacher = self.start_training(structure)
        facts: dict[str, Any] = {
            "seed": job.seed, "teacher": teacher, "device": job.device, "metric": job.metric,
        }  # fmt: skip
        checkpoints = None
        if job.keeps_weights and job.has_checkpoints:
            key = training_key(net, data, job.recipe, **facts)
            checkpoints = EpochCheckpoints(job.checkpoints_folder(structure), key)
        with fitting_threads(net, structure.resolution, job.recipe.batch_size):
            train_on(net, data, job.recipe, checkpoints=checkpoints, **facts)
        score = evaluate(net, data.validation, device=job.device)
        if job.int8_target is not None:
            quantised = score_quantised(net, data, data.validation, job.int8_target)
            score = replace(score, quantised=quantised)
        if job.keeps_weights:
            path = job.weights_path(structure)
            with suppress(OSError):  # a worker on another machine has no such folder yet
                path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(net, path, {"structure": str(structure)})
            shutil.rmtree(job.checkpoints_folder(structure), ignore_errors=True)
        return score, 0.0 if checkpoints is None else checkpoints.seconds_before

    def start_training(self, structure: Structure) -> tuple[nn.Module, ImageData, nn.Module]:
        """Give a candidate before its training, with its images and its teacher."""
        own, data = self.data, self._data_at(structure.resolution)
        teacher = TeacherNetwork(self.master_net, own.resolution, own.mean, own.std, data)
        return self.start(structure, data), data, teacher.to(self.job.device)

    def start(self, structure: Structure, data: ImageData) -> nn.Module:
        """Build a candidate with fresh or inherited weights."""
        job = self.job
        with seeded_globals("final", job.seed):
            net = build(structure, data.num_classes)
        if job.trial_weights is None:
            return net
        starts = [net]
        if self.larger_channels is not None:
            starts.append(copy.deepcopy(net))
            inherit(starts[1], structure, self.larger_channels)
        assemble(net, structure, self.source_channels, job.trials, job.trial_weights)
        for start in starts:
            start.to(job.device)
            estimate_norm_statistics(start, data.train, job.recipe, seed=job.seed)
        if len(starts) == 1:
            return net
        return min(
            starts,
            key=lambda start: evaluate(start, data.validation, device=job.device).cross_entropy,
        )

    @cached_property
    def source_channels(self) -> MasterChannels:
        """The channels of the MasterNet of the round."""
        job = self.job
        if job.source == job.master:
            return self.channels
        return self._load_channels(job.source, job.source_weights)

    @cached_property
    def larger_channels(self) -> MasterChannels | None:
        """The channels of the winner of a larger budget, if there is one."""
        return None if self.job.larger is None else self._load_channels(*self.job.larger)

    def _load_channels(self, structure: Structure, weights: Path) -> MasterChannels:
        net = build(structure, self.data.num_classes)
        load_weights(net, weights)
        return MasterChannels(net.eval(), structure)

    def _data_at(self, resolution: int) -> ImageData:
        if resolution == self.data.resolution:
            return self.data
        if self._other_data is None or self._other_data.resolution != resolution:
            self._other_data = None  # its images and its reading processes are released first
            self._other_data = self.job.load_data(resolution)
        return self._other_data
