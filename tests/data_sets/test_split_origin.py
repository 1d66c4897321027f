"""Whether the splits of a data set are those of a training."""

import shutil

from folder_lab import fill, write

from genets.core.image_facts import ImageOrigin
from genets.data import load_data, load_digits
from genets.data.split_origin import find_split_origin


def test_the_split_of_the_training(tmp_path) -> None:
    data = load_data(fill(tmp_path / "photos"), 8, seed=3)
    assert find_split_origin(data, data.origin, trained=True).source == "training"
    # A copy of the folder in another place has the same images.
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    moved = load_data(tmp_path / "moved", 8, seed=3)
    assert find_split_origin(moved, data.origin, trained=True).source == "training"
    # An older genets stored no fingerprint.
    older = ImageOrigin(data=str(tmp_path / "photos"), seed=3)
    assert find_split_origin(data, older, trained=True).source == "training"


def test_a_relative_path_is_the_same_place(tmp_path, monkeypatch) -> None:
    trained = load_data(fill(tmp_path / "photos"), 8).origin
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photos" / "cat" / "new.png", seed=77)
    assert find_split_origin(load_data("photos", 8), trained, trained=True).has_changed


def test_splits_that_are_not_known(tmp_path) -> None:
    data = load_data(fill(tmp_path / "photos"), 8, seed=3)
    trained = data.origin
    for images, origin, words in (
        (
            load_data(tmp_path / "photos", 8, seed=4),
            trained,
            "split of seed 3, and this is",
        ),
        (data, None, "do not say on which images"),
        (load_digits(8, seed=3), trained, "not on digits."),
    ):
        split = find_split_origin(images, origin, trained=True)
        assert split.source == "unknown"
        assert words in split.remark
    write(tmp_path / "photos" / "cat" / "new.png", seed=77)
    changed = load_data(tmp_path / "photos", 8, seed=3)
    remark = find_split_origin(changed, trained, trained=True).remark
    assert "have changed since the training" in remark


def test_splits_that_no_training_decides(tmp_path) -> None:
    data = load_digits(8, seed=3)
    assert find_split_origin(data, None, trained=False).source == "seed"
    for split in ("train", "val", "test"):
        fill(tmp_path / split)
    data = load_data(tmp_path, 8, seed=3)
    assert find_split_origin(data, None, trained=True).source == "data set"
