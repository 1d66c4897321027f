"""Splits of single images that are read, transformed and collated by a DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genets.data.seeds import generator_of, seeded_globals
from genets.data.split import (
    Batch,
    ImageData,
    check_classes,
    check_positive,
    check_resolution,
    check_share,
    cut,
)

TEST_SHARE = 0.2
RESOLUTIONS = (8, 2048)
MANY_IMAGES = 5000
MOST_WORKERS = 8


class Images(Sized, Protocol):
    """Images and their classes, read one by one."""

    def __getitem__(self, position: int, /) -> tuple[Image.Image, Any]: ...


@dataclass(frozen=True)
class Augmentation:
    """What timm's standard training transform does to an image.

    crop_area: smallest and largest share of the image that a random crop shows.
    flip: probability of a left-right flip.
    colour_jitter: largest change of brightness, contrast and saturation.
    auto_augment: timm's name of a policy, such as `rand-m9-mstd0.5`; empty for none.
    erase: probability of random erasing.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    colour_jitter: float = 0.4
    auto_augment: str = ""
    erase: float = 0.0

    def training_transform(self, resolution: int) -> Any:
        return create_transform(
            resolution,
            is_training=True,
            scale=self.crop_area,
            hflip=self.flip,
            color_jitter=self.colour_jitter,
            auto_augment=self.auto_augment or None,
            interpolation="bicubic",
            re_prob=self.erase,
        )


@dataclass(frozen=True, eq=False)
class Pool:
    """A part of a data set as it is stored: images, and their classes known without reading."""

    images: Images
    labels: Sequence[int]


@dataclass(frozen=True, eq=False)
class PoolSplit:
    """The images of a pool at some positions."""

    purpose: str
    images: Images
    positions: Sequence[int]
    training_transform: Any
    fixed_transform: Any
    workers: int = 0

    def __len__(self) -> int:
        return len(self.positions)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`. Equal for any number of workers. Raises DataError."""
        check_positive("batch_size", batch_size)
        generator = generator_of("pool", self.purpose, seed, -1 if epoch is None else epoch)
        dataset: Dataset[tuple[Tensor, int]]
        if epoch is None:
            dataset = _Pass(self.images, self.positions, self.fixed_transform, None)
        else:
            shuffled = torch.randperm(len(self), generator=generator).tolist()
            positions = [self.positions[i] for i in shuffled]
            dataset = _Pass(self.images, positions, self.training_transform, (seed, epoch))
        loader = DataLoader(
            dataset,
            batch_size,
            drop_last=epoch is not None and len(self) >= batch_size,
            num_workers=self.workers,
            generator=generator,
        )
        for images, labels in loader:
            yield images.contiguous(memory_format=torch.channels_last), labels


@dataclass(frozen=True, eq=False)
class _Pass(Dataset[tuple[Tensor, int]]):
    """One pass; each image's augmentation has a seed of its own."""

    images: Images
    positions: Sequence[int]
    transform: Any
    key: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        position = self.positions[index]
        image, label = self.images[position]
        image = image.convert("RGB")
        if self.key is None:
            return self.transform(image), int(label)
        with seeded_globals("augmentation", *self.key, position):
            return self.transform(image), int(label)


def assemble(
    name: str,
    resolution: int,
    class_names: Sequence[str],
    train: Pool,
    validation: Pool | None,
    test: Pool | None,
    *,
    seed: int,
    validation_share: float,
    augmentation: Augmentation | None,
    workers: int | None,
    skipped: tuple[Path, ...] = (),
    fingerprint: str = "",
) -> ImageData:
    """Make the splits; those that are missing are cut off the training pool.

    A missing test split is cut the same way for every seed (20 % of each class), so that no
    search ever sees it; the validation split depends on `seed`. Raises DataError.
    """
    check_resolution(resolution, *RESOLUTIONS, name)
    check_share(validation_share)
    check_classes(name, train.labels, class_names, 1 + (validation is None) + (test is None))
    if workers is None:
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if len(train.labels) > MANY_IMAGES else 0
    training = (augmentation or Augmentation()).training_transform(resolution)
    fixed = create_transform(resolution, interpolation="bicubic")

    def split(purpose: str, pool: Pool, positions: Sequence[int]) -> PoolSplit:
        return PoolSplit(purpose, pool.images, positions, training, fixed, workers)

    kept: Sequence[int] = range(len(train.labels))
    if test is None:
        kept, off = cut(train.labels, TEST_SHARE, purpose="test")
        test_split = split("test", train, off)
    else:
        test_split = split("test", test, range(len(test.labels)))
    if validation is None:
        labels = [train.labels[i] for i in kept]
        stay, off = cut(labels, validation_share, purpose="validation", seed=seed)
        validation_split = split("validation", train, [kept[i] for i in off])
        kept = [kept[i] for i in stay]
    else:
        validation_split = split("validation", validation, range(len(validation.labels)))
    return ImageData(
        name=name,
        resolution=resolution,
        class_names=tuple(class_names),
        train=split("train", train, kept),
        validation=validation_split,
        test=test_split,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        skipped=skipped,
        fingerprint=fingerprint,
    )
