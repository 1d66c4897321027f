"""Only the splits that are needed are read, and only they must have images."""

from pathlib import Path

import pytest
from folder_lab import fill
from PIL import Image

from genets.core.errors import DataError
from genets.data import load_data


def sizes(data):
    return [len(split) for split in (data.train, data.validation, data.test)]


def read_files(monkeypatch, run):
    """The files that are opened while `run` is called."""
    opened = set()
    open_image = Image.open
    monkeypatch.setattr(
        Image,
        "open",
        lambda file, *rest, **how: opened.add(str(file)) or open_image(file, *rest, **how),
    )
    run()
    monkeypatch.undo()
    return opened


def test_only_the_needed_split_is_checked(tmp_path, monkeypatch):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "test", count=3)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"broken")
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"broken")
    opened = read_files(monkeypatch, lambda: load_data(tmp_path, 8, splits=("test",), check=True))
    assert {Path(path).relative_to(tmp_path).parts[0] for path in opened} == {"test"}
    data = load_data(tmp_path, 8, splits=("test",))
    assert sizes(data) == [0, 0, 6]
    assert data.broken.images == 6
    assert data.description.endswith(
        "2 classes (cat, dog); test: 6 images (test); not read: train, validation"
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_stored_test_split_needs_no_training_images_to_cut(tmp_path, count):
    fill(tmp_path / "train", count=count)
    fill(tmp_path / "test", count=1)
    assert sizes(load_data(tmp_path, 8, splits=("test",))) == [0, 0, 2]
    if count == 1:
        with pytest.raises(DataError, match="at least 2 are needed"):
            load_data(tmp_path, 8)


def test_a_test_folder_alone(tmp_path):
    fill(tmp_path / "Test", count=2)
    assert sizes(load_data(tmp_path, 8, splits=("test",))) == [0, 0, 4]
    for splits in (("validation",), ("test", "train")):
        with pytest.raises(DataError, match="has Test but no train folder"):
            load_data(tmp_path, 8, splits=splits)


def test_classes_of_the_training_split_keep_their_numbers(tmp_path):
    fill(tmp_path / "train", classes=("ant", "bee", "cow"))
    fill(tmp_path / "test", classes=("ant", "bee", "cow"), count=1)
    data = load_data(tmp_path, 8, splits=("test",))
    assert data.class_names == ("ant", "bee", "cow")
    assert list(data.test.images.labels) == [0, 1, 2]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("stored", [(), ("val",), ("test",), ("val", "test")])
def test_a_needed_split_is_the_same_as_with_the_others(tmp_path, split, stored):
    fill(tmp_path / "train" if stored else tmp_path, count=20)
    for name in stored:
        fill(tmp_path / name, count=5)
    whole = load_data(tmp_path, 8, seed=3)
    data = load_data(tmp_path, 8, seed=3, splits=(split,))
    expected, found = getattr(whole, split), getattr(data, split)
    assert list(found.positions) == list(expected.positions)
    assert sum(sizes(data)) == len(expected)


def test_one_cut_needs_fewer_images_than_two(tmp_path):
    fill(tmp_path, count=2)
    assert sizes(load_data(tmp_path, 8, splits=("test",))) == [0, 0, 2]
    with pytest.raises(DataError, match="at least 3 are needed"):
        load_data(tmp_path, 8, splits=("validation",))


def test_nothing_is_cut_where_all_images_are_scored(tmp_path):
    data = load_data(fill(tmp_path / "one", count=1), 8, cut_missing=False)
    assert sizes(data) == [2, 0, 0]
    assert data.description.endswith("2 classes (cat, dog); not split: 2 images")
    fill(tmp_path / "own" / "val", count=2)
    fill(tmp_path / "own" / "test", count=1)
    assert sizes(load_data(tmp_path / "own", 8, cut_missing=False)) == [0, 4, 2]
