"""Class folders whose names tables, pictures and UTF-8 cannot hold."""

import os

import numpy as np
from PIL import Image

from genets.core.errors import printable
from genets.data import load_data
from genets.latency import Target
from genets.latency.evaluation import Accuracy, Evaluation
from genets.report.evaluation.tables import write_evaluation


def test_printable():
    assert printable("Käse 寿司 [b]{0}%s") == "Käse 寿司 [b]{0}%s"
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"


def test_they_are_escaped(tmp_path):
    for name in (b"line\nbreak", b"colour\x1b[31m", b"latin\xe9"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        for number in range(3):
            Image.new("RGB", (9, 9)).save(os.fsdecode(folder) + f"/{number}.png")
    names = load_data(tmp_path, 8).class_names
    assert names == ("colour\\x1b[31m", "latin\\udce9", "line\\nbreak")
    accuracy = Accuracy(1.0, 1.0, 0.1, 3, np.eye(3, dtype=np.int64), np.ones(3, dtype=np.int64))
    found = Evaluation("a\x1b", "fresh", "photos\udcff", "test", names, 8, (0.0,) * 3, (1.0,) * 3,
                       {Target(threads=1): accuracy})  # fmt: skip
    files = write_evaluation(found, tmp_path / "out")
    assert all(path.stat().st_size for path in files.values())
    assert "latin\\udce9" in files["classes"].read_text()
