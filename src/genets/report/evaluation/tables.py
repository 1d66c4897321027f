"""Tables of `genets eval` and `genets export`.

The files of an evaluation: pictures of confusions, CSV and JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from genets.core.files import write_atomic
from genets.latency.evaluation import Accuracy, Evaluation
from genets.report.evaluation.confusion import save_confusion

MOST_CLASSES = 20  # in a table on the screen
FEW_CLASSES = 5  # of which the right one is always among the best five


def accuracy_table(found: Evaluation) -> Table:
    """One line for each target."""
    counted = next(iter(found.accuracy.values())).images
    untrained = "" if found.trained else ", fresh weights"
    title = f"{found.network}{untrained} on {counted} images of {found.data}, {found.split}"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("target", no_wrap=True)
    for column in ("top-1", "top-5", "cross-entropy"):
        table.add_column(column, justify="right", no_wrap=True)
    for target, one in found.accuracy.items():
        top5 = f"{one.top5:.2%}" if len(found.class_names) > FEW_CLASSES else "-"
        table.add_row(target.name, f"{one.top1:.2%}", top5, f"{one.cross_entropy:.4f}")
    return table


def classes_table(found: Evaluation) -> Table:
    """By class; of many, those that the first target recognises least."""
    scores = list(found.accuracy.values())
    first = scores[0].classes
    numbers = [number for number, one in enumerate(first) if one.images]
    title = "By class"
    if len(numbers) > MOST_CLASSES:
        title = f"The {MOST_CLASSES} classes of {len(numbers)} that are recognised least"
        numbers = sorted(numbers, key=lambda n: first[n].top1 or 0.0)[:MOST_CLASSES]
    table = Table(title=Text(title), title_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    for target in found.accuracy:
        table.add_column(f"top-1, {target.engine} {target.precision}", justify="right")
    table.add_column("precision", justify="right")
    table.add_column("most often taken for", overflow="fold")
    for number in numbers:
        shares = [_percent(one.classes[number].top1) for one in scores]
        table.add_row(
            Text(found.class_names[number]),
            str(first[number].images),
            *shares,
            _percent(first[number].precision),
            Text(_most_often(found, scores[0], number)),
        )
    return table


def _most_often(found: Evaluation, accuracy: Accuracy, number: int) -> str:
    row = accuracy.confusion[number].copy()
    row[number] = 0
    other = int(row.argmax())
    return f"{found.class_names[other]} ({row[other]})" if row[other] else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _colours(*triples: Iterable[float]) -> str:
    return ", ".join(f"({', '.join(f'{value:.4g}' for value in triple)})" for triple in triples)


def export_table(name: str, folder: Path, contract: Mapping[str, Any]) -> Table:
    """What was written, what it must be fed, and how close it is when loaded again."""
    fed, how = contract["input"], contract["quantisation"]
    facts = [
        *(("file", str(folder / file)) for file in (*contract["files"], "contract.json")),
        ("input", f"{fed['name']}, {fed['dtype']} {tuple(fed['shape'])}, {fed['values']}"),
        ("mean, std", "not known" if fed["mean"] is None else _colours(fed["mean"], fed["std"])),
        ("quantised", "no" if how is None else f"{how['tool']}; {how['images']} images"),
        ("loaded again", f"differs by {contract['largest_difference_when_loaded_again']:.2g}"),
    ]
    table = Table(title=Text(name), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact, value in facts:
        table.add_row(fact, Text(value))
    return table


CLASSES = ("class", "images", "right", "taken_for_it", "top1", "top5", "precision")
CONFUSIONS = ("class", "taken_for", "images")


def write_evaluation(found: Evaluation, folder: Path) -> dict[str, Path]:
    """Write all into `folder`, made if it is not there; what was written, by name.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "JSON": folder / "eval.json",
        "classes": folder / "classes.csv",
        "confusions": folder / "confusions.csv",
    }
    text = json.dumps(found.to_json(), indent=2, allow_nan=False)
    write_atomic(files["JSON"], text + "\n")
    write_atomic(files["classes"], _csv(CLASSES, found, found.class_records))
    write_atomic(files["confusions"], _csv(CONFUSIONS, found, found.confusion_records))
    for target in found.accuracy:
        files[f"picture {target.name}"] = path = folder / f"confusion-{target.name}.png"
        save_confusion(found, target, path)
    return files


def _csv(
    names: tuple[str, ...],
    found: Evaluation,
    records_of: Callable[[Accuracy], list[dict[str, Any]]],
) -> str:
    """The records of each target."""
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=["target", *names], lineterminator="\n")
    writer.writeheader()
    for target, accuracy in found.accuracy.items():
        writer.writerows({"target": target.name} | record for record in records_of(accuracy))
    return text.getvalue()
