"""Folds of the training images, for cross-validation."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from folder_lab import fill, write

from counted_images import CountedImages
from genets.core.errors import DataError
from genets.data import load_data
from genets.data.folds import choose_num_folds, folds_to_score, in_fold, obstacle_to_folds
from genets.data.split import Fold, ImageData, cut_fold

LABELS = [0] * 11 + [1] * 7 + [2] * 2


def in_folds(name: str | Path, count: int, **options: int) -> list[ImageData]:
    return [load_data(name, 8, fold=Fold(n, count), check=False, **options) for n in range(count)]


@pytest.mark.parametrize("count", [2, 5, 20])
def test_every_image_is_in_one_fold(count: int) -> None:
    every = []
    for number in range(count):
        stay, off = cut_fold(LABELS, Fold(number, count))
        assert stay == sorted(set(range(len(LABELS))) - set(off))
        every += off
    assert sorted(every) == list(range(len(LABELS)))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_folds_have_equal_sizes_also_of_each_class(count: int) -> None:
    folds = [[LABELS[n] for n in cut_fold(LABELS, Fold(k, count))[1]] for k in range(count)]
    for sizes in ([len(fold) for fold in folds], *([f.count(c) for f in folds] for c in range(3))):
        assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides_the_folds() -> None:
    assert cut_fold(LABELS, Fold(0, 3), seed=1) == cut_fold(LABELS, Fold(0, 3), seed=1)
    assert cut_fold(LABELS, Fold(0, 3), seed=1) != cut_fold(LABELS, Fold(0, 3), seed=2)


@pytest.mark.parametrize(("number", "count"), [(-1, 5), (5, 5), (0, 1), (0, 0)])
def test_a_fold_that_does_not_exist_is_refused(number: int, count: int) -> None:
    with pytest.raises(DataError, match=f"fold {number} of {count} does not exist"):
        Fold(number, count)


def test_a_folder_gives_folds_of_all_images_outside_its_test_split(tmp_path: Path) -> None:
    usual = load_data(fill(tmp_path, count=15), 8)
    outside = sorted([*usual.train.names(), *usual.validation.names()])
    folds = in_folds(tmp_path, 4)
    assert sorted(name for data in folds for name in data.validation.names()) == outside
    for data in folds:
        assert sorted([*data.train.names(), *data.validation.names()]) == outside
        assert data.test.names() == usual.test.names()
        assert data.class_names == usual.class_names
        assert set(data.validation.class_counts().values()) == {3}
    again = in_folds(tmp_path, 4)
    assert [data.train.names() for data in again] == [data.train.names() for data in folds]
    other = in_folds(tmp_path, 4, seed=1)
    assert [data.train.names() for data in other] != [data.train.names() for data in folds]


def test_a_stored_validation_split_is_in_no_fold(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        fill(tmp_path / split, count=count)
    train = load_data(tmp_path, 8).train.names()
    folds = in_folds(tmp_path, 3)
    assert sorted(name for data in folds for name in data.validation.names()) == sorted(train)
    assert [len(data.test) for data in folds] == [4, 4, 4]


def test_a_class_with_fewer_images_than_folds_is_missing_in_some(tmp_path: Path) -> None:
    fill(tmp_path / "train", count=6)
    write(tmp_path / "train" / "fox" / "0.png")
    for split in ("val", "test"):
        fill(tmp_path / split, ("cat", "dog", "fox"), count=1)
    folds = in_folds(tmp_path, 3)
    assert sorted(data.validation.class_counts()[2] for data in folds) == [0, 0, 1]
    assert all(data.class_names == ("cat", "dog", "fox") for data in folds)


def test_the_digits_give_folds_of_all_digits_outside_the_test_split() -> None:
    usual, folds = load_data("digits", 8), in_folds("digits", 2)
    joint = folds[0].validation.class_counts() + folds[1].validation.class_counts()
    drawings = Counter({label: 4 * n for label, n in usual.train.class_counts().items()})
    assert joint == drawings + usual.validation.class_counts()
    assert all(data.test.class_counts() == usual.test.class_counts() for data in folds)
    assert [data.mean for data in folds] == [usual.mean] * 2


@pytest.mark.parametrize(
    ("train", "validation", "cut", "expected"),
    [
        (16, 4, ("validation",), 5),
        (800, 199, ("validation",), 5),
        (800, 200, ("validation",), 1),
        (320, 80, (), 5),  # a stored validation split is in no fold
        (50, 150, (), 1),  # such a split is larger than all folds
        (7, 2, ("validation",), 1),  # too few images for folds
    ],
)
def test_few_validation_images_need_folds(
    train: int, validation: int, cut: tuple[str, ...], expected: int
) -> None:
    digits = load_data("digits", 8)
    data = replace(
        digits, train=CountedImages(train), validation=CountedImages(validation), cut_splits=cut
    )
    assert choose_num_folds(data) == expected


@pytest.mark.parametrize(
    ("classes", "validation", "cut", "obstacle"),
    [
        (20, 10, (), "20 of 20 classes have one training image"),
        (13, 10, (), ""),  # 7 of 13 classes have two images
        (12, 12, (), ""),
        (20, 20, ("validation",), ""),  # the validation images are a second image of each class
    ],
)
def test_classes_of_one_image_are_not_scored_in_folds(
    classes: int, validation: int, cut: tuple[str, ...], obstacle: str
) -> None:
    """The networks of a fold have never seen the class of its only image."""
    train, few = CountedImages(20, classes), CountedImages(validation, classes)
    data = replace(load_data("digits", 8), train=train, validation=few, cut_splits=cut)
    assert obstacle_to_folds(data) == obstacle
    assert choose_num_folds(data) == (1 if obstacle else 5)


@pytest.mark.parametrize(("count", "folds"), [(10, 5), (150, 4), (240, 3), (490, 2)])
def test_as_many_folds_are_scored_as_hold_200_images(
    tmp_path: Path, count: int, folds: int
) -> None:
    """There are two classes with as many images each."""
    data = some_photos(tmp_path, count)
    scored = folds_to_score(data)
    assert len(scored) == folds
    for fold in scored:
        loaded = load_data(data.name, 8, seed=3, fold=fold, check=False)
        for split in ("train", "validation"):
            assert getattr(in_fold(data, fold), split).names() == getattr(loaded, split).names()
    images = sum(len(in_fold(data, fold).validation) for fold in scored)
    assert images == 2 * count if folds == 5 else images >= 200


def test_a_stored_or_large_validation_split_is_scored_as_it_is(tmp_path: Path) -> None:
    assert folds_to_score(some_photos(tmp_path / "stored", 30, stored=20)) == []
    assert folds_to_score(some_photos(tmp_path / "large", 520)) == []
    assert folds_to_score(replace(load_data("digits", 8), validation=range(100))) == []


def some_photos(root: Path, count: int, stored: int = 0) -> ImageData:
    """Empty files but for the test split. stored: Images of each class for validation."""
    fill(root / "test", "ab", count=1)
    for part, images in (("train", count), ("val", stored)):
        for label, number in product("ab", range(images)):
            path = root / part / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return load_data(root, 8, seed=3, check=False)
