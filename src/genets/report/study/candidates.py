"""The rounds of a study, its screened structures and its candidates, as sections of the page."""

from __future__ import annotations

from genets.core.errors import counted
from genets.nas.candidates.training import best_trained
from genets.nas.snapshot import RoundSnapshot, Snapshot
from genets.nas.study.records import TrainedCandidate, best_first
from genets.report.html import Block, Cell, PageTable, Paragraph, Section
from genets.report.study.facts import own_measured
from genets.report.wording import (
    aligned_texts,
    decided_in_int8,
    noise_words,
    noisy_score_texts,
    score_names,
    scored_images_text,
)
from genets.training.score import Metric, Score

CANDIDATES_TEXT = (
    "A candidate is a selected structure whose measured latency meets the budget. The candidates "
    "{trained}{at_own} and scored on {images}; the "
    "range in brackets is the 95 % interval that comes from their number. The candidate with the "
    "best {metric} wins. Each candidate was trained once, with seed {seed}. The best stands first."
)
FROM_SCRATCH = "were trained from scratch like the winner"
INHERITED = "inherited weights from the MasterNet and the trials, and were then trained"
INT8_TEXT = (
    " The target computes in int8, so each trained candidate was also quantised as the export of "
    "the winner is, with images of its training split, and scored in the engine of the target: "
    "these are the scores in int8, and {deciding}. The accuracy model uses the scores before "
    "quantisation."
)
INT8_DECIDES = "they decide"
INT8_MISSING = (
    "they decide only where every candidate has them; an older genets did not record them"
)
OTHER_BUDGETS_TEXT = (
    " Candidates that were trained for another budget count as well where they meet this one."
)


SCREENED_TEXT = (
    "Screened structures were predicted to meet the budget. They were assembled from the weights "
    "of the MasterNet and the trials, trained for {epochs} by the recipe of the winner, and scored "
    "on {images}. The accuracy model learned from their scores before it chose the candidates. "
    "The best stands first."
)


