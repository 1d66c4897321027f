"""The winner of a budget: its final training, its test and its export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from genets.core.errors import DivergedError, GenetsError, StudyError
from genets.core.files import write_atomic
from genets.core.log import get_logger
from genets.data import ImageData
from genets.nas.candidates.export import EXPORTED, OnnxCheck
from genets.nas.candidates.lost_weights import restore_candidate
from genets.nas.candidates.training import (
    decide_final_fields,
    make_candidate_job,
    start_candidate,
)
from genets.nas.context import SearchContext
from genets.nas.result import SearchResult
from genets.nas.rounds import round_results
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.class_counts import ClassCounts
from genets.nas.study.records import Candidate
from genets.nas.warnings import study_warnings, winner_warnings
from genets.networks import load_weights
from genets.structure import Structure
from genets.training import Score
from genets.training.floor import Floor
from genets.training.predictions import Predictions
from genets.training.score import comparable
from genets.training.teacher import TeacherNetwork

if TYPE_CHECKING:
    from torch import nn

_log = get_logger(__name__)


class TrainedMaster:
    """The trained MasterNet.

    Attributes:
        net: The network.
        data: The images at its resolution.
        score: Its score on the validation split.
    """

    def __init__(
        self, context: SearchContext, net: nn.Module, data: ImageData, score: Score
    ) -> None:
        self.net, self.data, self.score = net, data, score
        self._context = context

    @cached_property
    def tested(self) -> tuple[Score, Predictions]:
        """Its score and its predictions on the test split, once for all budgets."""
        return self._context.test(self.net, self.data)


def finish_winner(
    context: SearchContext, selected: Candidate, master: TrainedMaster, data: ImageData
) -> SearchResult:
    """Train, test and export a winner.

    Args:
        context: At the budget of the winner.
        selected: The winner.
        master: The first MasterNet, which is the teacher.
        data: The images at the resolution of the winner.

    Raises:
        GenetsError: The training failed, or a file cannot be written.
    """
    structure, own, study = selected.structure, master.data, context.study
    teacher = TeacherNetwork(master.net, own.resolution, own.mean, own.std, data)
    net = _train_winner(context, data, structure, teacher.to(context.device))
    with context.phase("export"):
        report = context.report("export")
        report(0, 1)
        # Here, and only here, on the test split.
        master_test, of_master = master.tested
        winner_test, of_winner = context.test(net, data)
        counts = ClassCounts.count(own.class_names, of_master, of_winner)
        folder = context.study.results_folder
        text = json.dumps(counts.to_json())  # on one line, as there may be many thousand numbers
        with context.study.files.explained():
            write_atomic(context.study.path(f"{layout.TEST}.json"), text + "\n")
            onnx = context.lab.export(net, structure, data, folder)
        result = _make_result(context, selected, master, (master_test, winner_test), counts, onnx)
        record = result.to_record()
        record["input"] = data.input_contract(structure.resolution)
        record["onnx_largest_difference"] = onnx.largest_difference
        with context.study.files.explained():
            write_atomic(result.files["result"], json.dumps(record, indent=2) + "\n")
        report(1, 1)
    study.forget_checkpoints()
    return result


def load_result(context: SearchContext) -> SearchResult | None:
    """Load the result of a budget; None where a part of it is missing.

    A record of an older genets may lack values; then the winner is exported again. A winner whose
    weights are lost or damaged is made again, because rivals are compared with it.
    """
    study, master = context.study, context.study.master_score()
    try:
        result = study.load_json(
            layout.RESULT, lambda record: SearchResult.from_record(record, study.folder)
        )
    except StudyError:
        return None
    if result is None or master is None or not study.has_winner:
        return None
    files = [*result.files.values(), study.path(f"{layout.TEST}.json")]
    net = context.build_network(result.selected.structure, "final")
    if not all(path.exists() for path in files) or not _load_first(net, [study.winner_weights]):
        return None
    several = context.settings.rounds > 1
    return replace(result, rounds=round_results(context, master) if several else ())


def _train_winner(
    context: SearchContext, data: ImageData, structure: Structure, teacher: nn.Module
) -> nn.Module:
    """Train the winner with the MasterNet as its teacher, or load it.

    Where the candidates were trained as long as the winner, its weights exist already. They also
    exist where another budget has the same winner. With inherited weights, the winner continues
    from its weights as a candidate, unless this makes its validation score worse, and the MasterNet
    itself is the winner as it is. Lost weights are made again.
    """
    study = context.study
    net = context.build_network(structure, "final")
    if _load_first(net, [study.winner_weights]):
        return net
    recipe, job = study.recipe("final_training"), make_candidate_job(context)
    winners = [(each.selected(), each.winner_weights) for each in study.each_budget()]
    trained = [path for winner, path in winners if winner and winner.structure == structure]
    if job.inherits and structure == context.master:
        trained.append(study.master_weights)
    is_trained, is_loaded = _load_first(net, trained), False
    if not is_trained and (job.inherits or job.recipe == recipe):
        restore_candidate(context, structure)
        is_loaded = _load_first(net, [job.weights_path(structure)])
        is_trained = is_loaded and job.recipe == recipe
        if job.inherits and not is_loaded:
            net = start_candidate(context, structure, data)
    if not is_trained:
        with context.phase("final training"):
            report = context.report("final training")
            decide_final_fields(context, [structure], lambda words: report(0, 1, words))
            recipe = study.recipe("final_training")
            with _keep_better(context, net, data) if is_loaded else nullcontext():
                context.train(net, data, recipe, "final training", teacher)
    context.save_trained(net, study.winner_weights, {"structure": str(structure)})
    return net


@contextmanager
def _keep_better(context: SearchContext, net: nn.Module, data: ImageData) -> Iterator[None]:
    """Restore the weights of a candidate where its training diverges or makes its score worse.

    Other errors, such as a lack of memory or a lost process, are raised: the same command may then
    train the winner.
    """
    metric = context.settings.metric
    floor, end = Floor.take(net, context.evaluate(net, data), metric), None
    try:
        yield
        end = context.evaluate(net, data)
    except DivergedError as error:
        reason = f"failed ({error})"
    else:
        before, after = (score[metric] for score in comparable([floor.score, end]))
        change = f"from {before:.4g} to {after:.4g}"
        reason = f"changed the {metric.label} on the validation images {change}"
    if floor.restore_if_worse(end):
        _log.warning("the winner keeps its weights as a candidate: the final training %s", reason)


def _load_first(net: nn.Module, paths: Sequence[Path]) -> bool:
    """Load the first of these files of weights that is neither missing nor damaged.

    Returns:
        Whether there is one.
    """
    for path in paths:
        try:
            load_weights(net, path)
        except GenetsError as error:
            if path.exists():
                _log.info("%s, so the network is trained again", error)
        else:
            return True
    return False


def _make_result(
    context: SearchContext,
    selected: Candidate,
    master: TrainedMaster,
    scores: tuple[Score, Score],
    counts: ClassCounts,
    onnx: OnnxCheck,
) -> SearchResult:
    """Make the result of the winner. scores: of the MasterNet and the winner, on the test split."""
    study = context.study
    rounds = round_results(context, master.score)
    trained = {each.structure: each for result in rounds for each in result.confirmed}
    snapshot = Snapshot.read(study.folder)
    warnings = [] if study.budget else study_warnings(snapshot)  # of all budgets: by the search
    own = next(each for each in snapshot.each_budget if study.budget in ("", each.budget))
    warnings = winner_warnings(own) + warnings
    if onnx.failure:
        warnings.append(f"no ONNX file was written: {onnx.failure}")
    master_test, winner_test = scores
    if context.int8_target is not None and winner_test.quantised is None:
        warnings.append(
            f"the winner has no score in int8, because its quantisation failed; {layout.LOG} has "
            "the reason"
        )
    files = {name: study.results_folder / file for name, file in EXPORTED.items()}
    files = {name: path for name, path in files.items() if name not in onnx.unwritten}
    return SearchResult(
        selected=selected,
        master=master_test,
        winner=winner_test,
        trials_done=sum(result.trials_done for result in rounds),
        trials_failed=sum(result.trials_failed for result in rounds),
        folder=study.folder,
        files={**files, "result": study.path(f"{layout.RESULT}.json")},
        seconds=context.seconds,
        warnings=tuple(warnings),
        confirmed=tuple(trained.values()),
        metric=context.settings.metric,
        rounds=rounds if context.settings.rounds > 1 else (),
        difference=counts.difference,
        folds=context.settings.num_folds,
        screened=study.num_screened,
    )
