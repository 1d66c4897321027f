"""The search from end to end: its phases in order, each stored in the study as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from genets.data import ImageData, load_data
from genets.data.seeds import seeded_globals
from genets.errors import GenetsError
from genets.latency import Budget, LatencyTable, Target
from genets.latency.table_file import TableSettings
from genets.latency.target import physical_cores
from genets.nas.chain import Frontier
from genets.nas.events import Event
from genets.nas.executors import EXECUTORS
from genets.nas.fine_tuning import TrialJob
from genets.nas.hand_over import hand_over
from genets.nas.measured import MeasuredNetworks
from genets.nas.planning import group_trials, plan_trials
from genets.nas.promise import chain_of, check_feasible, keep_promise
from genets.nas.regression import AccuracyModel
from genets.nas.result import SearchResult, Selected
from genets.nas.selection import frontier, random_selection
from genets.nas.settings import SearchSettings
from genets.nas.study import Study
from genets.nas.trial import Trial, TrialResult
from genets.networks import build, load_weights, save_weights
from genets.structure import Structure, format_super_block
from genets.training import Recipe, Score, evaluate, fitting_threads, train

if TYPE_CHECKING:
    from torch import nn

OnEvent = Callable[[Event], None]


class Tell(Protocol):
    """Reports progress of one phase."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


RANDOM_SAMPLES = 100_000  # structures drawn by --selection random


def search(
    settings: SearchSettings,
    out: str | Path,
    *,
    workers: int | None = None,
    on_event: OnEvent | None = None,
) -> SearchResult:
    """Find, train, measure and hand over the best network within the budget.

    out: the study's folder; one that was interrupted goes on where it stopped.
    workers: processes for trials; None means one for each core on a CPU, one on a GPU.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    # Before the folder is made, so that a wrong name does not leave a study behind.
    settings.target.check()
    data = _load_data(settings)
    with Study.create_or_resume(out, settings) as study:
        return _Search(study, data, workers, on_event or _ignore).run()


def select(
    folder: str | Path,
    budget: str,
    *,
    target: Target | None = None,
    on_event: OnEvent | None = None,
) -> Selected:
    """Another budget or target from the trials of a study, without any training.

    A relative budget such as 0.5x is relative to the MasterNet on that target.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    with Study.open(folder) as study:
        run = _Search(study, _load_data(study.settings), 1, on_event or _ignore)
        return run.select(Budget.parse(budget), (target or study.settings.target).resolved())


def _ignore(event: Event) -> None:
    pass


def _load_data(settings: SearchSettings) -> ImageData:
    return load_data(settings.data, settings.resolution, seed=settings.seed)


