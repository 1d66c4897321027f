"""The rounds of a study and its trained candidates, as sections of the page."""

from __future__ import annotations

from genets.nas.candidates.training import best_trained
from genets.nas.study.records import TrainedCandidate
from genets.nas.study.snapshot import RoundSnapshot, Snapshot
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.report.wording import score_text
from genets.training.score import Metric, Score

ROUND_HEADER = ("round", "MasterNet, validation top-1", "cross-entropy", "trials",
                "candidates trained", "best, validation top-1", "cross-entropy",
                "MasterNet")  # fmt: skip
CANDIDATE_HEADER = ("candidate", "pixels", "ms per image", "times the MasterNet",
                    "validation top-1", "validation cross-entropy", "epochs",
                    "structure")  # fmt: skip


def rounds_section(snapshot: Snapshot) -> Section:
    """A row for each round; empty for a study of one round."""
    rounds, metric = snapshot.rounds, snapshot.settings.metric
    if snapshot.settings.rounds == 1:
        return Section("Rounds", [])
    number = snapshot.latest.number
    blocks: list[Block] = [
        PageTable(ROUND_HEADER, [_round_row(r, metric) for r in rounds], frozenset({number - 1})),
        Paragraph(
            "Each round makes trials around its MasterNet. The first MasterNet is the one of the "
            "settings; a later one is the best candidate that was trained so far. The predictions "
            f"on this page are those of round {number}, which use the scores of all candidates "
            "trained up to then."
        ),
    ]
    if snapshot.selected is not None and len(rounds) < snapshot.settings.rounds:
        blocks.append(
            Paragraph(
                f"The search was asked for {snapshot.settings.rounds} rounds and ended with round "
                f"{len(rounds)}, because no candidate was better than its MasterNet."
            )
        )
    return Section("Rounds", blocks)


def _round_row(round_snapshot: RoundSnapshot, metric: Metric) -> list[Cell | str]:
    done = [candidate for candidate in round_snapshot.confirmed if candidate.status == "done"]
    best = best_trained(done, metric) if done else None
    failed = sum(result.status == "failed" for result in round_snapshot.results)
    return [
        str(round_snapshot.number),
        *_score_cells(round_snapshot.score),
        f"{len(round_snapshot.results) - failed}" + f", {failed} failed" * bool(failed),
        str(len(round_snapshot.confirmed)),
        *_score_cells(best.score if best else None),
        Cell(str(round_snapshot.master), "text"),
    ]


def _score_cells(score: Score | None) -> list[Cell | str]:
    return [score_text(None if score is None else score[metric], metric) for metric in Metric]


def candidates_section(snapshot: Snapshot) -> Section:
    """A row for each trained candidate; empty where no candidate was trained."""
    candidates = snapshot.confirmed
    if not candidates:
        return Section("Candidates", [])
    winner = snapshot.selected.structure if snapshot.selected else None
    chosen = {n for n, candidate in enumerate(candidates) if candidate.structure == winner}
    rows = [
        _candidate_row(f"{n + 1}{', winner' * (n in chosen)}", candidate, snapshot)
        for n, candidate in enumerate(candidates)
    ]
    at_own = ", each at its own resolution," * (len(snapshot.around.resolutions) > 1)
    text = (
        f"The candidates were trained from scratch with the final recipe{at_own} and scored on the "
        f"validation images. The candidate with the best {snapshot.settings.metric.label} wins. "
        f"Each candidate was trained once, with seed {snapshot.settings.seed}."
    )
    table = PageTable(CANDIDATE_HEADER, rows, frozenset(chosen))
    return Section("Candidates", [table, Paragraph(text)])


def _candidate_row(name: str, candidate: TrainedCandidate, snapshot: Snapshot) -> list[Cell | str]:
    done = candidate.status == "done"
    scores = _score_cells(candidate.score if done else None)
    if not done:
        scores[-1] = Cell(f"failed: {candidate.reason}", "text")
    structure, target = candidate.structure, snapshot.settings.target.resolved()
    latencies = [latency.measured.get(structure) for latency in snapshot.targets
                 if latency.target == target]  # fmt: skip
    latency = ["-", "-"]
    for network in filter(None, latencies[:1]):
        ms = network.network.ms_per_image
        latency = [f"{ms:.4g}", f"{ms / network.master_ms_per_image:.3g}"]
    return [
        name,
        str(structure.resolution),
        *latency,
        *scores,
        str(candidate.epochs),
        Cell(str(structure), "text"),
    ]
