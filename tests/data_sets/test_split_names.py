"""Misspelt names of split folders are named in the description of the folder, or in the error."""

import pytest
from folder_lab import fill

from genets.core.errors import DataError
from genets.data import load_data
from genets.data.split_names import suggest_split_for_class


def remarks(folder, **options):
    """The lines of a description about doubtful names."""
    lines = load_data(folder, 8, **options).description.splitlines()
    return [line.removeprefix(f"{folder}: ") for line in lines if ": the folder " in line]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("tset", "test"), ("trian", "train"), ("valid ation", "validation"), ("Tests", "test"),
        ("vaildation", "validation"), ("tes_t", "test"), ("test_images", "test"),
        ("train2017", "train"), ("evl", "eval"),
    ],
)  # fmt: skip
def test_a_misspelt_split_beside_train_is_named(tmp_path, name, split):
    fill(tmp_path / "train")
    fill(tmp_path / name, count=3)
    assert remarks(tmp_path) == [
        f"the folder {name!r} is neither a split nor a class, and is left out; "
        f"did you mean {split}?"
    ]


def test_names_that_are_not_close_are_only_counted(tmp_path):
    for name in ("train", "test", "backup", "extra", "notes"):
        fill(tmp_path / name)
    assert remarks(tmp_path) == []


def test_a_misspelt_split_beside_classes_is_named(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "tset")
    assert remarks(tmp_path) == [
        "the folder 'tset' is neither a split nor a class, and is left out; did you mean test?"
    ]


def test_a_split_that_becomes_a_class_is_named(tmp_path):
    fill(tmp_path, classes=("cat", "dog", "test"))
    assert remarks(tmp_path) == [
        "the folder 'test' holds no class folders, so it is read as a class"
    ]


@pytest.mark.parametrize(
    ("name", "beside", "split"),
    [("tset", "train", "test"), ("Trian", "test", "train"), ("vla", "Test", "val")],
)
def test_a_misspelt_split_that_becomes_a_class_is_named(tmp_path, name, beside, split):
    fill(tmp_path, classes=("cat", "dog", name))
    assert remarks(tmp_path) == []
    fill(tmp_path, classes=(beside,))
    assert f"the folder {name!r} is read as a class; did you mean {split}?" in remarks(tmp_path)


CLASSES = (
    "text", "best", "brain", "train station", "valve", "dove", "rain", "strain", "oval", "vial",
    "veal", "vale", "leva", "drain", "trains", "rest", "tests", "t", "devil", "level", "tester",
    "staining",
)  # fmt: skip


def test_usual_class_names_are_no_misspelt_splits(tmp_path):
    fill(tmp_path, classes=CLASSES)
    assert remarks(tmp_path) == []
    for split in ("train", "val", "test"):
        assert [n for n in CLASSES if suggest_split_for_class(n, [*CLASSES, split])] == []


def test_a_split_that_is_there_is_not_suggested():
    assert suggest_split_for_class("tset", ["tset", "train"]) == "test"
    assert suggest_split_for_class("tset", ["tset", "train", "eval"]) is None
    assert suggest_split_for_class("tset", ["tset", "cat"]) is None


def test_errors_name_misspelt_splits(tmp_path):
    fill(tmp_path / "trian")
    fill(tmp_path / "test")
    with pytest.raises(DataError, match=r"no train folder; did you mean train for 'trian'\?$"):
        load_data(tmp_path, 8)
    (line,) = remarks(tmp_path, splits=("test",))
    assert "'trian'" in line
    (tmp_path / "test").rename(tmp_path / "tset")
    with pytest.raises(DataError, match=r"did you mean train for 'trian' and test for 'tset'\?$"):
        load_data(tmp_path, 8)
