"""The top of the page of a study: the result in one sentence, in a table, and the next step."""

from __future__ import annotations

import json
import shlex

from genets.latency import Budget
from genets.nas.selection.network_latency import LEAST_SHARE, LEAST_SHARE_ONE_THREAD
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate
from genets.report.html import Block, Code, PageTable, Paragraph, Section
from genets.report.study.facts import latency_conditions, own_measured
from genets.report.wording import (
    accuracy_words,
    aligned_texts,
    difference_text,
    noise_words,
    noisy_score_texts,
    score_names,
)
from genets.training.score import Metric, Score

LEAD_TEXT = (
    "The MasterNet is the network that the search started from. The winner is the network that the "
    "search exports. The budget is the largest latency that was allowed."
)
RATIO_INTERVAL_TEXT = (
    "at least twice as wide as the interval of the ratio to the MasterNet, and reaches on a calm "
    f"CPU at least {100 * LEAST_SHARE_ONE_THREAD:g} % to each side with one thread, and "
    f"{100 * LEAST_SHARE:g} % with several threads"
)
WORDS_TEXT = (
    "Both networks were measured in turn. A latency is the median time for one image, in ms, at "
    "the batch size of the target; low and high are the ends of its 95 % interval. With a budget "
    f"in x, the winner's interval is {RATIO_INTERVAL_TEXT}. A latency is noisy where its interval "
    "was still too wide when the time limit passed, and disturbed where something else used or "
    "slowed the device."
)
SCORES_TEXT = (
    "Top-1 is the share of the test images whose most probable class is the right one; the "
    "range in brackets is its 95 % interval, which comes from the number of images. "
    "Cross-entropy is in nats per image, and a lower one is better."
)
BALANCED_TEXT = (
    " Balanced accuracy is the mean over the classes of the share of right images. Its range comes "
    "from the number of images in classes of equal size that would be as informative."
)
INT8_TEXT = (
    " The target computes in int8. Scores in int8 are those of the network after quantisation, in "
    "the engine of the target; images of the training split set the value ranges. The other scores "
    "on this page, and the differences between networks, are those before quantisation. The files "
    "in the results folder are not quantised; the next steps show the command that writes the int8 "
    "files."
)
PAIRED_TEXT = (
    " The difference in accuracy is paired: both networks were scored on the same {images} test "
    "images. Beside the difference stands its 95 % interval over these images. Each network was "
    "trained once; other trainings would differ by more."
)


def headline(snapshot: Snapshot) -> str:
    """The result in one sentence, or the first missing part of an unfinished study."""
    if snapshot.budgets:
        missing = snapshot.missing()
        outcomes = [f"{each.budget}: {_outcome(each)}" for each in snapshot.budgets]
        return f"Unfinished: {missing[0]}" if missing else "; ".join(outcomes)
    selected = snapshot.selected
    if selected is None:
        return f"Unfinished: {snapshot.missing()[0]}"
    within = "within" if selected.margin >= 0 else "ABOVE"
    ms, budget = aligned_texts((selected.measured_ms, selected.budget_ms), 3)
    return f"{_outcome(snapshot)}; {ms} ms per image, {within} the budget of {budget} ms"


def _outcome(snapshot: Snapshot) -> str:
    """The speed and the accuracy of the winner compared with the MasterNet."""
    selected = snapshot.selected
    if selected is None:
        return "not met"
    times = selected.master_ms / selected.measured_ms
    speed = f"{times:.{1 if times >= 1 else 2}f} times as fast as the MasterNet"
    return f"{speed}, {accuracy_outcome(snapshot)}"


def accuracy_outcome(snapshot: Snapshot) -> str:
    """The accuracy of the winner compared with the MasterNet, in words."""
    counts, result = snapshot.class_counts, snapshot.result
    if counts is not None and counts.difference is not None:
        return difference_text(counts.difference)
    if result is None:
        return "not trained yet"
    master, winner = (Score.from_json(result[name]) for name in ("master", "winner"))
    return f"{accuracy_words(winner.top1 - master.top1)} (interval not stored)"


def lead(snapshot: Snapshot) -> str:
    """The words of the headline, explained; empty before a structure is selected."""
    if snapshot.selected is None:
        return ""
    counts = snapshot.class_counts
    if counts is None or counts.difference is None:
        return LEAD_TEXT
    return LEAD_TEXT + PAIRED_TEXT.format(images=counts.difference.images)


