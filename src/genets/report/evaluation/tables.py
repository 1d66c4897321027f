"""Tables of `genets eval` and `genets export`, and the files of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from genets.core.files import write_atomic
from genets.core.json_files import json_text
from genets.latency.evaluation import Accuracy, Evaluation
from genets.latency.export import CONTRACT_FILE, SCRIPT_FILE
from genets.report.evaluation.confusion import draw_confusion, most_frequent_confusion
from genets.report.files import write_files
from genets.report.tables import Fact, csv_text, facts_table, screen_table
from genets.report.wording import score_text
from genets.training.score import Metric

MAX_CLASSES = 20  # in a table on the screen
MAX_TOP5_CLASSES = 5  # the right one of five classes is always among the best five
SPLIT_WORDS = {"training": " (split of the training)", "unknown": " (split unknown)"}
PREDICTIONS = ("file", "true_class", "predicted_class", "probability")
CLASSES = ("class", "images", "right", "taken_for_it", "top1", "top5", "precision")
CONFUSIONS = ("class", "taken_for", "images")


def accuracy_table(evaluation: Evaluation) -> Table:
    """The scores on each target."""
    images = next(iter(evaluation.accuracy.values())).images
    untrained = "" if evaluation.trained else ", fresh weights"
    title = (
        f"{evaluation.network}{untrained} on {images} images of {evaluation.data}, "
        f"{evaluation.split}{SPLIT_WORDS.get(evaluation.split_from, '')}"
    )
    has_top5 = len(evaluation.class_names) > MAX_TOP5_CLASSES
    unbalanced = next(iter(evaluation.accuracy.values())).is_unbalanced
    rows = [
        [
            target.name,
            score_text(score.top1, Metric.TOP1),
            score_text(score.top5 if has_top5 else None, Metric.TOP1),
            score_text(score.cross_entropy, Metric.CROSS_ENTROPY),
            *[score_text(score.balanced_accuracy, Metric.BALANCED_ACCURACY)] * unbalanced,
        ]
        for target, score in evaluation.accuracy.items()
    ]
    header = ["target", "top-1", "top-5", "cross-entropy", *["balanced accuracy"] * unbalanced]
    return screen_table(title, header, rows)


def classes_table(evaluation: Evaluation) -> Table:
    """The scores of each class; of many classes, those with the lowest top-1 on target 1."""
    scores = list(evaluation.accuracy.values())
    first = scores[0].classes
    numbers = [number for number, score in enumerate(first) if score.images]
    title = "By class"
    if len(numbers) > MAX_CLASSES:
        title = f"The {MAX_CLASSES} classes of {len(numbers)} that are recognised least"
        numbers = sorted(numbers, key=lambda n: first[n].top1 or 0.0)[:MAX_CLASSES]
    rows = [
        [
            evaluation.class_names[number],
            str(first[number].images),
            *(_percent(score.classes[number].top1) for score in scores),
            _percent(first[number].precision),
            most_frequent_confusion(scores[0].confusion, evaluation.class_names, number),
        ]
        for number in numbers
    ]
    targets = [f"top-1, {target.engine} {target.precision}" for target in evaluation.accuracy]
    header = ["class", "images", *targets, "precision", "most often taken for"]
    return screen_table(title, header, rows, fold=("class", "most often taken for"))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def export_table(name: str, folder: Path, contract: Mapping[str, Any]) -> Table:
    """The exported files, the input that they need, and their accuracy when loaded again."""
    fed, quantisation = contract["input"], contract["quantisation"]
    normalisation, resized, quantised = "not known", "not known", "no"
    if fed["mean"] is not None:
        normalisation = f"{_triple(fed['mean'])}, {_triple(fed['std'])}"
        resize, crop = fed["resize"], fed["crop"]
        resized = (
            f"{resize['resized_side']} side to {resize['pixels']} pixels, "
            f"{resize['interpolation']}; middle {crop['width']} x {crop['height']}"
        )
    if quantisation is not None:
        quantised = f"{quantisation['tool']}; {quantisation['images']} images"
    difference = contract["largest_difference_when_loaded_again"]
    return facts_table(
        name,
        [
            *_file_facts(folder, contract),
            ("input", f"{fed['name']}, {fed['dtype']} {tuple(fed['shape'])}, {fed['values']}"),
            ("resize, crop", resized),
            ("mean, std", normalisation),
            ("quantised", quantised),
            ("loaded again", f"outputs differ by {difference:.2g} at most"),
        ],
    )


def _file_facts(folder: Path, contract: Mapping[str, Any]) -> Iterable[Fact]:
    """The files, and which of them takes how many images."""
    batch_size, measured = contract["target"]["batch_size"], contract["measured"]
    is_free = contract["batch_dimension"] == "free"
    fixed = f"exactly {batch_size} images in one run, as genets measure times it"
    for file in contract["files"]:
        yield "file", f"{folder / file}: {'any number of images in one run' if is_free else fixed}"
    for file in measured["files"] if measured else ():
        yield "measured file", f"{folder / file}: {fixed}"
    yield "contract", str(folder / CONTRACT_FILE)
    yield "script", f"{folder / SCRIPT_FILE}: classifies image files without genets"


def _triple(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def write_predictions(evaluation: Evaluation, names: Sequence[str], path: Path) -> None:
    """Write the prediction for each image on the first target as CSV.

    Args:
        evaluation: The evaluation.
        names: The names of the images, in the order of the split.
        path: The file.

    Raises:
        TargetError: Other images could be read in another pass.
        OSError: The file cannot be written.
    """
    text = csv_text(evaluation.prediction_records(names), PREDICTIONS)
    write_atomic(path, text.encode("utf-8", "surrogateescape"))  # file names may be no UTF-8


def write_evaluation(evaluation: Evaluation, folder: Path) -> dict[str, Path]:
    """Write JSON, CSV and pictures into `folder`; returns the paths. Raises OSError."""

    def by_target(
        make_records: Callable[[Accuracy], list[dict[str, Any]]], names: tuple[str, ...]
    ) -> str:
        records = [
            {"target": target.name} | record
            for target, accuracy in evaluation.accuracy.items()
            for record in make_records(accuracy)
        ]
        return csv_text(records, ["target", *names])

    contents: dict[str, tuple[str, str | bytes]] = {
        "JSON": ("eval.json", json_text(evaluation.to_json())),
        "classes": ("classes.csv", by_target(evaluation.class_records, CLASSES)),
        "confusions": ("confusions.csv", by_target(evaluation.confusion_records, CONFUSIONS)),
    }
    for target in evaluation.accuracy:
        picture = draw_confusion(evaluation, target)
        contents[f"picture {target.name}"] = (f"confusion-{target.name}.png", picture)
    return write_files(folder, contents)
