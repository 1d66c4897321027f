"""The comparison of rivals with the winners of a search.

Rivals come last, after the export of the winner, so a rival that fails costs no result. First all
rivals are measured, each in turn with the MasterNet. A rival that meets a budget is then trained on
the training images of the search for as many epochs as the winner, once for all budgets. It is
compared with the winner of each budget that it meets, on the test images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from genets.core.errors import GenetsError, first_line
from genets.core.files import write_atomic
from genets.core.log import get_logger
from genets.core.progress import Report
from genets.data import ImageData
from genets.latency import Measurement
from genets.nas.context import SearchContext
from genets.nas.image_loading import load_images
from genets.nas.phase_names import RIVALS
from genets.nas.result import SearchResult
from genets.nas.rivals.contender import Rival
from genets.nas.selection.network_latency import NetworkLatency
from genets.nas.settings.rival_names import RivalName, expand_rivals
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.rival_records import RivalResult, TrainedRival
from genets.nas.warnings import rival_subject, rival_warnings
from genets.networks import load_weights
from genets.structure import Structure
from genets.training import EpochRecord, Listener
from genets.training.predictions import PairedDifference, Predictions
from genets.training.run.inputs import preprocessing_of

_log = get_logger(__name__)

Images = Callable[[Structure], ImageData]


def compare_rivals(
    contexts: Mapping[str, SearchContext], results: Mapping[str, SearchResult], images: Images
) -> dict[str, SearchResult]:
    """Measure and train the rivals, and compare them with the winners.

    All rivals have the input size of the first winner. A rival that was trained before is not
    trained again. A rival that fails gets a row with the reason.

    Args:
        contexts: The context of each budget that is met, by budget, the largest first.
        results: The result of each of these budgets; its winner is exported.
        images: Gives the images at the resolution of a structure.

    Returns:
        The results with the rivals, as they are stored in the `result.json` of each budget.
    """
    first = next(iter(contexts.values()))
    names = expand_rivals(first.settings.rivals)
    entries: list[_Entry] = []
    if names:
        comparison = _Comparison(contexts, results, images)
        with first.phase(RIVALS):
            report = first.report(RIVALS)
            for name in names:
                report(0, len(names), str(name))
                entries.append(comparison.measure(name))
            for number, entry in enumerate(entries):
                words = str(entry.name)
                comparison.train(entry, _listener(report, number, len(names), words))
                report(number + 1, len(names), words)
    rows = {budget: [entry.rows[budget] for entry in entries] for budget in results}
    return {
        budget: _store(contexts[budget], _with_rivals(contexts[budget], result, rows[budget]))
        for budget, result in results.items()
    }


def _with_rivals(
    context: SearchContext, result: SearchResult, rows: Sequence[RivalResult]
) -> SearchResult:
    """The result with these rivals in place of others, and with the warnings about them."""
    stale = tuple(rival_subject(rival) for rival in result.rivals)
    warnings = [warning for warning in result.warnings if not warning.startswith(stale)]
    warnings += rival_warnings(rows, result.winner, context.settings.metric)
    return replace(
        result, rivals=tuple(rows), warnings=tuple(warnings), seconds=dict(context.seconds)
    )


def _store(context: SearchContext, result: SearchResult) -> SearchResult:
    study = context.study
    record = study.result() or {}  # which has facts about the export beside those of the result
    if record.get("rivals") or result.rivals:
        study.save_json(layout.RESULT, record | result.to_record())
    return result


@dataclass
class _Entry:
    """A rival that is being compared.

    Attributes:
        name: The rival as it was asked for.
        rows: Its row for each budget.
        rival: The rival; None before it is measured.
    """

    name: RivalName
    rows: dict[str, RivalResult]
    rival: Rival | None = None

    def change(self, budgets: Iterable[str], **changes: Any) -> None:
        """Change fields of the rows of some budgets."""
        self.rows |= {budget: replace(self.rows[budget], **changes) for budget in budgets}


class _LeftOutError(Exception):
    """A default rival has no weights at hand, or does not take the input size."""


@contextmanager
def _failure_in(entry: _Entry) -> Iterator[None]:
    """Write a failure of the block into the rows of a rival."""
    try:
        yield
    except _LeftOutError as error:
        entry.change(entry.rows, status="left out", reason=str(error))
    except Exception as error:  # noqa: BLE001 - a foreign network may raise anything
        if not isinstance(error, GenetsError):
            _log.exception("rival %s", entry.name)
        reason = first_line(error)
        _log.warning("rival %s failed: %s", entry.name, reason)
        # A row above the budget does not depend on the training.
        undecided = [b for b, row in entry.rows.items() if row.within_budget is not False]
        entry.change(undecided, status="failed", reason=reason)


class _Comparison:
    """Compares one rival after the other with the winners."""

    def __init__(
        self,
        contexts: Mapping[str, SearchContext],
        results: Mapping[str, SearchResult],
        images: Images,
    ) -> None:
        self._contexts = contexts
        self._results = results
        self._images = images
        self._context = next(iter(contexts.values()))
        self._study: StudyReader = self._context.study
        self._first_winner = next(
            iter(results.values())
        ).selected.structure  # of the largest budget
        self._resolution = self._first_winner.resolution
        self._winners: dict[str, Predictions] = {}
        self._rival: Rival | None = None  # that is being measured
        self._latencies = self._context.measured_rivals(self._measure)

    def measure(self, name: RivalName) -> _Entry:
        """Measure a rival on the target."""
        row = RivalResult(name=str(name), status="failed", resolution=self._resolution)
        entry = _Entry(name, dict.fromkeys(self._results, row))
        with _failure_in(entry):
            rival = self._find(name)
            entry.change(entry.rows, weights=rival.start)
            latency = self._latency(rival)
            for budget, each in entry.rows.items():
                entry.rows[budget] = _with_latency(each, latency, self._contexts[budget])
            entry.rival = rival
        return entry

    def train(self, entry: _Entry, listener: Listener) -> None:
        """Train a rival, and compare it with the winner of each budget that it meets."""
        met = [budget for budget, row in entry.rows.items() if row.within_budget]
        if entry.rival is None or not met:
            return
        with _failure_in(entry):
            trained = self._trained(entry.rival, listener)
            for budget in met:
                entry.rows[budget] = self._compared(entry.rows[budget], trained, budget)

    def _find(self, name: RivalName) -> Rival:
        """Make a rival; one of `default` may be left out."""
        rival = Rival.make(name, self._context.settings, self._resolution)
        if name.is_default and self._study.trained_rival(str(name), self._resolution) is None:
            try:
                rival.check()
            except GenetsError as error:
                raise _LeftOutError(str(error)) from error
        return rival

    def _latency(self, rival: Rival) -> NetworkLatency:
        """Measure a rival until its latency decides on every budget. Raises GenetsError."""
        self._rival = rival
        key = f"{rival.run.network} at {rival.resolution} pixels"
        for context in self._contexts.values():
            self._latencies.for_budget(context.budget).measure([key])
        return self._latencies.stored[key]

    def _measure(self, keys: Sequence[str], times_as_long: int) -> dict[str, Measurement]:
        """Measure one rival, and the MasterNet in turn with it."""
        assert self._rival is not None
        context, master = self._context, str(self._context.master)
        key = next(key for key in keys if key != master)
        rival, of_master = context.lab.measure_rival(
            self._rival.for_timing(context.num_classes),
            context.master,
            context.target,
            context.num_classes,
            times_as_long * context.settings.measure_seconds,
            relative=all(each.budget.is_relative for each in self._contexts.values()),
        )
        return {key: rival, master: of_master}

    def _trained(self, rival: Rival, listener: Listener) -> TrainedRival:
        """Train and test a rival, or load its record. Raises GenetsError."""
        study, context = self._study, self._context
        stored = study.trained_rival(str(rival.name), rival.resolution)
        if stored is not None:
            return stored
        place = study.rival_path(str(rival.name), rival.resolution)
        folder = study.folder / place
        folder.parent.mkdir(exist_ok=True)
        run = rival.run_on(len(self._images(self._first_winner).train))
        net = context.lab.train_rival(run, folder, device=context.device, listener=listener)
        data = self._load_images(rival)
        score, predictions = context.lab.test(net.to(context.device), data.test, context.device)
        score = replace(score, quantised=context.score_quantised(net, data, data.test))
        trained = TrainedRival(run.recipe.epochs, score, predictions)
        text = json.dumps(trained.to_json(), allow_nan=False)  # on one line, as it may be long
        write_atomic(study.folder / f"{place}.json", text + "\n")
        return trained

    def _load_images(self, rival: Rival) -> ImageData:
        """Load the images at the rival's resolution, with the normalisation of its weights."""
        return load_images(
            self._context.settings,
            rival.resolution,
            self._context.device,
            preprocessing=preprocessing_of(rival.run),
            known=self._images(self._first_winner),
        )

    def _compared(self, row: RivalResult, trained: TrainedRival, budget: str) -> RivalResult:
        """Compare a trained rival with the winner of a budget that it meets."""
        place = self._study.rival_path(row.name, self._resolution)
        return replace(
            row,
            status="done",
            epochs=trained.epochs,
            test=trained.score,
            difference=self._difference(row.name, trained, budget),
            folder=f"{place}/results",
        )

    def _difference(self, name: str, trained: TrainedRival, budget: str) -> PairedDifference | None:
        """The difference from the winner, which an earlier run may have stored.

        The rival of another resolution is another training: its input size is that of the first
        winner, and another budget may have become the first.
        """
        for row in self._results[budget].rivals:
            is_same = (row.name, row.resolution) == (name, self._resolution)
            if is_same and row.difference is not None:
                return row.difference
        return PairedDifference.between(trained.predictions, self._winner_predictions(budget))

    def _winner_predictions(self, budget: str) -> Predictions:
        """The predictions of a winner for the test images."""
        if budget not in self._winners:
            context, structure = self._contexts[budget], self._results[budget].selected.structure
            net = context.build_network(structure, "final")
            load_weights(net, context.study.winner_weights)
            test = self._images(structure).test
            _, self._winners[budget] = context.lab.test(net, test, context.device)
        return self._winners[budget]


def _with_latency(row: RivalResult, latency: NetworkLatency, context: SearchContext) -> RivalResult:
    """The row with the latency, and whether it meets the budget of the context."""
    meets, (low_ms, high_ms) = latency.meets(context.budget), latency.interval_ms(context.budget)
    return replace(
        row,
        status=row.status if meets else "above budget",
        measured_ms=latency.median_ms(context.budget),
        low_ms=low_ms,
        high_ms=high_ms,
        master_ms=latency.master_ms_per_image,
        budget_ms=latency.budget_ms(context.budget),
        within_budget=meets,
        noisy=latency.network.noisy,
        disturbed=latency.disturbed,
    )


def _listener(report: Report, number: int, total: int, name: str) -> Listener:
    """Report the epochs of a training as a part of one rival. number: The finished rivals."""

    def on_epoch(record: EpochRecord, epochs: int) -> None:
        report(number + record.epoch / epochs, total, f"{name}, epoch {record.epoch} of {epochs}")

    return Listener(epoch=on_epoch, note=lambda text: _log.info("rival %s: %s", name, text))
