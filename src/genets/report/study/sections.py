"""The rounds of a search: which MasterNet each took its trials around, and what came of it.

The candidates of a search that were trained, and which of them won.

How a study's predicted values are shown: top-1 in percent, cross-entropy in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

from genets.nas.candidates.training import best_confirmed
from genets.nas.study.records import TrainedCandidate
from genets.nas.study.snapshot import RoundSnapshot, Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.training.score import Metric

ROUND_COLUMNS = ("round", "MasterNet, validation top-1", "cross-entropy", "trials",
          "candidates trained",
          "best, validation top-1", "cross-entropy", "MasterNet")  # fmt: skip


def rounds_section(snapshot: Snapshot) -> Section:
    """Empty where one round was asked for."""
    rounds, metric = snapshot.rounds, snapshot.settings.metric
    if snapshot.settings.rounds == 1:
        return Section("Rounds", [])
    rows = [_round_row(each, metric) for each in rounds]
    said = (
        "Each round takes trials around its MasterNet: the first the one that the search began "
        "with, a later one the best candidate that was trained so far. Predictions on this page "
        f"are those of round {snapshot.latest.number}, which know of every candidate that was "
        "trained up to then."
    )
    blocks: list[Block] = [
        PageTable(ROUND_COLUMNS, rows, frozenset({snapshot.latest.number - 1})),
        Paragraph(said),
    ]
    if snapshot.selected is not None and len(rounds) < snapshot.settings.rounds:
        blocks.append(
            Paragraph(
                f"Asked for {snapshot.settings.rounds} rounds, the search ended with round "
                f"{len(rounds)}, as no candidate was better than its MasterNet."
            )
        )
    return Section("Rounds", blocks)


def _round_row(each: RoundSnapshot, metric: Metric) -> list[Cell | str]:
    own = ["-", "-"] if each.score is None else _scores(each.score["top1"],
                                                         each.score["cross_entropy"])  # fmt: skip
    failed = sum(result.status == "failed" for result in each.results)
    trials = f"{len(each.results) - failed}" + f", {failed} failed" * bool(failed)
    best = _best(each.confirmed, metric)
    found = ["-", "-"] if best is None else _scores(best.top1, best.cross_entropy)
    trained = str(len(each.confirmed))
    return [str(each.number), *own, trials, trained, *found, Cell(str(each.master), "text")]


def _best(confirmed: tuple[TrainedCandidate, ...], metric: Metric) -> TrainedCandidate | None:
    done = [one for one in confirmed if one.status == "done"]
    if not done:
        return None
    best = best_confirmed(done, metric)
    return next(one for one in done if one.structure == best)


def _scores(top1: float | None, cross_entropy: float | None) -> list[str]:
    assert top1 is not None
    assert cross_entropy is not None
    return [f"{top1:.2%}", f"{cross_entropy:.4g}"]


CANDIDATE_COLUMNS = ("candidate", "pixels", "ms per image", "times the MasterNet",
          "validation top-1", "validation cross-entropy", "epochs", "structure")  # fmt: skip


def candidates_section(snapshot: Snapshot) -> Section:
    """Empty where the winner had no rival."""
    confirmed = snapshot.confirmed
    if not confirmed:
        return Section("Candidates", [])
    winner = snapshot.selected.structure if snapshot.selected else None
    chosen = {n for n, one in enumerate(confirmed) if one.structure == winner}
    names = [f"{n + 1}{', winner' * (n in chosen)}" for n in range(len(confirmed))]
    rows = [_candidate_row(name, one, snapshot) for name, one in zip(names, confirmed, strict=True)]
    at_each = "each at its own resolution, " * (len(snapshot.around.resolutions) > 1)
    said = (
        f"Trained from scratch by the final recipe, {at_each}and scored on validation images; "
        f"the best {snapshot.settings.metric.label} wins. One training each, "
        f"seed {snapshot.settings.seed}."
    )
    table = PageTable(CANDIDATE_COLUMNS, rows, frozenset(chosen))
    return Section("Candidates", [table, Paragraph(said)])


def _candidate_row(name: str, one: TrainedCandidate, snapshot: Snapshot) -> list[Cell | str]:
    scores: list[Cell | str] = ["-", Cell(f"failed: {one.reason}", "text")]
    if one.top1 is not None and one.cross_entropy is not None:
        scores = [f"{one.top1:.2%}", f"{one.cross_entropy:.4g}"]
    structure = one.structure
    own = [on for on in snapshot.targets if on.target == snapshot.settings.target.resolved()]
    known = next((on.measured[structure] for on in own if structure in on.measured), None)
    latency = ["-", "-"]
    if known is not None:
        ms, master_ms = known.network.ms_per_image, known.master_ms_per_image
        latency = [f"{ms:.4g}", f"{ms / master_ms:.3g}"]
    return [
        name,
        str(structure.resolution),
        *latency,
        *scores,
        str(one.epochs),
        Cell(str(structure), "text"),
    ]


@dataclass(frozen=True, slots=True)
class Shown:
    """Values are top-1 from 0 to 1 or minus the cross-entropy; readers get neither.

    factor: from a value to what is shown. less_is_better: the axis is turned round then.
    gain_factor, gain_unit: for differences of values, of which more is always better.
    """

    name: str
    unit: str
    factor: float
    less_is_better: bool
    gain_factor: float
    gain_unit: str

    def score(self, value: float) -> float:
        return self.factor * value

    def spread(self, std: float) -> float:
        return abs(self.factor) * std

    def text(self, value: float, std: float | None) -> str:
        around = "" if std is None else f" ± {self.spread(std):.3g}"
        return f"{self.score(value):.4g}{around} {self.unit}"


SHOWN: dict[Metric, Shown] = {
    Metric.TOP1: Shown("top-1", "%", 100.0, False, 100.0, "percentage points of top-1"),
    Metric.CROSS_ENTROPY: Shown("cross-entropy", "nats", -1.0, True, 1.0, "nats of cross-entropy"),
}