def result_section(snapshot: Snapshot) -> Section:
    """The winner beside the MasterNet; empty before a structure is selected."""
    selected, result = snapshot.selected, snapshot.result
    if selected is None:
        return Section("Result", [])
    blocks: list[Block] = [_table(snapshot, selected)]
    blocks += [Paragraph(budget_sentence(snapshot, selected)), Paragraph(WORDS_TEXT, True)]
    if result is not None:
        text = SCORES_TEXT + BALANCED_TEXT * (snapshot.settings.metric is Metric.BALANCED_ACCURACY)
        blocks.append(Paragraph(text + INT8_TEXT * tested_in_int8(snapshot), True))
    if snapshot.own_latency is not None:
        blocks.append(Paragraph(latency_conditions(snapshot.own_latency), True))
    return Section("Result", blocks)


def _table(snapshot: Snapshot, selected: Candidate) -> PageTable:
    metric, quantised = snapshot.settings.metric, tested_in_int8(snapshot)
    scores = score_names(metric, quantised=quantised, prefix="test ")
    header = ["network", "ms per image", "low", "high", "noise", *scores]
    low = high = None
    master_noise = ""
    in_turn = own_measured(snapshot).get(selected.structure)
    if in_turn is not None:
        low, high = in_turn.master_low_ms_per_image, in_turn.master_high_ms_per_image
        master_noise = "disturbed" * in_turn.master_disturbed
    columns = zip(
        aligned_texts((selected.master_ms, selected.measured_ms)),
        aligned_texts((low, selected.low_ms)),
        aligned_texts((high, selected.high_ms)),
        (master_noise, noise_words(selected)),
        strict=True,
    )
    rows = []
    for name, latency in zip(("MasterNet", "winner"), columns, strict=True):
        score = tested_score(snapshot, name.removesuffix("Net").lower())
        rows.append([name, *latency, *noisy_score_texts(score, metric, quantised=quantised)])
    return PageTable(header, rows, frozenset({1}))


def tested_score(snapshot: Snapshot, name: str) -> Score | None:
    """The score of `master` or `winner` on the test split; None before the search ends."""
    record, counts = (snapshot.result or {}).get(name), snapshot.class_counts
    images = None if counts is None else int(counts.winner.sum())
    return None if record is None else Score.from_json({"images": images, **record})


def tested_in_int8(snapshot: Snapshot) -> bool:
    """Whether a network was scored on the test split after quantisation."""
    scores = [tested_score(each, name) for each in snapshot.each_budget
              for name in ("master", "winner")]  # fmt: skip
    return any(score is not None and score.quantised is not None for score in scores)


def budget_sentence(snapshot: Snapshot, selected: Candidate) -> str:
    """The budget of the page, which all its figures use, and the part of it that is left."""
    asked = snapshot.budget
    relative = ""
    if Budget.parse(asked).is_relative:
        factor = asked.strip().rstrip("x")
        relative = f" ({asked}: {factor} times the latency of the MasterNet)"
    side = "below" if selected.margin >= 0 else "ABOVE"
    return (
        f"The budget is {selected.budget_ms:.4g} ms per image{relative}. The upper end of the "
        f"winner's interval is {abs(selected.margin):.1%} {side} the budget. The search predicted "
        f"{selected.predicted_ms:.4g} ms before it measured the winner."
    )


def _export_options(settings: SearchSettings) -> str:
    """The options with which `genets export` writes files for an int8 target."""
    target = settings.target
    if target.precision != "int8":
        return ""
    words = ["--engine", target.engine, "--precision", "int8", "--data", settings.data]
    if target.provider is not None:
        words += ["--provider", target.provider]
    return f"{shlex.join(words)} "


def next_steps(snapshot: Snapshot) -> Section:
    """Commands for the reader: load, predict, export, another budget; or how to continue."""
    study = shlex.quote(str(snapshot.folder))
    if snapshot.result is None or (snapshot.budgets and snapshot.missing()):
        return Section("Next step", [
            Paragraph("This command continues the search:"),
            Code([f"genets search --out {study}"]),
        ])  # fmt: skip
    folder = snapshot.reader.results_folder
    results = shlex.quote(str(folder))
    budget = snapshot.selected.budget_ms if snapshot.selected else 1.0
    return Section("Next steps", [
        Paragraph("Load the winner in Python, as a PyTorch network:"),
        Code(["import genets", f"network = genets.load({json.dumps(str(folder))})"]),
        Paragraph("Classify images, export the winner, and select for another budget without a new "
                  "search:"),
        Code([
            f"genets predict {results} photo.jpg",
            f"genets export {results} {_export_options(snapshot.settings)}--out deploy",
            f"genets select {study} --budget {0.8 * budget:.2g}ms --out faster",
        ]),
    ])  # fmt: skip
