"""Confirmation: candidates are trained as the winner will be, and scored on validation images.

A linear model of trials holds near the MasterNet only, and of many structures the best predicted
is one whose error is likely upward. So the best few are trained from scratch by the final
recipe, at its full length or a shorter one. Weights inherited from the MasterNet would be
cheaper, but they favour what has kept its block types; `docs/search.md` has figures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genets.core.errors import TrainingError
from genets.data import ImageData, load_data
from genets.data.seeds import seed_of, seeded_globals
from genets.nas.study.records import Confirmed
from genets.nas.trials.training_device import device_of, use_device
from genets.networks import build, load_blocks, load_weights, save_weights
from genets.structure import Structure
from genets.training import Recipe, Score, evaluate, fitting_threads, train
from genets.training.teacher import TeacherNetwork


@dataclass(frozen=True)
class ConfirmJob:
    """All that a candidate's score depends on besides its structure.

    folder: where the trained weights are left, see `weights_of`.
    seed: of the study. A candidate trained as long as the winner gets the winner's weights.
    readers: processes that read images for each that trains; none: it reads by itself.
    own_blocks: files of block types of the user's own.
    """

    master: Structure
    master_weights: Path
    data: str
    recipe: Recipe
    seed: int
    folder: Path
    device: str = "cpu"
    readers: int = 0
    own_blocks: tuple[str, ...] = ()

    def runner(self, worker: int = 0) -> ConfirmRunner:
        return ConfirmRunner(replace(self, device=device_of(worker, self.device)))

    def weights_of(self, structure: Structure) -> Path:
        return self.folder / f"{seed_of(str(structure)):016x}.safetensors"


class ConfirmRunner:
    """Trains candidates of one study; holds what they share."""

    def __init__(self, job: ConfirmJob) -> None:
        self.job = job
        for file in job.own_blocks:  # another process does not know these block types
            load_blocks(file)
        use_device(job.device)
        self._data: dict[int, ImageData] = {}
        own = self.data_at(job.master.resolution)
        self.master_net = build(job.master, own.num_classes)
        load_weights(self.master_net, job.master_weights)
        self.master_net.to(job.device)
        self.master_net.to(memory_format=torch.channels_last)

    def data_at(self, resolution: int) -> ImageData:
        job, own = self.job, self.job.master.resolution
        if resolution not in self._data:
            # Those of other candidates are let go, and with them who reads them.
            self._data = {pixels: data for pixels, data in self._data.items() if pixels == own}
            self._data[resolution] = load_data(
                job.data,
                resolution,
                seed=job.seed,
                device=job.device,
                workers=job.readers,
                check=False,
            )
        return self._data[resolution]

    def run(self, group: Sequence[Structure]) -> list[Confirmed]:
        """Train and score each. One whose loss becomes NaN, or for which memory runs out, is a
        failed one. Raises DataError, and GenetsError where weights cannot be written.
        """
        return [self._confirmed(structure) for structure in group]

    def _confirmed(self, structure: Structure) -> Confirmed:
        start = time.perf_counter()
        epochs = self.job.recipe.epochs
        try:
            score = self._trained_score(structure)
        except (TrainingError, torch.OutOfMemoryError, MemoryError) as error:
            seconds = time.perf_counter() - start
            reason = str(error).partition("\n")[0] or type(error).__name__
            return Confirmed(structure, "failed", epochs, seconds=seconds, reason=reason)
        seconds = time.perf_counter() - start
        return Confirmed(structure, "done", epochs, score.top1, score.cross_entropy, seconds)

    def _trained_score(self, structure: Structure) -> Score:
        job, data = self.job, self.data_at(structure.resolution)
        own = self.data_at(job.master.resolution)
        teacher = TeacherNetwork(self.master_net, own.resolution, own.mean, own.std, data)
        with seeded_globals("final", job.seed):
            net = build(structure, data.num_classes)
        with fitting_threads(net, structure.resolution, job.recipe.batch_size):
            train(
                net,
                data.train,
                job.recipe,
                seed=job.seed,
                teacher=teacher.to(job.device),
                device=job.device,
            )
        score = evaluate(net, data.validation, device=job.device)
        save_weights(net, job.weights_of(structure), {"structure": str(structure)})
        return score
