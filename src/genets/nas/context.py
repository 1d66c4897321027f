"""What the phases of a search share: the study, the data, the device, and who is told."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from genets.core.errors import TrainingError
from genets.data import ImageData
from genets.data.seeds import seeded_globals
from genets.nas.events import Event
from genets.nas.round import Round
from genets.nas.study.study import Study
from genets.nas.trials.workers import fitting_readers, fitting_workers, training_device
from genets.networks import build
from genets.structure import Structure
from genets.training import Recipe, fitting_threads, train

if TYPE_CHECKING:
    from torch import nn

OnEvent = Callable[[Event], None]


class Tell(Protocol):
    """Reports progress of one phase."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


class SearchContext:
    """An open study at work.

    master, around: of the first round, to which the budget, the latency table and the space
        belong. round: the one at work, with a MasterNet and choices of trials of its own.
    workers: processes for trials; None means as many as `fitting_workers` says.
    readers: processes that read images, for each of these.
    seconds: wall time of each phase, over all runs of the study.
    """

    def __init__(
        self,
        study: Study,
        num_classes: int,
        *,
        workers: int | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.study = study
        self.num_classes = num_classes
        self.settings = study.settings
        self.master = self.settings.structure
        self.around = self.settings.space.design_space().around(self.master)
        self.device = training_device(self.settings.training_device)
        self.workers = workers or fitting_workers(self.device)
        self.readers = fitting_readers(self.workers, self.device)
        self.seconds: dict[str, float] = study.load_json("seconds", dict) or {}
        self.round = Round(1, self.around, study.master_weights)
        self._on_event = on_event

    def in_round(self, there: Round) -> SearchContext:
        """The same session at work in another round."""
        session = copy.copy(self)
        session.round = there
        return session

    def tell(self, phase: str) -> Tell:
        """What to call with the progress of a phase."""
        name = self.round.phase(phase)

        def tell(done: int, total: int, detail: str = "") -> None:
            if self._on_event is not None:
                self._on_event(Event(name, done, total, detail))

        return tell

    @contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Adds the time of the block to the phase's."""
        start, name = time.perf_counter(), self.round.phase(phase)
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.study.save_json("seconds", self.seconds)

    def fresh_network(self, structure: Structure, purpose: str) -> nn.Module:
        """A network whose initial weights depend on the seed and the purpose alone."""
        with seeded_globals(purpose, self.settings.seed):
            net = build(structure, self.num_classes)
        return net.to(self.device).eval()

    def train(
        self,
        net: nn.Module,
        data: ImageData,
        recipe: Recipe,
        phase: str,
        teacher: nn.Module | None = None,
    ) -> None:
        """Train on the training split, telling each epoch.

        Raises TrainingError, also where memory runs out.
        """
        tell = self.tell(phase)
        tell(0, recipe.epochs)
        memory = _explained_memory(recipe.batch_size)
        threads = fitting_threads(net, data.resolution, recipe.batch_size, reading=data.reading)
        with memory, threads:
            train(
                net,
                data.train,
                recipe,
                seed=self.settings.seed,
                teacher=teacher,
                on_epoch=lambda epoch, loss: tell(epoch + 1, recipe.epochs, f"loss {loss:.3f}"),
                device=self.device,
            )


@contextmanager
def _explained_memory(batch_size: int) -> Iterator[None]:
    """Turns a lack of memory into one sentence."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"memory ran out while training with {batch_size} images in a batch; "
            "take a smaller batch_size, in another study folder"
        ) from error
