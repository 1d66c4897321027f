"""Fine-tuning perturbed super-blocks inside the MasterNet (section 4.2, Distillation)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from timm.models.byobnet import ByobNet
from torch import nn

from genets.core.errors import TrainingError
from genets.data import ImageData, load_data
from genets.data.seeds import seeded_globals
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.workers import device_of, use_device
from genets.networks import build, load_blocks, load_weights
from genets.networks.surgery import inherit_weights, split_at
from genets.structure import Structure
from genets.training import FeatureSplit, Recipe, evaluate, fitting_threads, train_together


@dataclass(frozen=True)
class TrialJob:
    """All that a trial depends on besides its key; small enough to be sent to a worker.

    thaw: `after` trains the new super-block and all that follows it, and computes what comes
        before, which is frozen, once per batch for the whole group; `block` freezes what
        follows as well; `all` trains everything.
    readers: processes that read images for each that trains; none: it reads by itself.
    own_blocks: files of block types of the user's own.
    seed: of the study. Initial weights derive from it and from the trial's key; the images
        and their order are the same for every trial.
    """

    master: Structure
    master_weights: Path
    data: str
    recipe: Recipe
    thaw: str
    seed: int
    device: str = "cpu"
    readers: int = 0
    own_blocks: tuple[str, ...] = ()

    def runner(self, worker: int = 0) -> TrialRunner:
        return TrialRunner(replace(self, device=device_of(worker, self.device)))


class TrialRunner:
    """Runs groups of trials of one study; holds what they share."""

    def __init__(self, job: TrialJob) -> None:
        self.job = job
        for file in job.own_blocks:  # another process does not know these block types
            load_blocks(file)
        use_device(job.device)
        self.data: ImageData = load_data(
            job.data,
            job.master.resolution,
            seed=job.seed,
            device=job.device,
            workers=job.readers,
            check=False,
        )
        self.master_net = build(job.master, self.data.num_classes)
        load_weights(self.master_net, job.master_weights)
        self.master_net.to(job.device)
        self.master_net.to(memory_format=torch.channels_last)
        self.master_net.eval()

    def run(self, group: Sequence[Trial]) -> list[TrialResult]:
        """Fine-tune and score trials of one stage, reading each batch once for all.

        A trial whose loss becomes NaN, or for which alone memory runs out, is a failed one.
        Raises DataError: the fault is not the trial's, and a resumed study runs it again.
        """
        start = time.perf_counter()
        job = self.job
        try:
            with fitting_threads(self.master_net, job.master.resolution, job.recipe.batch_size):
                outcomes = self._run(group)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(group) > 1:
                return [result for trial in group for result in self.run([trial])]
            outcomes = [TrialResult(trial, "failed", reason=_reason(error)) for trial in group]
        seconds = (time.perf_counter() - start) / len(group)
        return [
            TrialResult(r.trial, r.status, r.top1, r.cross_entropy, seconds, r.reason)
            for r in outcomes
        ]

    def _run(self, group: Sequence[Trial]) -> list[TrialResult]:
        job, index = self.job, group[0].index
        assert all(trial.index == index for trial in group)
        shared, teacher = self._split(self.master_net, index)
        students = [self._student(trial) for trial in group]
        training = FeatureSplit(self.data.train, shared, job.device)
        validation = FeatureSplit(self.data.validation, shared, job.device)
        faults = train_together(
            students, training, job.recipe, seed=job.seed, teacher=teacher, device=job.device
        )
        return [
            self._score(trial, student, fault, validation)
            for trial, student, fault in zip(group, students, faults, strict=True)
        ]

    def _student(self, trial: Trial) -> nn.Module:
        key = (self.job.seed, trial.index, str(trial.super_block), trial.repeat)
        with seeded_globals("trial", *key):
            net = build(trial.structure(self.job.master), self.data.num_classes)
        inherit_weights(net, self.master_net, fresh_stages={trial.index})
        student = self._split(net, trial.index)[1]
        if self.job.thaw == "block":
            assert isinstance(student, nn.Sequential)
            student[1:].requires_grad_(False)
        return student

    def _split(self, net: ByobNet, index: int) -> tuple[nn.Module, nn.Module]:
        """What is frozen and shared, and what is trained."""
        return (nn.Identity(), net) if self.job.thaw == "all" else split_at(net, index)

    def _score(
        self,
        trial: Trial,
        student: nn.Module,
        fault: TrainingError | None,
        validation: FeatureSplit,
    ) -> TrialResult:
        if fault is not None:
            return TrialResult(trial, "failed", reason=_reason(fault))
        try:
            score = evaluate(student, validation, device=self.job.device)
        except TrainingError as error:
            return TrialResult(trial, "failed", reason=_reason(error))
        return TrialResult(trial, "done", score.top1, score.cross_entropy)


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0][:500] if str(error) else type(error).__name__
