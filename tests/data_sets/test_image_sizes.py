"""The sizes of images, and another augmentation of the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from folder_lab import fill, write

from genets.core.errors import DataError
from genets.core.image_facts import ImageSizes
from genets.data import Augmentation, image_sizes, load_data, with_augmentation
from genets.data.image_sizes import MAX_MEASURED, measure_images

PLAIN = Augmentation(crop_area=(1.0, 1.0), flip=0.0, colour_jitter=0.0)


def sizes_of(root: Path) -> ImageSizes:
    return measure_images(load_data(root, 16, check=False, splits=("train",)))


def test_the_median_of_the_shorter_sides(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(50):
            side = 20 if number < 10 else 300 if number < 20 else 40
            write(tmp_path / name / f"{number}.png", number, (side + 24, side))
    found = sizes_of(tmp_path)
    assert found == ImageSizes(len(load_data(tmp_path, 16, check=False).train), 40)


def test_large_data_sets_are_sampled_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(fill(tmp_path), 16, check=False, splits=("train",))
    opened: list[Path] = []
    open_image = image_sizes.open_image

    def counting(file: str):
        opened.append(Path(file))
        return open_image(file)

    monkeypatch.setattr(image_sizes, "MAX_MEASURED", 5)
    monkeypatch.setattr(image_sizes, "open_image", counting)
    assert measure_images(data).median_side == 10
    assert len(opened) <= 5 < MAX_MEASURED
    assert {path.parent.name for path in opened} == {"cat", "dog"}


def test_broken_images_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path)
    for number in range(9):
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"no image")
    assert sizes_of(tmp_path).median_side == 10
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the training images of .* can be read"):
        measure_images(load_data(tmp_path, 16, check=False, splits=("train",)))


def test_another_augmentation_of_the_same_images(tmp_path: Path) -> None:
    data = load_data(fill(tmp_path), 16)
    other = with_augmentation(data, PLAIN)
    expected = load_data(tmp_path, 16, augmentation=PLAIN)
    first = [next(each.train.batches(4, epoch=1, seed=2))[0] for each in (data, other, expected)]
    assert torch.equal(first[1], first[2])
    assert not torch.equal(first[0], first[1])
    assert other.broken is data.broken, "broken images are counted once"
    assert other.validation is data.validation
    assert with_augmentation(data, Augmentation()) is data
    assert with_augmentation(other, PLAIN) is other


def test_images_that_are_drawn_keep_their_own_disturbances() -> None:
    data = load_data("digits", 16)
    assert with_augmentation(data, PLAIN) is data
