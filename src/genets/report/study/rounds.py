"""The rounds of a search: which MasterNet each took its trials around, and what came of it."""

from __future__ import annotations

from genets.nas.accuracy.observations import Response
from genets.nas.candidates.confirmation import best_confirmed
from genets.nas.study.records import Confirmed
from genets.nas.study.snapshot import RoundSnapshot, Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section

HEADER = ("round", "MasterNet, validation top-1", "cross-entropy", "trials", "candidates trained",
          "best, validation top-1", "cross-entropy", "MasterNet")  # fmt: skip


def rounds_section(snapshot: Snapshot) -> Section:
    """Empty where one round was asked for."""
    rounds, response = snapshot.rounds, snapshot.settings.response
    if snapshot.settings.rounds == 1:
        return Section("Rounds", [])
    rows = [_row(each, response) for each in rounds]
    said = (
        "Each round takes trials around its MasterNet: the first the one that the search began "
        "with, a later one the best candidate that was trained so far. Predictions on this page "
        f"are those of round {snapshot.latest.number}, which know of every candidate that was "
        "trained up to then."
    )
    blocks: list[Block] = [
        PageTable(HEADER, rows, frozenset({snapshot.latest.number - 1})),
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


def _row(each: RoundSnapshot, response: Response) -> list[Cell | str]:
    own = ["-", "-"] if each.score is None else _scores(each.score["top1"],
                                                         each.score["cross_entropy"])  # fmt: skip
    failed = sum(result.status == "failed" for result in each.results)
    trials = f"{len(each.results) - failed}" + f", {failed} failed" * bool(failed)
    best = _best(each.confirmed, response)
    found = ["-", "-"] if best is None else _scores(best.top1, best.cross_entropy)
    trained = str(len(each.confirmed))
    return [str(each.number), *own, trials, trained, *found, Cell(str(each.master), "text")]


def _best(confirmed: tuple[Confirmed, ...], response: Response) -> Confirmed | None:
    done = [one for one in confirmed if one.status == "done"]
    if not done:
        return None
    best = best_confirmed(done, response)
    return next(one for one in done if one.structure == best)


def _scores(top1: float | None, cross_entropy: float | None) -> list[str]:
    assert top1 is not None
    assert cross_entropy is not None
    return [f"{top1:.2%}", f"{cross_entropy:.4g}"]
