"""The predicted classes of single images, as a table, as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from genets.latency.classification import ClassifiedImage
from genets.report.tables import csv_text, screen_table

Predicted = Sequence[ClassifiedImage]


def predictions_table(title: str, images: Predicted, names: Sequence[str]) -> Table:
    """One line for each image: its best class, and the next ones."""
    rows = []
    for image in images:
        (best, share), *others = _pairs(image)
        following = ", ".join(f"{names[number]} {share:.1%}" for number, share in others)
        rows.append([image.file, names[best], f"{share:.1%}", following])
    header = ["file", "class", "probability", "next"]
    return screen_table(title, header, rows, left=2, fold=("file", "class", "next"))


def predictions_csv(images: Predicted, names: Sequence[str]) -> str:
    """One line for each image; `class_2` is the second best class, and so on."""
    records = []
    for image in images:
        record: dict[str, Any] = {"file": image.file}
        for rank, (number, share) in enumerate(_pairs(image), 1):
            suffix = f"_{rank}" if rank > 1 else ""
            record |= {f"class{suffix}": names[number], f"probability{suffix}": share}
        records.append(record)
    return csv_text(records)


def predictions_record(
    images: Predicted, names: Sequence[str], unreadable: Mapping[str, str]
) -> dict[str, Any]:
    """The predictions, and the files that could not be read, for JSON."""
    return {
        "images": [
            {
                "file": image.file,
                "class": names[image.classes[0]],
                "probability": image.probabilities[0],
                "classes": [
                    {"class": names[number], "probability": share}
                    for number, share in _pairs(image)
                ],
            }
            for image in images
        ],
        "unreadable": [{"file": file, "reason": reason} for file, reason in unreadable.items()],
    }


def _pairs(image: ClassifiedImage) -> list[tuple[int, float]]:
    return list(zip(image.classes, image.probabilities, strict=True))
