"""Trials: perturbed super-blocks are fine-tuned in the MasterNet (section 4.2, Distillation)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from timm.models.byobnet import ByobNet
from torch import nn

from genets.core.errors import TrainingError, first_line, is_out_of_memory
from genets.core.image_facts import Preprocessing
from genets.core.log import get_logger
from genets.data import MAX_BROKEN_SHARE, ImageData
from genets.data.seeds import seeded_globals
from genets.data.split import Fold
from genets.nas.context import SearchContext
from genets.nas.study import layout
from genets.nas.study.images import StudyImages
from genets.nas.study.records import Trial, TrialResult
from genets.nas.trials.folds import run_in_folds
from genets.nas.workers.devices import assign_device, check_memory, use_device
from genets.nas.workers.files import ROOT, read_files, scratch_path
from genets.nas.workers.images import load_worker_images
from genets.nas.workers.job import Runner
from genets.networks import build, load_blocks, load_weights
from genets.networks.channels import MasterChannels
from genets.networks.own_blocks import loaded_block_files, move_block_file
from genets.networks.surgery import inherit_weights, split_at
from genets.networks.weights import write_weights
from genets.structure import Structure
from genets.training import (
    FeatureSplit,
    Recipe,
    evaluate,
    fitting_threads,
    train_together,
)
from genets.training.resources import failure_reason

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MasterNetJob:
    """The common inputs of trainings with one MasterNet; small enough to be sent to a worker.

    Attributes:
        master: The MasterNet.
        master_weights: The file of its weights.
        data: The data set; see `load_data`.
        recipe: How each network is trained.
        seed: The seed of the study.
        device: The device that trains.
        readers: The number of processes that read images for each worker; with 0 a worker reads
            them itself.
        own_blocks: Files with block types of the user's own.
        max_broken_share: The largest share of broken images that is no error.
        preprocessing: How images become inputs; None for the default.
        folds: The number of folds for cross-validation; 1 is none. The files of the job are those
            of the whole training split; see `each_fold`.
        fold: The fold that this job is for; None for the usual splits.
        images: The images of the study; a runner refuses other ones. None checks nothing.
    """

    master: Structure
    master_weights: Path
    data: str
    recipe: Recipe
    seed: int
    device: str = "cpu"
    readers: int = 0
    own_blocks: tuple[str, ...] = ()
    max_broken_share: float = MAX_BROKEN_SHARE
    preprocessing: Preprocessing | None = None
    folds: int = 1
    fold: Fold | None = None
    images: StudyImages | None = None

    @property
    def precision(self) -> str:
        """The precision of the trainings."""
        return self.recipe.precision

    @property
    def key(self) -> str:
        """See `workers.job.Job`."""
        return repr(replace(self.elsewhere(ROOT), readers=0))  # with real paths

    @classmethod
    def in_context(cls, context: SearchContext, **values: Any) -> Self:
        """Make the job of a search; `values` are the other fields."""
        settings = context.settings
        return cls(
            data=settings.data,
            seed=settings.seed,
            device=context.device,
            readers=context.workers.readers,
            own_blocks=loaded_block_files(settings.own_blocks),
            max_broken_share=settings.max_broken_share,
            preprocessing=context.preprocessing,
            folds=settings.num_folds,
            images=context.study.load_json(layout.DATA, StudyImages.from_record),
            **values,
        )

    def at_worker(self, worker: int) -> Self:
        """Give the same job on the device of a worker."""
        return replace(self, device=assign_device(worker, self.device))

    def each_fold(self) -> list[Self]:
        """Give the job of each fold; without cross-validation, the job itself."""
        if self.folds == 1:
            return [self]
        return [self.in_fold(Fold(number, self.folds)) for number in range(self.folds)]

    def in_fold(self, fold: Fold) -> Self:
        """Give the job with the images and the files of one fold."""
        return replace(
            self,
            folds=1,
            fold=fold,
            master_weights=layout.in_fold(self.master_weights, fold.number),
            readers=self.readers // fold.count,  # those of all folds stay alive side by side
        )

    def load_data(self, resolution: int) -> ImageData:
        """Load the images of the job at a resolution, as a worker reads them."""
        return load_worker_images(
            self.data,
            resolution,
            self.recipe,
            seed=self.seed,
            device=self.device,
            workers=self.readers,
            max_broken_share=self.max_broken_share,
            preprocessing=self.preprocessing,
            fold=self.fold,
        )

    def inputs(self, items: Sequence[Any]) -> dict[Path, bytes]:
        """See `workers.job.Job`."""
        blocks = [load_blocks(file) for file in self.own_blocks]
        weights = read_files(job.master_weights for job in self.each_fold())
        return weights | {_place(ROOT, block.path): block.content for block in blocks}

    def elsewhere(self, scratch: Path) -> Self:
        """See `workers.job.Job`. The number of a GPU belongs to the machine of the driver."""
        blocks = (move_block_file(file, partial(_place, scratch)) for file in self.own_blocks)
        return replace(
            self,
            master_weights=scratch_path(scratch, self.master_weights),
            device=self.device.partition(":")[0],
            own_blocks=tuple(blocks),
        )

    def with_data(self, data: str) -> Self:
        """See `workers.job.Job`."""
        return replace(self, data=data)

    def store(self, path: Path, content: bytes) -> None:
        """See `workers.job.Job`."""
        write_weights(path, content)

    def progress(self, item: Any) -> int:
        """See `workers.job.Job`. A trial begins again."""
        return 0


def _place(scratch: Path, block_file: Path) -> Path:
    """See `scratch_path`. The name stays, because a symbolic link may have another suffix."""
    return scratch_path(scratch, block_file.parent) / block_file.name


OwnJob = TypeVar("OwnJob", bound=MasterNetJob)


class MasterNetRunner(Generic[OwnJob]):
    """Holds the images and the trained MasterNet that all trainings of a job share."""

    def __init__(self, job: OwnJob) -> None:
        self.job = job
        for file in job.own_blocks:  # another process does not know these block types
            load_blocks(file)
        use_device(job.device)
        check_memory(job.device)
        self.data = job.load_data(job.master.resolution)
        if job.images is not None:
            job.images.check(self.data, in_fold=job.fold is not None)
        self.master_net = build(job.master, self.data.num_classes)
        load_weights(self.master_net, job.master_weights)
        self.master_net.to(job.device)
        self.master_net.to(memory_format=torch.channels_last)
        self.master_net.eval()

    @cached_property
    def channels(self) -> MasterChannels:
        """The channels of the MasterNet, whose weights other networks inherit."""
        return MasterChannels(self.master_net, self.job.master)


class BaseTrialJob(MasterNetJob):
    """A job whose items are trials."""

    @property
    def result_type(self) -> type[TrialResult]:
        """See `workers.job.Job`."""
        return TrialResult

    def failed(self, trial: Trial, reason: str) -> TrialResult:
        """See `workers.job.Job`."""
        return TrialResult(trial, "failed", reason=reason)


@dataclass(frozen=True, kw_only=True)
class TrialJob(BaseTrialJob):
    """The common inputs of the trials of a round.

    Initial weights derive from the seed of the study and from the trial's key; the images and
    their order are the same for every trial.

    Attributes:
        thaw: `after` trains the new super-block and all stages that follow; the frozen stages
            before are computed once per batch for the whole group. `block` freezes the stages
            that follow as well. `all` trains everything.
    """

    thaw: str

    def runner(self, worker: int = 0) -> Runner[Trial, TrialResult]:
        return run_in_folds(self.at_worker(worker), TrialRunner)


class TrialGroups(MasterNetRunner[OwnJob], ABC):
    """Runs groups of trials of one round; a group without enough memory is halved."""

    @abstractmethod
    def _run(self, group: Sequence[Trial]) -> list[TrialResult]:
        """Train and score trials of one stage."""

    def run(self, group: Sequence[Trial]) -> list[TrialResult]:
        """Train and score trials of one stage; each batch is read once for all of them.

        A trial fails whose loss becomes NaN, or for which memory runs out when it runs alone.

        Raises:
            DataError: An image cannot be read. The trials are not at fault, so nothing is
                recorded, and a resumed study runs them again.
        """
        assert len({trial.index for trial in group}) == 1
        start = time.perf_counter()
        outcomes: list[TrialResult] | None = None
        try:
            resolution, recipe = self.job.master.resolution, self.job.recipe
            with fitting_threads(self.master_net, resolution, recipe.batch_size):
                outcomes = self._run(group)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(group) == 1:
                reason = failure_reason(error)
                outcomes = [TrialResult(group[0], "failed", reason=reason, lacks_memory=True)]
        if outcomes is None:  # outside the handler, whose traceback keeps tensors in memory
            torch.cuda.empty_cache()
            half = len(group) // 2
            return [*self.run(group[:half]), *self.run(group[half:])]
        seconds = (time.perf_counter() - start) / len(group)
        return [replace(outcome, seconds=seconds) for outcome in outcomes]


class TrialRunner(TrialGroups[TrialJob]):
    """Fine-tunes groups of trials with fresh super-blocks."""

    def _run(self, group: Sequence[Trial]) -> list[TrialResult]:
        job, index = self.job, group[0].index
        shared, teacher = self._split(self.master_net, index)
        students = [self._student(trial) for trial in group]
        training = FeatureSplit(self.data.train, shared, job.device, job.recipe.precision)
        validation = FeatureSplit(self.data.validation, shared, job.device)
        faults = train_together(
            students,
            training,
            job.recipe,
            seed=job.seed,
            teacher=teacher,
            device=job.device,
            num_classes=self.data.num_classes,
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
        """Split a network into its frozen part, which trials share, and its trained part."""
        return (nn.Identity(), net) if self.job.thaw == "all" else split_at(net, index)

    def _score(
        self,
        trial: Trial,
        student: nn.Module,
        fault: TrainingError | None,
        validation: FeatureSplit,
    ) -> TrialResult:
        try:
            if fault is not None:
                raise fault
            score = evaluate(student, validation, device=self.job.device)
        except TrainingError as error:
            return TrialResult(trial, "failed", reason=first_line(error))
        return TrialResult.of(trial, score)
