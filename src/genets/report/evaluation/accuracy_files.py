"""The files of an evaluation: pictures of confusions, CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from genets.core.files import write_atomic
from genets.latency.evaluation import Accuracy
from genets.report.evaluation.confusion import save_confusion
from genets.report.evaluation.record import Evaluation

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
    write_atomic(files["classes"], _csv(CLASSES, found, found.classes_of))
    write_atomic(files["confusions"], _csv(CONFUSIONS, found, found.confusions_of))
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
