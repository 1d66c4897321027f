"""The form of every data set: three splits of images, and the seeded cuts that make them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genets.core.data_name import make_data_absolute
from genets.core.errors import DataError, counted
from genets.core.image_facts import Colours, ImageOrigin, Preprocessing
from genets.data.broken_images import BrokenImages
from genets.data.scoring import describe_input
from genets.data.seeds import derive_seed

CPU = torch.device("cpu")
SPLITS = ("train", "validation", "test")
VALIDATION_SHARE = 0.2  # of the training images of each class, where a data set has no such split

Batch = tuple[Tensor, Tensor]
"""Images (N, 3, H, W), float32, normalised, channels last in memory; classes (N,), int64.

The classes are on the CPU, and the images are on the device that the data set was loaded for.
"""


class Split(Protocol):
    """Images of one purpose: training, validation or test."""

    def __len__(self) -> int:
        """The number of images in one pass."""

    def class_counts(self) -> Counter[int]:
        """The number of images of each class in one pass of all processes together.

        Nothing is read, so broken images count as well.
        """

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """Pass over the images once.

        A split that was made for one of several processes gives the share of that process: of
        every training batch of `batch_size` images, or of the images of an evaluation pass.

        Args:
            batch_size: images in one batch of all processes together.
            epoch: None gives every image once, in a fixed order, without augmentation. A number
                gives shuffled and augmented images that are fully determined by (seed, epoch);
                the last batch is dropped if it is incomplete and not the only one.
            seed: decides the order and the augmentation.
        """


class NamedSplit(Split, Protocol):
    """A split whose images have names."""

    def names(self) -> list[str]:
        """The files, or other names, of the images of an evaluation pass, in its order.

        Images that were found to be broken are left out, as in the pass.
        """


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set cut into three splits that share no source image.

    Attributes:
        train: images for training.
        validation: images for scoring trials and candidates; never trained on.
        test: images for the final score only; a search never reads them.
        preprocessing: how the images that are scored become inputs; images for training have the
            same mean and standard deviation.
        seed: the seed that the data set was loaded with.
        cut_splits: the splits that were cut off the training images, because the data set does
            not have them.
        train_fingerprint: as `fingerprint`, of the training images before anything is cut off;
            empty where the source does not say, or where they were not read.
        broken: the images that cannot be read; None where no image is read from a file.
        fingerprint: a text that changes when an image is added, removed, renamed or has another
            size in bytes; empty where the source does not say.
        reading: whether processes read images in parallel by default.
        description: lines for the user: how the source was understood, and which files were left
            out; empty where that is no question.
        fold: the fold that is the validation split; None without cross-validation.
    """

    name: str
    resolution: int
    class_names: tuple[str, ...]
    train: NamedSplit
    validation: NamedSplit
    test: NamedSplit
    preprocessing: Preprocessing
    seed: int = 0
    cut_splits: tuple[str, ...] = ()
    train_fingerprint: str = ""
    broken: BrokenImages | None = None
    fingerprint: str = ""
    reading: bool = False
    description: str = ""
    fold: Fold | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def mean(self) -> Colours:
        """Mean of R, G and B, for pixel values in 0 to 1."""
        return self.preprocessing.mean

    @property
    def std(self) -> Colours:
        """Standard deviation of R, G and B, for pixel values in 0 to 1."""
        return self.preprocessing.std

    @property
    def origin(self) -> ImageOrigin:
        """The facts by which another command recognises these images and their splits."""
        data = make_data_absolute(self.name)
        return ImageOrigin(
            data=data,
            seed=self.seed,
            fingerprint=self.train_fingerprint,
            max_broken_share=None if self.broken is None else self.broken.max_share,
        )

    def input_contract(self, resolution: int) -> dict[str, Any]:
        """The input that a network trained on these images needs, and its classes, for JSON."""
        return {
            "shape": ["N", 3, resolution, resolution],
            "dtype": "float32",
            **describe_input(self.preprocessing, resolution),
            "class_names": list(self.class_names),
        }

    def weights_metadata(self) -> dict[str, str]:
        """The texts that a file of weights trained on these images states beside the tensors."""
        return {
            "num_classes": str(self.num_classes),
            "class_names": json.dumps(self.class_names),
            "resolution": str(self.resolution),
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "preprocessing": json.dumps(self.preprocessing.to_json()),
            "images": json.dumps(self.origin.to_json()),
        }


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The number of batches in a training epoch of `images` images."""
    return max(1, images // batch_size)


def slices(images: int, batch_size: int, *, drop_last: bool) -> Iterator[slice]:
    """The positions of the images of each batch of a pass."""
    stop = steps_per_epoch(images, batch_size) * batch_size if drop_last else images
    for start in range(0, stop, batch_size):
        yield slice(start, min(start + batch_size, images))


def cut(
    labels: Sequence[int], share: float, *, purpose: str, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Cut a share of each class off, at least one image; at least one image stays.

    The cut is determined by (purpose, seed). Each class must have two images or more.

    Returns:
        The positions that stay and the positions that are cut off, both ascending.
    """
    rng = np.random.default_rng(derive_seed(purpose, seed))
    classes = np.asarray(labels)
    cut_off: list[int] = []
    for label in np.unique(classes):
        positions = rng.permutation(np.flatnonzero(classes == label))
        assert len(positions) >= 2, "a class with one image cannot be cut"
        count = min(max(1, round(share * len(positions))), len(positions) - 1)
        cut_off.extend(positions[:count].tolist())
    return sorted(set(range(len(classes))) - set(cut_off)), sorted(cut_off)