def rounds_section(snapshot: Snapshot) -> Section:
    """A row for each round; empty for a study of one round."""
    rounds, metric = snapshot.rounds, snapshot.settings.metric
    if snapshot.settings.rounds == 1:
        return Section("Rounds", [])
    number = snapshot.latest.number
    blocks: list[Block] = [
        PageTable(
            _round_header(metric, quantised=_is_quantised(snapshot)),
            [_round_row(r, snapshot) for r in rounds],
            frozenset({number - 1}),
        ),
        Paragraph(
            "A round makes trials around one MasterNet. The first MasterNet is the one of the "
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


def _round_header(metric: Metric, *, quantised: bool) -> tuple[str, ...]:
    first, *others = score_names(metric, quantised=quantised)
    return ("round", f"MasterNet, validation {first}", *others, "trials", "candidates trained",
            f"best, validation {first}", *others, "MasterNet")  # fmt: skip


def _is_quantised(snapshot: Snapshot) -> bool:
    """Whether the study has scores after quantisation on its validation images."""
    scores = [each.score for each in snapshot.rounds]
    scores += [each.score for each in snapshot.confirmed if each.status == "done"]
    return any(score is not None and score.quantised is not None for score in scores)


def _round_row(round_snapshot: RoundSnapshot, snapshot: Snapshot) -> list[Cell | str]:
    done = [candidate for candidate in round_snapshot.confirmed if candidate.status == "done"]
    best = best_trained(done, snapshot.settings.metric) if done else None
    failed = sum(result.status == "failed" for result in round_snapshot.results)
    return [
        str(round_snapshot.number),
        *_score_cells(round_snapshot.score, snapshot),
        f"{len(round_snapshot.results) - failed}" + f", {failed} failed" * bool(failed),
        str(len(round_snapshot.confirmed)),
        *_score_cells(best.score if best else None, snapshot),
        Cell(str(round_snapshot.master), "text"),
    ]


def _score_cells(score: Score | None, snapshot: Snapshot) -> list[Cell | str]:
    """Scores on the validation images, whose number stands in the score of the first MasterNet."""
    if score is not None:
        score = score.with_images_of(snapshot.master_score)
    quantised = _is_quantised(snapshot)
    return [*noisy_score_texts(score, snapshot.settings.metric, quantised=quantised)]


def candidates_section(snapshot: Snapshot) -> Section:
    """A row for each trained candidate, the best first; empty where no candidate was trained."""
    metric = snapshot.settings.metric
    failed = [each for each in snapshot.confirmed if each.status != "done"]
    candidates = [*best_first(snapshot.confirmed, metric), *failed]
    if not candidates:
        return Section("Candidates", [])
    winner = snapshot.selected.structure if snapshot.selected else None
    chosen = {n for n, candidate in enumerate(candidates) if candidate.structure == winner}
    latencies = _latency_cells(candidates, snapshot)
    rows = [
        [
            f"{n + 1}{', winner' * (n in chosen)}",
            str(candidate.structure.resolution),
            *latencies[n],
            *_candidate_scores(candidate, snapshot),
            str(candidate.epochs),
            Cell(str(candidate.structure), "text"),
        ]
        for n, candidate in enumerate(candidates)
    ]
    at_own = ", each at its own resolution," * (len(snapshot.around.resolutions) > 1)
    settings = snapshot.settings
    text = CANDIDATES_TEXT.format(
        trained=FROM_SCRATCH if settings.from_scratch else INHERITED,
        at_own=at_own,
        images=scored_images_text(settings.num_folds),
        metric=metric.label,
        seed=settings.seed,
    )
    quantised = _is_quantised(snapshot)
    if quantised:
        decides = decided_in_int8(snapshot.confirmed)
        text += INT8_TEXT.format(deciding=INT8_DECIDES if decides else INT8_MISSING)
    if snapshot.settings.budgets:
        text += OTHER_BUDGETS_TEXT
    header = ("candidate", "pixels", "ms per image", "times the MasterNet", "noise",
              *score_names(metric, quantised=quantised, prefix="validation "),
              "epochs", "structure")  # fmt: skip
    table = PageTable(header, rows, frozenset(chosen))
    return Section("Candidates", [table, Paragraph(text)])


def screening_section(snapshot: Snapshot) -> Section:
    """A row for each screened structure of the latest round, the best first."""
    screened, settings = snapshot.latest.screened, snapshot.settings
    failed = [each for each in screened if each.status != "done"]
    ordered = [*best_first(screened, settings.metric), *failed]
    if not ordered:
        return Section("Screened structures", [])
    own = snapshot.own_latency
    predicted = [own.table.predict_ms_per_image(s.structure) if own else None for s in ordered]
    rows = [
        [str(n + 1), ms, *_candidate_scores(each, snapshot), Cell(str(each.structure), "text")]
        for n, (each, ms) in enumerate(zip(ordered, aligned_texts(predicted), strict=True))
    ]
    quantised = _is_quantised(snapshot)
    scores = score_names(settings.metric, quantised=quantised, prefix="validation ")
    text = SCREENED_TEXT.format(
        epochs=counted(ordered[0].epochs, "epoch"), images=scored_images_text(settings.num_folds)
    )
    header = ("place", "predicted ms per image", *scores, "structure")
    return Section("Screened structures", [PageTable(header, rows), Paragraph(text)])


def _candidate_scores(candidate: TrainedCandidate, snapshot: Snapshot) -> list[Cell | str]:
    if candidate.status == "done":
        return _score_cells(candidate.score, snapshot)
    names = score_names(snapshot.settings.metric, quantised=_is_quantised(snapshot))
    return [*["-"] * (len(names) - 1), Cell(f"failed: {candidate.reason}", "text")]


def _latency_cells(
    candidates: list[TrainedCandidate], snapshot: Snapshot
) -> list[tuple[str, str, str]]:
    """For each candidate its latency on the target of the search, over the MasterNet's, and noise.

    Dashes stand for a candidate that was not measured.
    """
    measured = own_measured(snapshot)
    networks = [measured.get(each.structure) for each in candidates]
    ms = [None if n is None else n.network.ms_per_image for n in networks]
    ratios = [None if n is None else n.times_master for n in networks]
    words = ["" if n is None else noise_words(n.network) for n in networks]
    columns = (aligned_texts(ms), aligned_texts(ratios, 3), words)
    return list(zip(*columns, strict=True))