class _Search:
    """One run over a study; each method is a phase, or gives what a phase has stored."""

    def __init__(
        self, study: Study, data: ImageData, workers: int | None, on_event: OnEvent
    ) -> None:
        self.study = study
        self.data = data
        self.settings = study.settings
        self.master = self.settings.structure
        self.around = self.settings.space.design_space().around(self.master)
        self.device = _training_device(self.settings.training_device)
        # Small networks train faster in two processes of one thread than in one of two.
        self.workers = workers or (physical_cores() if self.device == "cpu" else 1)
        self.on_event = on_event
        self.seconds: dict[str, float] = {}

    def run(self) -> SearchResult:
        target = self.settings.target
        table, measured = self.latency(target)
        budget_ms = self.budget_ms(Budget.parse(self.settings.budget), measured)
        check_feasible(self.around, budget_ms, table, measured.measure)
        master_net, master_score = self.master_network()
        results = self.trials()
        model = self.accuracy_model(results, master_score)
        selected = self.selected(budget_ms, table, measured, model)
        winner_net = self.final_network(selected.structure, master_net)
        with self._phase("hand-over"):
            tell = self._tell("hand-over")
            tell(0, 1)
            result = SearchResult(
                selected=selected,
                master=_scores(evaluate(master_net, self.data.test, device=self.device)),
                winner=_scores(evaluate(winner_net, self.data.test, device=self.device)),
                master_measured_ms=measured[self.master].ms_per_image,
                trials_done=sum(r.status == "done" for r in results),
                trials_failed=sum(r.status == "failed" for r in results),
                folder=self.study.folder,
                files={},
                seconds=self.seconds,
                warnings=tuple(model.warnings()),
            )
            result = hand_over(result, winner_net, self.data)
            tell(1, 1)
            return result

    def select(self, budget: Budget, target: Target) -> Selected:
        target.check()
        results = self.study.results()
        score = self.study.load_json("master")
        if not results or score is None:
            raise GenetsError(f"study {self.study.folder} has no trials yet; run its search first")
        table, measured = self.latency(target)
        model = self.accuracy_model(results, Score(**score))
        return self.promise(self.budget_ms(budget, measured), table, measured, model)

    # Phases. Each gives what is stored, or makes and stores it.

    def master_network(self) -> tuple[nn.Module, Score]:
        """The trained MasterNet, and its score on the validation split."""
        net = self._fresh_network(self.master, "master")
        stored = self.study.load_json("master")
        if stored is not None:
            load_weights(net, self.study.master_weights)
            return net, Score(**stored)
        recipe = self.settings.master_training.recipe()
        with self._phase("MasterNet training"):
            self._train(net, recipe, "MasterNet training")
            score = evaluate(net, self.data.validation, device=self.device)
            _check_learned(score, self.data.num_classes)
            save_weights(net, self.study.master_weights, {"structure": str(self.master)})
            self.study.save_json("master", _scores(score) | {"images": score.images})
        return net, score

    def latency(self, target: Target) -> tuple[LatencyTable, MeasuredNetworks]:
        """The latency table of a target, and the networks measured on it so far."""
        path = self.study.latency_folder / f"{target.name}.json"
        measured = MeasuredNetworks(
            self.study.latency_folder / f"{target.name}-measured.json",
            target,
            self.data.num_classes,
            self.settings.measure_seconds,
        )
        with self._phase("latency table"):
            if path.exists():
                expected = TableSettings(self.around, target, self.data.num_classes)
                table = LatencyTable.load(path, expected)
            else:
                tell = self._tell("latency table")
                table = LatencyTable.build(
                    self.master,
                    self.around,
                    target,
                    self.data.num_classes,
                    seed=self.settings.seed,
                    time_limit_s=self.settings.table_seconds,
                    on_progress=lambda share: tell(round(100 * share), 100),
                )
                table.save(path)
            measured.measure([self.master])
        return table, measured

    def trials(self) -> list[TrialResult]:
        """The results of all trials; those that are missing are run and recorded as they end."""
        planned = plan_trials(
            self.around,
            self.settings.trials_per_super_block,
            self.settings.controls_per_super_block,
            seed=self.settings.seed,
        )
        missing = self.study.missing(planned)
        if missing:
            self._run_trials(missing, len(planned))
        return self.study.results()

    def _run_trials(self, missing: Sequence[Trial], planned: int) -> None:
        tell, done = self._tell("trials"), planned - len(missing)
        tell(done, planned)
        job = TrialJob(
            master=self.master,
            master_weights=self.study.master_weights,
            data=self.settings.data,
            recipe=self.settings.trial_training.recipe(),
            thaw=self.settings.trial_training.thaw,
            seed=self.settings.seed,
            device=self.device,
        )
        with self._phase("trials"):
            for result in EXECUTORS["inline"](job, group_trials(missing), self.workers):
                self.study.record(result)
                done += 1
                tell(done, planned, format_super_block(result.trial.super_block))

    def accuracy_model(self, results: Sequence[TrialResult], master: Score) -> AccuracyModel:
        response = self.settings.response
        return AccuracyModel.fit(
            self.master,
            results,
            getattr(master, response),
            response=response,
            form=self.settings.regression,
        )

    def budget_ms(self, budget: Budget, measured: MeasuredNetworks) -> float:
        return budget.ms_per_image(measured[self.master].ms_per_image)

    def selected(
        self,
        budget_ms: float,
        table: LatencyTable,
        measured: MeasuredNetworks,
        model: AccuracyModel,
    ) -> Selected:
        stored = self.study.load_json("selected")
        if stored is not None:
            return Selected.from_json(stored)
        selected = self.promise(budget_ms, table, measured, model)
        self.study.save_json("selected", selected.to_json())
        return selected

    def promise(
        self,
        budget_ms: float,
        table: LatencyTable,
        measured: MeasuredNetworks,
        model: AccuracyModel,
    ) -> Selected:
        with self._phase("verification"):
            return keep_promise(
                self.master,
                budget_ms,
                table,
                model,
                lambda corrected: self._frontier(corrected, model, budget_ms),
                measured.measure,
                self._tell("verification"),
            )

    def _frontier(self, table: LatencyTable, model: AccuracyModel, budget_ms: float) -> Frontier:
        chain = chain_of(self.around, table, model.stage_accuracy)
        offset_ms = table.offset_ms_per_image
        if self.settings.selection == "random":
            rng = np.random.default_rng(self.settings.seed)
            front = random_selection(chain, budget_ms, RANDOM_SAMPLES, rng, offset_ms)
            if not len(front):
                raise GenetsError(
                    f"none of {RANDOM_SAMPLES} random structures is predicted to keep "
                    f"{budget_ms:.4g} ms per image; selection 'exact' finds the fastest there is"
                )
            return front
        return frontier(chain, offset_ms, max_latency_ms=budget_ms)

    def final_network(self, structure: Structure, teacher: nn.Module) -> nn.Module:
        """The winner, trained from scratch with the MasterNet as its teacher."""
        path = self.study.folder / "winner.safetensors"
        net = self._fresh_network(structure, "final")
        if path.exists():
            load_weights(net, path)
            return net
        with self._phase("final training"):
            self._train(net, self.settings.final_training.recipe(), "final training", teacher)
            save_weights(net, path, {"structure": str(structure)})
        return net

    # What the phases share.

    def _fresh_network(self, structure: Structure, purpose: str) -> nn.Module:
        """A network whose initial weights depend on the seed and the purpose alone."""
        with seeded_globals(purpose, self.settings.seed):
            net = build(structure, self.data.num_classes)
        return net.to(self.device).eval()

    def _train(
        self,
        net: nn.Module,
        recipe: Recipe,
        phase: str,
        teacher: nn.Module | None = None,
    ) -> None:
        tell = self._tell(phase)
        tell(0, recipe.epochs)
        with fitting_threads(net, self.master.resolution, recipe.batch_size):
            train(
                net,
                self.data.train,
                recipe,
                seed=self.settings.seed,
                teacher=teacher,
                on_epoch=lambda epoch, loss: tell(epoch + 1, recipe.epochs, f"loss {loss:.3f}"),
                device=self.device,
            )

    def _tell(self, phase: str) -> Tell:
        def tell(done: int, total: int, detail: str = "") -> None:
            self.on_event(Event(phase, done, total, detail))

        return tell

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _check_learned(score: Score, num_classes: int) -> None:
    """A MasterNet at chance level has nothing to teach and no trial would mean anything."""
    chance = 1 / num_classes
    if score.top1 < chance + 0.1 * (1 - chance):
        raise GenetsError(
            f"the MasterNet did not learn: {score.top1:.1%} of the validation images are right, "
            f"where guessing gives {chance:.1%}; give it more epochs or check the data"
        )


def _training_device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    Target(device=name).check()
    return name


def _scores(score: Score) -> dict[str, float]:
    return {"top1": score.top1, "cross_entropy": score.cross_entropy}
