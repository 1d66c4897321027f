"""Folders of images."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_lab import fill, write
from PIL import Image

from genets.core.errors import DataError
from genets.core.progress import Progress
from genets.data import Augmentation, BrokenImages, Share, broken_files, load_data, seeded_globals
from genets.data import folder as folder_module


def together(batches):
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def paths(split):
    return {Path(split.images.paths[position]) for position in split.positions}


def test_class_folders_are_cut_into_three_splits(tmp_path):
    data = load_data(fill(tmp_path), 16)
    assert data.class_names == ("cat", "dog")
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    assert sizes == [12, 4, 4]
    everything = [paths(split) for split in (data.train, data.validation, data.test)]
    assert len(set().union(*everything)) == 20
    for split in (data.validation, data.test):
        assert together(split.batches(8))[1].bincount().tolist() == [2, 2]


def test_the_check_of_all_images_reports_its_progress(tmp_path):
    steps = []
    fill(tmp_path)
    load_data(tmp_path, 16, on_progress=steps.append)
    assert steps[0] == Progress("reading images", 1, 20)
    assert steps[-1] == Progress("reading images", 20, 20)
    count = len(steps)
    load_data(tmp_path, 16, check=False, on_progress=steps.append)
    assert len(steps) == count, "without a check, nothing is read"


@pytest.mark.parametrize(
    ("seconds", "reported"),
    [(0.0, [1, 20]), (0.06, [1, 5, 9, 13, 17, 20]), (0.5, list(range(1, 21)))],
)
def test_progress_is_reported_with_the_first_and_last_image_and_not_too_often(
    tmp_path, seconds, reported
):
    """seconds: from image to image."""
    fill(tmp_path)
    files, steps, numbers = sorted(map(str, tmp_path.rglob("*.png"))), [], itertools.count()
    broken = broken_files(files, steps.append, now=lambda: seconds * next(numbers))
    assert broken == {}
    assert steps == [Progress("reading images", number, 20) for number in reported]


def test_seed_moves_validation_and_never_test(tmp_path):
    fill(tmp_path, count=40)
    one, other = load_data(tmp_path, 8, seed=0), load_data(tmp_path, 8, seed=1)
    assert paths(one.test) == paths(other.test)
    assert paths(one.validation) != paths(other.validation)
    assert paths(load_data(tmp_path, 8, seed=1).train) == paths(other.train)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "testing")])
def test_own_split_folders_are_used(tmp_path, names):
    for name, count in zip(names, (6, 3, 2), strict=True):
        fill(tmp_path / name, count=count)
    data = load_data(str(tmp_path), 8)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 6, 4]


def test_missing_splits_are_cut_off_training(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "val", count=3)
    data = load_data(tmp_path, 8)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [16, 6, 4]


def test_a_class_may_be_called_train(tmp_path):
    data = load_data(fill(tmp_path, classes=("plane", "train")), 8)
    assert data.class_names == ("plane", "train")


def test_jpeg_grey_palette_nested_and_unicode(tmp_path):
    fill(tmp_path, classes=("Käse", "寿司", "with space"), suffix=".JPG")
    (tmp_path / "Käse" / "nested").mkdir()
    Image.new("L", (5, 9), 100).save(tmp_path / "Käse" / "nested" / "grey.png")
    Image.new("P", (5, 9), 3).save(tmp_path / "寿司" / "palette.png")
    Image.new("RGBA", (5, 9), (1, 2, 3, 4)).save(tmp_path / "寿司" / "ünï.webp")
    (tmp_path / "Käse" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    data = load_data(tmp_path, 8)
    assert data.class_names == ("Käse", "with space", "寿司")
    assert sum(len(s) for s in (data.train, data.validation, data.test)) == 33
    images, _ = together(data.train.batches(4, epoch=0))
    assert images.shape[1:] == (3, 8, 8)


def test_batches_are_determined_by_seed_and_epoch_whatever_the_workers(tmp_path):
    fill(tmp_path)
    augmentation = Augmentation(auto_augment="rand-m9-mstd0.5", erase=0.5)
    data = load_data(tmp_path, 16, augmentation=augmentation)
    reference, labels = together(data.train.batches(5, epoch=4, seed=2))
    assert reference.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64
    assert len(reference) == 10
    together(data.train.batches(5, epoch=0))
    shared = load_data(tmp_path, 16, augmentation=augmentation, workers=2)
    assert torch.equal(together(shared.train.batches(5, epoch=4, seed=2))[0], reference)
    assert not torch.equal(together(data.train.batches(5, epoch=5, seed=2))[0], reference)
    fixed = together(data.train.batches(5))
    assert torch.equal(fixed[0], together(data.train.batches(12))[0])
    assert len(fixed[0]) == 12


def test_global_generators_are_not_touched(tmp_path):
    data = load_data(fill(tmp_path), 16)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    list(data.train.batches(4, epoch=0))
    list(data.validation.batches(4))
    assert before[0] == random.getstate()
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert torch.equal(before[2], torch.get_rng_state())


def test_evaluation_is_timms_standard(tmp_path):
    from timm.data import create_transform

    data = load_data(fill(tmp_path), 16)
    images, _ = together(data.test.batches(4))
    transform = create_transform(16, interpolation="bicubic")
    for image, position in zip(images, data.test.positions, strict=True):
        torch.testing.assert_close(image, transform(data.test.images[position][0]))


def test_training_is_timms_standard(tmp_path):
    from timm.data import create_transform

    data = load_data(fill(tmp_path), 16, augmentation=Augmentation(erase=0.5))
    transform = create_transform(16, is_training=True, interpolation="bicubic", re_prob=0.5)
    position = data.train.positions[0]
    split = replace(data.train, positions=[position])
    shown = [next(split.batches(1, seed=3, epoch=epoch))[0][0] for epoch in range(20)]
    for epoch, image in enumerate(shown):
        with seeded_globals("augmentation", 3, epoch, position):
            expected = transform(data.train.images[position][0])
        # What is erased has the mean, which is not quite a whole byte.
        torch.testing.assert_close(image, expected, atol=0.01, rtol=0)
    erased = [bool((image.abs() < 0.01).all(dim=0).any()) for image in shown]
    assert 3 < sum(erased) < 17


def read_all(data, size):
    for split in (data.train, data.validation, data.test):
        list(split.batches(size))


def damage(path):
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_few_broken_images_are_named_and_stay_out_of_the_batches(tmp_path):
    broken = damage(fill(tmp_path, count=60) / "cat" / "7.png")
    with pytest.warns(UserWarning, match=r"image .*7\.png cannot be read \(.*\) and is skipped"):
        data = load_data(tmp_path, 8)
    assert list(data.broken.reasons) == [str(broken)]
    splits = (data.train, data.validation, data.test)
    shown = [len(together(split.batches(50))[0]) for split in splits]
    assert sum(shown) == 119
    assert sum(len(split) for split in splits) == 120


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_met_while_training_is_replaced_by_the_one_after_it(tmp_path, workers):
    fill(tmp_path, count=110)
    whole, _ = together(load_data(tmp_path, 8).train.batches(176, epoch=0))
    data = load_data(tmp_path, 8, check=False, workers=workers)
    told = []
    data.broken.report = lambda name, reason: told.append(name)
    names = [data.train.images.paths[position] for position in data.train.positions]
    damage(Path(names[7]))
    images, labels = together(data.train.batches(len(names), epoch=0))
    assert told == [names[7]]
    different = [i for i in range(len(names)) if not torch.equal(images[i], whole[i])]
    assert len(different) == 1
    assert len(labels) == len(names)
    together(data.train.batches(len(names), epoch=1))
    assert told == [names[7]]


def test_more_than_one_percent_met_on_the_way_stop(tmp_path):
    data = load_data(fill(tmp_path, count=60), 8, check=False)
    data.broken.report = lambda name, reason: None
    damage(tmp_path / "cat" / "7.png")
    read_all(data, 16)
    damage(tmp_path / "dog" / "8.png")
    with pytest.raises(DataError, match=r"^2 of 120 images of .* cannot be read.*8\.png"):
        read_all(data, 16)


def test_nothing_but_broken_images_end(tmp_path):
    data = load_data(fill(tmp_path), 8, check=False)
    for path in tmp_path.rglob("*.png"):
        damage(path)
    with pytest.raises(DataError, match="at most 1% may be broken"):
        list(data.train.batches(4, epoch=0))


@pytest.mark.parametrize(("size", "count"), [(8, 2), (12, 4), (10, 2), (6, 3), (5, 1)])
def test_shares_of_a_batch_make_it_up_with_their_mirrored_pairs(size, count):
    shares = [Share(number, count).of_batch(size) for number in range(count)]
    assert sorted(place for share in shares for place in share) == list(range(size))
    assert {len(share) for share in shares} == {size // count}
    if size // count % 2 == 0:
        for share in shares:
            assert [size - 1 - place for place in share] == share[::-1]


@pytest.mark.parametrize("source", ["folder", "digits"])
def test_shares_of_processes_are_the_batches_of_one(tmp_path, source):
    name = "digits" if source == "digits" else fill(tmp_path, count=20)
    whole = load_data(name, 8)
    parts = [load_data(name, 8, share=Share(number, 2)) for number in range(2)]
    batches = zip(*(d.train.batches(8, epoch=3) for d in (whole, *parts)), strict=True)
    for (images, labels), *shares in batches:
        for number, (some, its_labels) in enumerate(shares):
            places = Share(number, 2).of_batch(8)
            assert torch.equal(some, images[places])
            assert torch.equal(its_labels, labels[places])
    fixed = [together(d.validation.batches(8))[0] for d in (whole, *parts)]
    assert torch.equal(fixed[0][0::2], fixed[1])
    assert torch.equal(fixed[0][1::2], fixed[2])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0, 20, 0.5])
def test_many_broken_images_stop(tmp_path, suffix, kept):
    fill(tmp_path, suffix=suffix)
    for broken in (tmp_path / "dog" / f"3{suffix}", tmp_path / "cat" / f"3{suffix}"):
        content = broken.read_bytes()
        broken.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DataError, match=r"2 of 20 images.*3.*at most 1% may be broken"):
        load_data(tmp_path, 8)


@pytest.mark.filterwarnings("ignore:image .* cannot be read")
@pytest.mark.parametrize("check", [True, False])
def test_a_test_split_of_broken_images_is_found_before_a_training(tmp_path, check):
    fill(tmp_path / "train", count=150)
    fill(tmp_path / "test", count=1)
    for path in (tmp_path / "test").rglob("*.png"):
        damage(path)
    with pytest.raises(DataError, match=r"none of the 2 images of the test split of .* can be re"):
        load_data(tmp_path, 8, check=check)


def test_images_that_vanish_are_named(tmp_path):
    data = load_data(fill(tmp_path), 8)
    (tmp_path / "cat" / "0.png").unlink()
    with pytest.warns(UserWarning, match=r"cat/0\.png cannot be read \(No such file"):
        read_all(data, 4)
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(DataError, match=r"cat/1\.png \(No such file"):
        read_all(data, 4)


@pytest.mark.parametrize(
    ("share", "images", "count"),
    [(0.01, 36, 1), (0.01, 99, 1), (0.01, 250, 2), (0.2, 36, 7), (0, 36, 0), (1, 36, 36)],
)
def test_number_of_broken_images_that_is_no_error(share, images, count):
    assert BrokenImages("photos", images, max_share=share).max_count == count


def test_the_share_of_broken_images_is_an_option(tmp_path):
    fill(tmp_path, count=18)
    for number in range(3):
        damage(tmp_path / "cat" / f"{number}.png")
    with pytest.raises(
        DataError, match=r"3 of 36 .* at most 5% may be broken \(option --max-broken-share"
    ):
        load_data(tmp_path, 8, max_broken_share=0.05)
    with pytest.warns(UserWarning, match="cannot be read"):
        data = load_data(tmp_path, 8, max_broken_share=0.1)
    assert len(data.broken.reasons) == 3
    with pytest.raises(DataError, match=r"1 of 36 .* at most 0% may"):
        load_data(tmp_path, 8, check=False, max_broken_share=0).broken.meet({"a.png": "broken"})


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "many", True])
def test_bad_share_of_broken_images(tmp_path, share):
    with pytest.raises(DataError, match="share of broken images must be from 0 to 1, not"):
        load_data(fill(tmp_path), 8, max_broken_share=share)


def test_a_training_pass_needs_a_readable_image(tmp_path):
    data = load_data(fill(tmp_path), 8, check=False, max_broken_share=1)
    data.broken.report = lambda name, reason: None
    for path in tmp_path.rglob("*.png"):
        damage(path)
    with pytest.raises(DataError, match=r"none of the 12 images of the train split of .* can be"):
        list(data.train.batches(4, epoch=0))


def one_class(root):
    fill(root, classes=("cat",))


def empty_class(root):
    fill(root)
    (root / "ёлка").mkdir()
    (root / "ёлка" / "readme.txt").write_text("")


def images_only(root):
    write(root / "0.png")


def no_train(root):
    fill(root / "val")
    fill(root / "test")


def small_class(root):
    fill(root)
    fill(root, classes=("ant",), count=2)


def foreign_class(root):
    fill(root / "train")
    fill(root / "val", classes=("cat", "cow"))


def lacking_class(root):
    fill(root / "train")
    fill(root / "val", classes=("cat",))


def empty_in_validation(root):
    fill(root / "train")
    fill(root / "val", classes=("cat",))
    (root / "val" / "dog").mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "has no class folders; it needs one folder of images for each class"),
        (images_only, "has no class folders"),
        (one_class, r"has only one class \(cat\); at least two are needed"),
        (empty_class, "has no image of class ёлка"),
        (no_train, "has test, val but no train folder"),
        (small_class, r"class ant of .* has 2 training images; at least 3 are needed"),
        (lacking_class, "val has no class dog, which the train folder has"),
        (foreign_class, "val has class cow, which the train folder does not have"),
        (empty_in_validation, "val has no image of class dog"),
    ],
)
def test_bad_folders(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path, 8)


def test_images_are_given_on_the_device(tmp_path):
    for name in ("digits", fill(tmp_path)):
        data = load_data(name, 8, device="meta")
        for batches in (data.train.batches(4, epoch=0), data.validation.batches(4)):
            images, labels = next(batches)
            assert (images.device.type, labels.device.type) == ("meta", "cpu")


def test_missing_folder_and_file(tmp_path):
    for name in (tmp_path / "none", str(tmp_path / "none"), "./none"):
        with pytest.raises(DataError, match=r"folder .*none does not exist"):
            load_data(name, 8)
    write(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png is a file, not a folder of images"):
        load_data(tmp_path / "0.png", 8)


def test_unreadable_folder(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder_module.os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_data(tmp_path, 8)


def test_bad_resolution(tmp_path):
    fill(tmp_path)
    with pytest.raises(DataError, match="must be from 8 to 2048 pixels, not 4"):
        load_data(tmp_path, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            r"unknown data set 'digit' \(neither a folder .* nor .*\); did you mean digits\?$",
        ),
        (
            "zzz",
            r"unknown data set 'zzz' \(neither a folder .*\); valid names are digits$",
        ),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(DataError, match=message):
        load_data(name, 16)


def test_fingerprint_tells_a_renamed_image(tmp_path):
    before = load_data(fill(tmp_path), 8).fingerprint
    assert load_data(tmp_path, 8, seed=1).fingerprint == before
    (tmp_path / "cat" / "3.png").rename(tmp_path / "cat" / "other.png")
    assert load_data(tmp_path, 8).fingerprint != before


def test_fingerprints_are_those_of_older_versions_and_ask_for_each_size_once(tmp_path, monkeypatch):
    for split, count in (("train", 6), ("validation", 2)):
        for number in range(2 * count):
            path = tmp_path / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(number))
    asked = []
    size = folder_module._size
    monkeypatch.setattr(folder_module, "_size", lambda path: asked.append(path) or size(path))
    data = load_data(tmp_path, 8, check=False, max_broken_share=1.0, splits=("train", "validation"))
    assert data.fingerprint == "7f586286bcb17b1c927b1ff2b14535f0"
    assert data.train_fingerprint == "cf6fc93d92cc2f5b4b68eda19032e25e"
    assert len(asked) == len({*asked}) == 16


def test_class_counts_of_a_split_need_no_reading(tmp_path):
    fill(tmp_path, ("cat",), 10)
    for number in range(20):
        (tmp_path / "dog").mkdir(exist_ok=True)
        (tmp_path / "dog" / f"{number}.png").write_bytes(b"broken")
    data = load_data(tmp_path, 8, check=False, max_broken_share=1.0)
    # A fifth of each class is for the test, and a fifth of the rest for the validation.
    assert data.train.class_counts() == {0: 6, 1: 13}
    assert data.validation.class_counts() == {0: 2, 1: 3}
    assert data.test.class_counts() == {0: 2, 1: 4}
