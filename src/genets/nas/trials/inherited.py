"""Trials that inherit: a super-block learns the feature maps of the one that it replaces.

The super-block starts with weights of the MasterNet, and is trained against the feature maps of
the MasterNet's own super-block. The MasterNet with the trained super-block in it is scored as it
is. No label is used before the score, and the rest of the network is not trained, so a trial
costs a fraction of a fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from timm.models.byobnet import ByobNet

from genets.core.errors import TrainingError, first_line
from genets.data import steps_per_epoch
from genets.data.seeds import seeded_globals
from genets.data.split import Fold
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.folds import run_in_folds
from genets.nas.trials.runner import BaseTrialJob, TrialGroups
from genets.nas.trials.weights import TrialWeights
from genets.nas.workers.files import ROOT
from genets.nas.workers.job import Runner
from genets.networks import build
from genets.networks.inheritance import inherit
from genets.networks.surgery import split_at, stage_of
from genets.training import FeatureSplit, evaluate
from genets.training.feature_matching import Learner, match_features


@dataclass(frozen=True, kw_only=True)
class InheritedTrialJob(BaseTrialJob):
    """The common inputs of the trials of a round whose super-blocks inherit weights.

    Of the recipe, only batch size, precision and augmentation count.

    Attributes:
        steps: The least number of training steps; an epoch is completed.
        kept: Stores the trained super-blocks.
    """

    steps: int
    kept: TrialWeights

    def in_fold(self, fold: Fold) -> Self:
        """See `MasterNetJob.in_fold`."""
        return replace(super().in_fold(fold), kept=self.kept.in_fold(fold))

    def runner(self, worker: int = 0) -> Runner[Trial, TrialResult]:
        return run_in_folds(self.at_worker(worker), InheritedTrialRunner)

    def elsewhere(self, scratch: Path) -> Self:
        """See `workers.job.Job`."""
        return replace(super().elsewhere(scratch), kept=self.kept.elsewhere(scratch))

    def store(self, path: Path, content: bytes) -> None:
        """See `workers.job.Job`. Weights that cannot be written cost no result."""
        folders = {job.kept.elsewhere(ROOT).folder: job.kept for job in self.each_fold()}
        folders[path.parent].store(path.name, content)


class InheritedTrialRunner(TrialGroups[InheritedTrialJob]):
    """Runs groups of trials of one round; see `TrialRunner`."""

    def _run(self, group: Sequence[Trial]) -> list[TrialResult]:
        job, index = self.job, group[0].index
        before, _ = split_at(self.master_net, index)
        training = FeatureSplit(self.data.train, before, job.device, job.recipe.precision)
        validation = FeatureSplit(self.data.validation, before, job.device)
        nets = [self._network(trial) for trial in group]
        faults = match_features(
            [self._learner(trial, net) for trial, net in zip(group, nets, strict=True)],
            stage_of(self.master_net, index),
            training,
            epochs=-(-job.steps // steps_per_epoch(len(training), job.recipe.batch_size)),
            batch_size=job.recipe.batch_size,
            seed=job.seed,
            precision=job.recipe.precision,
            device=job.device,
        )
        return [
            self._finish(trial, net, fault, validation)
            for trial, net, fault in zip(group, nets, faults, strict=True)
        ]

    def _network(self, trial: Trial) -> ByobNet:
        """The MasterNet with the super-block of a trial, all with inherited weights."""
        structure = trial.structure(self.job.master)
        with seeded_globals("trial", self.job.seed, trial.index, str(trial.super_block),
                            trial.repeat):  # fmt: skip
            net = build(structure, self.data.num_classes)
        inherit(net, structure, self.channels)
        return net.to(self.job.device).eval()

    def _learner(self, trial: Trial, net: ByobNet) -> Learner:
        """The super-block learns those of the MasterNet's channels that it has."""
        numbers = self.channels.of_stage(trial.index, trial.super_block.width)
        known = numbers < self.job.master.stage(trial.index).width
        return Learner(stage_of(net, trial.index), numbers[known], known.nonzero()[:, 0])

    def _finish(
        self, trial: Trial, net: ByobNet, fault: TrainingError | None, validation: FeatureSplit
    ) -> TrialResult:
        """Store the weights of a super-block, and score the network with it."""
        try:
            if fault is not None:
                raise fault
            self.job.kept.save(trial, stage_of(net, trial.index))
            score = evaluate(split_at(net, trial.index)[1], validation, device=self.job.device)
        except TrainingError as error:
            return TrialResult(trial, "failed", reason=first_line(error))
        return TrialResult.of(trial, score)
