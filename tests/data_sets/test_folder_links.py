"""Links in a folder of images: each real file is read once, and nothing loops."""

import os
from pathlib import Path

import pytest
from folder_lab import fill, write

from genets.core.errors import DataError
from genets.data import load_data

SPLITS = ("train", "validation", "test")


def images_of(data, split):
    part = getattr(data, split)
    return [part.images.paths[i] for i in part.positions]


def all_images(data):
    return [path for split in SPLITS for path in images_of(data, split)]


def check_each_once(data, count):
    real = [os.path.realpath(path) for path in all_images(data)]
    assert len(real) == len(set(real)) == count


def test_class_folders_may_be_links(tmp_path):
    real = fill(tmp_path / "real")
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(real / name)
    data = load_data(tmp_path / "data", 8)
    check_each_once(data, 20)
    assert data.fingerprint == load_data(real, 8).fingerprint
    assert "left out" not in data.description


def test_the_same_link_made_twice(tmp_path):
    """The second `ln -s` lands inside the first link's target."""
    real = fill(tmp_path / "real")
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(real / name)
        (real / name / name).symlink_to(f"../{name}")
    data = load_data(tmp_path / "data", 8)
    check_each_once(data, 20)
    assert "2 links that lead back to a folder above (cat/cat, dog/dog)" in data.description


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
@pytest.mark.parametrize("place", ["cat", ""])
def test_links_to_a_folder_above(tmp_path, place, target):
    root = fill(tmp_path / "photos" / "data")
    (root / place / "up").symlink_to(target)
    data = load_data(root, 8)
    check_each_once(data, 20)
    assert data.class_names == ("cat", "dog")
    assert "1 link that leads back to a folder above" in data.description
    assert str(Path(place, "up")) in data.description


def test_links_to_themselves(tmp_path):
    for place, name in (("cat", "itself.png"), ("cat", "itself"), ("", "self")):
        (fill(tmp_path) / place / name).symlink_to(name)
    with pytest.warns(UserWarning, match=r"itself\.png cannot be read"):
        data = load_data(tmp_path, 8)
    assert len(all_images(data)) == 21
    assert data.class_names == ("cat", "dog")
    assert "2 links to nothing (self, cat/itself)" in data.description


def test_two_classes_that_link_to_each_other(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "other").symlink_to("../dog")
    (tmp_path / "dog" / "other").symlink_to("../cat")
    data = load_data(tmp_path, 8)
    check_each_once(data, 20)
    for path, label in zip(data.train.images.paths, data.train.images.labels, strict=True):
        assert Path(path).parent.name == data.class_names[label]
    assert "links to images that are read already" in data.description


def test_many_links_between_folders_end(tmp_path):
    """Each of twelve folders links to all others: 12! paths lead through them."""
    fill(tmp_path)
    for one in range(12):
        write(tmp_path / "cat" / f"f{one}" / "x.png", seed=one)
        for other in range(12):
            if one != other:
                (tmp_path / "cat" / f"f{one}" / f"l{other}").symlink_to(f"../f{other}")
    check_each_once(load_data(tmp_path, 8), 32)


def test_many_links_between_folders_without_images_end(tmp_path):
    fill(tmp_path)
    for one in range(12):
        (tmp_path / "other" / f"f{one}").mkdir(parents=True)
        for other in range(12):
            if one != other:
                (tmp_path / "other" / f"f{one}" / f"l{other}").symlink_to(f"../f{other}")
    data = load_data(tmp_path, 8)
    assert "1 folder that holds only folders (other)" in data.description


def test_links_to_one_file(tmp_path):
    cache = fill(tmp_path / "cache", classes=("x",), count=12) / "x"
    fill(tmp_path / "data" / "dog")
    for number in range(12):
        for copy in ("a", "b"):
            link = tmp_path / "data" / "cat" / f"{number}{copy}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(cache / f"{number}.png")
    fill(tmp_path / "data", classes=("dog",))
    (tmp_path / "data" / "dog" / "again.png").symlink_to("0.png")
    data = load_data(tmp_path / "data", 8)
    check_each_once(data, 12 + 20 + 10)
    assert not any(path.endswith("again.png") for path in all_images(data))
    assert "13 links to images that are read already" in data.description


def test_a_linked_image_stays_in_the_split_that_is_scored(tmp_path):
    cache = fill(tmp_path / "cache", classes=("x",), count=4) / "x"
    for split in ("train", "test"):
        fill(tmp_path / "data" / split, count=6)
    for number in range(4):
        for split in ("train", "test"):
            link = tmp_path / "data" / split / "cat" / f"shared{number}.png"
            link.symlink_to(cache / f"{number}.png")
    (tmp_path / "data" / "test" / "dog" / "own.png").symlink_to("../../train/dog/0.png")
    data = load_data(tmp_path / "data", 8)
    check_each_once(data, 12 + 12 + 4)
    assert len(data.test) == 16
    assert not any("shared" in path for split in SPLITS[:2] for path in images_of(data, split))
    assert "5 links to images that are read already" in data.description
    for split in SPLITS:  # also where the other splits are not read
        alone = load_data(tmp_path / "data", 8, splits=(split,))
        assert images_of(alone, split) == images_of(data, split)
    assert (
        data.train_fingerprint
        == load_data(tmp_path / "data", 8, splits=("train",)).origin.fingerprint
    )


@pytest.mark.parametrize(
    ("link", "target", "sizes"),
    [("val", "test", [16, 4, 6]), ("test", "val", [16, 6, 4]), ("val", "train", [12, 4, 4])],
)
def test_a_split_that_is_a_link_to_another_counts_as_missing(tmp_path, link, target, sizes):
    fill(tmp_path / "train", count=10)
    if target != "train":
        fill(tmp_path / target, count=3)
    (tmp_path / link).symlink_to(target)
    data = load_data(tmp_path, 8)
    assert [len(getattr(data, split)) for split in SPLITS] == sizes
    assert f"1 link to images that are read already ({link})" in data.description


def test_hard_links_are_files_of_their_own(tmp_path):
    fill(tmp_path)
    os.link(tmp_path / "cat" / "0.png", tmp_path / "cat" / "copy.png")
    assert len(all_images(load_data(tmp_path, 8))) == 21


def test_a_link_to_nothing_is_a_broken_image(tmp_path):
    """As with DVC or git-annex, where an object of the cache is missing."""
    gone = fill(tmp_path) / "cat" / "gone.jpg"
    gone.symlink_to("/nowhere/annex/objects/ab/cd.jpg")
    (tmp_path / "cow").symlink_to("/nowhere/cow")
    with pytest.warns(UserWarning, match=r"gone\.jpg cannot be read \(No such file"):
        data = load_data(tmp_path, 8)
    assert list(data.broken.reasons) == [str(gone)]
    assert data.fingerprint == load_data(tmp_path, 8, check=False).fingerprint
    assert "1 link to nothing (cow)" in data.description
    (tmp_path / "dog" / "gone.jpg").symlink_to("/nowhere")
    with pytest.raises(DataError, match="2 of 22 images"):
        load_data(tmp_path, 8)


def test_pipes_are_left_out(tmp_path):
    os.mkfifo(fill(tmp_path) / "cat" / "pipe.png")
    data = load_data(tmp_path, 8)
    assert len(all_images(data)) == 20
    assert "1 special file, such as a pipe (cat/pipe.png)" in data.description