@dataclass(frozen=True, slots=True)
class Fold:
    """One of the equal parts of the training images, for cross-validation.

    Attributes:
        number: The part that is the validation split, from 0.
        count: The number of parts, at least two.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count or self.count < 2:
            raise DataError(f"fold {self.number} of {self.count} does not exist")


def cut_fold(labels: Sequence[int], fold: Fold, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Cut one fold off. Every image is in one fold; the images of a class take the folds in turn.

    Returns:
        The positions that stay and the positions of the fold, both ascending.
    """
    rng = np.random.default_rng(derive_seed("folds", seed))
    classes = np.asarray(labels)
    order = np.concatenate(
        [rng.permutation(np.flatnonzero(classes == label)) for label in np.unique(classes)]
    )
    cut_off = order[fold.number :: fold.count].tolist()
    return sorted(set(range(len(classes))) - set(cut_off)), sorted(cut_off)


def check_classes(
    name: str, labels: Sequence[int] | None, names: Sequence[str], needed: int
) -> None:
    """Raise DataError unless there are two classes with at least `needed` images in each.

    `labels` are the classes of the training images; None where these are not needed.
    """
    if len(names) < 2:
        raise DataError(f"{name} has only one class ({names[0]}); at least two are needed")
    if labels is None:
        return
    counts = Counter(labels)
    empty = [names[label] for label in range(len(names)) if counts[label] == 0]
    if empty:
        raise DataError(f"{name} has no image of class {name_some(empty)}")
    for label, class_name in enumerate(names):
        if counts[label] < needed:
            raise DataError(
                f"class {class_name} of {name} has {counted(counts[label], 'training image')}; "
                f"at least {needed} are needed, one for each split that is cut from them"
            )


def name_some(names: Sequence[str]) -> str:
    """The first five names and the number of the others."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def check_resolution(resolution: int, low: int, high: int, name: str) -> None:
    """Raise DataError unless `resolution` is an integer number of pixels in the range."""
    is_integer = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not is_integer or not low <= resolution <= high:
        raise DataError(
            f"resolution for {name} must be from {low} to {high} pixels, not {resolution!r}"
        )


def check_positive(field: str, value: int) -> None:
    """Raise DataError unless `value` is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(f"{field} must be a positive integer, not {value!r}")


@dataclass(frozen=True, eq=False)
class JoinedSplit:
    """All images of several splits, one split after the other."""

    splits: Sequence[NamedSplit]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def names(self) -> list[str]:
        """See `NamedSplit.names`."""
        return [name for split in self.splits for name in split.names()]

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return sum((split.class_counts() for split in self.splits), Counter())

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`; the images of an epoch are shuffled within each split."""
        for split in self.splits:
            yield from split.batches(batch_size, epoch=epoch, seed=seed)


@dataclass(frozen=True, eq=False)
class RenormalisedSplit:
    """The images of a split times `scale` plus `offset`, both (1, 3, 1, 1)."""

    split: NamedSplit
    scale: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.split)

    def names(self) -> list[str]:
        """See `NamedSplit.names`."""
        return self.split.names()

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return self.split.class_counts()

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        for images, labels in self.split.batches(batch_size, epoch=epoch, seed=seed):
            yield images * self.scale + self.offset, labels


def normalised_as(
    split: NamedSplit, data: ImageData, mean: Sequence[float], std: Sequence[float]
) -> NamedSplit:
    """Normalise a split of `data` with the mean and deviation that a network was trained with.

    Args:
        split: a split of `data`.
        data: the data set, whose own normalisation is replaced.
        mean, std: of R, G and B, for pixel values in 0 to 1.
    """
    if (tuple(mean), tuple(std)) == (data.mean, data.std):
        return split
    return RenormalisedSplit(split, *renormalisation(data, mean, std))


def renormalisation(
    data: ImageData, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The scale and the offset, both (1, 3, 1, 1), that normalise images of `data` anew."""
    own_mean, own_std, mean_, std_ = (
        torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
        for values in (data.mean, data.std, mean, std)
    )
    return own_std / std_, (own_mean - mean_) / std_
