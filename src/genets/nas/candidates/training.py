"""Confirmation: candidates are trained as the winner will be, and scored on validation images.

A linear model of trials holds near the MasterNet only, and of many structures the best predicted
is one whose error is likely upward. So the best few are trained from scratch by the final
recipe, at its full length or a shorter one. Weights inherited from the MasterNet would be
cheaper, but they favour what has kept its block types; `docs/search.md` has figures.

The phase that trains the candidates of a search and chooses the winner among them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genets.core.errors import GenetsError, TrainingError
from genets.data import ImageData, load_data
from genets.data.seeds import seed_of, seeded_globals
from genets.nas.context import SearchContext
from genets.nas.round import CONFIRMED, file_of
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.nas.trials.workers import EXECUTORS, device_of, use_device
from genets.networks import build, load_blocks, load_weights, save_weights
from genets.networks.own_blocks import where_loaded
from genets.structure import Structure
from genets.training import Recipe, Score, evaluate, fitting_threads, train
from genets.training.score import Metric, score_value
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

    def run(self, group: Sequence[Structure]) -> list[TrainedCandidate]:
        """Train and score each. One whose loss becomes NaN, or for which memory runs out, is a
        failed one. Raises DataError, and GenetsError where weights cannot be written.
        """
        return [self._confirmed(structure) for structure in group]

    def _confirmed(self, structure: Structure) -> TrainedCandidate:
        start = time.perf_counter()
        epochs = self.job.recipe.epochs
        try:
            score = self._trained_score(structure)
        except (TrainingError, torch.OutOfMemoryError, MemoryError) as error:
            seconds = time.perf_counter() - start
            reason = str(error).partition("\n")[0] or type(error).__name__
            return TrainedCandidate(structure, "failed", epochs, seconds=seconds, reason=reason)
        seconds = time.perf_counter() - start
        return TrainedCandidate(structure, "done", epochs, score.top1, score.cross_entropy, seconds)

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


def confirm(session: SearchContext, candidates: Sequence[Candidate]) -> list[TrainedCandidate]:
    """The candidates' scores, in their order; those that no round has trained yet are trained.

    Each is recorded as it ends. Failed ones are tried again, until one of the round was chosen.
    Raises GenetsError where all of them failed.
    """
    number = session.round.number
    structures = [candidate.structure for candidate in candidates]
    known = {one.structure: one for one in confirmations_before(session, number)}
    known |= {one.structure: one for one in stored_confirmations(session)}
    retried = not session.study.is_decided(number)
    missing = [s for s in structures if s not in known or (retried and known[s].status != "done")]
    if missing:
        with session.phase("confirmation"):
            _train(session, structures, missing, known)
    elif [one.structure for one in stored_confirmations(session)] != structures:
        # All were trained in rounds before, or before there were more trials.
        _save(session, structures, known)
    confirmed = [known[structure] for structure in structures]
    if all(one.status == "failed" for one in confirmed):
        raise GenetsError(
            f"all {len(confirmed)} candidates failed while they were confirmed "
            f"({confirmed[0].reason}); give the same command again to retry them, or begin "
            "another study with other settings of final_training"
        )
    return confirmed


def stored_confirmations(
    session: SearchContext, number: int | None = None
) -> list[TrainedCandidate]:
    """Those of a round, by default of the one at work."""
    name = file_of(number or session.round.number, CONFIRMED)
    read = session.study.load_json(name, lambda rows: [TrainedCandidate.from_json(r) for r in rows])
    return read or []


def confirmations_before(session: SearchContext, number: int) -> list[TrainedCandidate]:
    """Those of all rounds before one that did not fail, each structure once."""
    found = {
        one.structure: one
        for earlier in range(1, number)
        for one in stored_confirmations(session, earlier)
        if one.status == "done"
    }
    return list(found.values())


def _save(
    session: SearchContext,
    structures: Sequence[Structure],
    known: Mapping[Structure, TrainedCandidate],
) -> None:
    rows = [known[structure].to_json() for structure in structures if structure in known]
    session.study.save_json(session.round.file(CONFIRMED), rows)


def _train(
    session: SearchContext,
    structures: Sequence[Structure],
    missing: Sequence[Structure],
    known: dict[Structure, TrainedCandidate],
) -> None:
    tell, done = session.tell("confirmation"), len(structures) - len(missing)
    tell(done, len(structures))
    job = confirm_job(session)
    job.folder.mkdir(exist_ok=True)
    for one in EXECUTORS["inline"](job, [(structure,) for structure in missing], session.workers):
        known[one.structure] = one
        _save(session, structures, known)
        done += 1
        tell(done, len(structures), str(one.structure))


def confirm_job(session: SearchContext) -> ConfirmJob:
    """What trains the candidates: the final recipe, or a shortened one."""
    settings = session.settings
    recipe, epochs = settings.final_training.recipe(), settings.confirm_epochs
    if epochs < recipe.epochs:
        warmup = min(recipe.warmup_epochs, epochs / 2)
        recipe = replace(recipe, epochs=epochs, warmup_epochs=warmup)
    return ConfirmJob(
        master=session.master,
        master_weights=session.study.master_weights,
        data=settings.data,
        recipe=recipe,
        seed=settings.seed,
        folder=session.study.confirmed_folder,
        device=session.device,
        readers=session.readers,
        own_blocks=where_loaded(settings.own_blocks),
    )


def best_confirmed(confirmed: Sequence[TrainedCandidate], metric: Metric) -> Structure:
    """The one with the best score; of equal ones the first, the better predicted."""

    def value(one: TrainedCandidate) -> float:
        score = score_value(one, metric)
        assert score is not None
        return metric.oriented(score)

    return max((one for one in confirmed if one.status == "done"), key=value).structure
