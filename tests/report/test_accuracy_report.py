"""What `genets eval` shows: by class, confusions, and a picture of them."""

import csv
import json

import numpy as np
import pytest
from rich.console import Console

from genets.latency import Target
from genets.latency.evaluation import Accuracy, Evaluation
from genets.report.evaluation.confusion import (
    MAX_CLASSES,
    OTHERS,
    confusion_chart,
    confusion_table,
)
from genets.report.evaluation.tables import accuracy_table, classes_table, write_evaluation

INT8, FP32 = Target(engine="openvino", precision="int8", threads=1), Target(threads=1)
COUNTS = np.array([[7, 2, 1], [0, 4, 0], [0, 0, 0]])


def accuracy(counts):
    right, images = int(np.trace(counts)), int(counts.sum())
    return Accuracy(right / images, 1.0, 0.5, images, counts, counts.sum(1))


def evaluation(names=("cat", "dog", "cow"), counts=COUNTS, weights="results folder"):
    scores = {INT8: accuracy(counts), FP32: accuracy(np.diag(counts.sum(1)))}
    return Evaluation(
        "mine", weights, "photos", "test", tuple(names), 32, (0.0,) * 3, (1.0,) * 3, scores
    )


def shown(*tables):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*tables)
    return capture.get()


def test_records_by_class_and_confusions():
    record = json.loads(json.dumps(evaluation().to_json(), allow_nan=False))
    int8, fp32 = record["accuracy"].values()
    assert int8["top1"] == pytest.approx(11 / 14)
    assert [(c["class"], c["images"], c["right"], c["taken_for_it"]) for c in int8["classes"]] == [
        ("cat", 10, 7, 7), ("dog", 4, 4, 6), ("cow", 0, 0, 1),
    ]  # fmt: skip
    assert int8["classes"][1]["precision"] == pytest.approx(4 / 6)
    assert (int8["classes"][2]["top1"], int8["classes"][2]["precision"]) == (None, 0)
    assert int8["confusions"] == [
        {"class": "cat", "taken_for": "dog", "images": 2},
        {"class": "cat", "taken_for": "cow", "images": 1},
    ]
    assert fp32["confusions"] == []
    assert (record["split"], record["trained"], record["resolution"]) == ("test", True, 32)


def test_tables_for_the_screen():
    text = shown(accuracy_table(evaluation()), classes_table(evaluation()))
    assert "mine on 14 images of photos, test" in text
    assert "78.57%" in text
    assert "100.00%" in text  # fp32's top-1; of three classes there is no top-5
    lines = [line.split("│")[1:-1] for line in text.splitlines() if "cat " in line]
    assert [cell.strip() for cell in lines[0]] == [
        "cat",
        "10",
        "70.0%",
        "100.0%",
        "100.0%",
        "dog (2)",
    ]
    assert "cow " not in text, "a class without images has no line"
    assert "fresh weights" in shown(accuracy_table(evaluation(weights="fresh")))


def test_balanced_accuracy_is_shown_where_the_classes_have_unequal_sizes():
    text = shown(accuracy_table(evaluation()))
    assert "balanced accuracy" in text
    assert "85.00%" in text  # the mean of 7 / 10 and 4 / 4
    equal = np.array([[7, 3, 0], [0, 9, 1], [2, 2, 6]])
    assert "balanced accuracy" not in shown(accuracy_table(evaluation(counts=equal)))
    assert evaluation(counts=equal).to_json()["accuracy"][FP32.name]["balanced_accuracy"] == 1.0


def test_of_many_classes_those_that_are_recognised_least():
    names = [f"c{number}" for number in range(100)]
    counts = np.diag(np.full(100, 9))
    counts[37, 37:39] = 0, 9
    counts[5, 5:7] = 8, 1
    text = shown(classes_table(evaluation(names, counts)))
    assert "The 20 classes of 100 that are recognised least" in text
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == 20
    assert "c37 " in rows[0]
    assert "c38 (9)" in rows[0]
    assert "c5 " in rows[1]


def test_the_picture_has_the_classes_with_the_most_mistakes():
    generator = np.random.default_rng(1)
    counts = generator.integers(0, 3, (60, 60)) + np.diag(np.full(60, 50))
    kept = confusion_table(counts, [f"c{n}" for n in range(60)])
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    assert len(kept.classes) == MAX_CLASSES
    assert min(wrong[kept.classes]) >= max(np.delete(wrong, kept.classes))
    assert (kept.counts.sum(1) == counts[kept.classes].sum(1)).all(), "no image is lost"
    assert kept.names[-1] == OTHERS
    few = confusion_table(counts[:9, :9], list("abcdefghi"))
    assert (few.counts == counts[:9, :9]).all()
    assert few.names == list("abcdefghi")


def test_names_that_are_long_or_equal_when_shortened_stay_apart():
    names = ["x" * 40, "x" * 50, OTHERS]
    found = confusion_table(COUNTS, names).names
    assert len(set(found)) == 3
    assert OTHERS not in found
    assert all(len(name) <= 30 for name in found)


def test_cells_of_the_picture():
    chart = confusion_chart(confusion_table(COUNTS, ["cat", "dog", "cow"])).to_dict()
    values = chart["data"]["values"]
    assert len(values) == 6, "the class without images has none"
    assert {(v["class"], v["taken"]): v["shown"] for v in values}["cat", "dog"] == "20%"
    assert sum(v["share"] for v in values if v["class"] == "cat") == pytest.approx(1)


def test_files(tmp_path):
    names = ("<b>cat</b>", "[red]dog[/red]", 'c"o,w')
    found = evaluation(names)
    files = write_evaluation(found, tmp_path / "new" / "folder")
    assert json.loads(files["JSON"].read_text()) == found.to_json()
    classes = list(csv.DictReader(files["classes"].read_text().splitlines()))
    assert [row["class"] for row in classes] == [*names, *names]
    assert classes[0]["target"] == INT8.name
    confusions = list(csv.DictReader(files["confusions"].read_text().splitlines()))
    assert [(row["taken_for"], row["images"]) for row in confusions] == [
        (names[1], "2"),
        (names[2], "1"),
    ]
    for target in (INT8, FP32):
        assert files[f"picture {target.name}"].read_bytes().startswith(b"\x89PNG")
    assert "[red]dog" in shown(classes_table(found))
