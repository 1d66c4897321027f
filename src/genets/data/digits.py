"""The digits data set: scikit-learn's 1,797 real 8x8 digits, enlarged and distorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from genets.core.image_facts import Preprocessing
from genets.data.nuisance import Nuisance, render
from genets.data.seeds import make_generator
from genets.data.share import WHOLE, Share
from genets.data.split import (
    CPU,
    VALIDATION_SHARE,
    Batch,
    Fold,
    ImageData,
    check_positive,
    check_resolution,
    cut,
    cut_fold,
    slices,
)

TEST_SHARE = 0.25
RESOLUTIONS = (8, 64)


@dataclass(frozen=True, eq=False)
class DigitsSplit:
    """Some of the digits. An evaluation pass shows `views` fixed drawings of each digit.

    Attributes:
        sources: (N, 8, 8), ink from 0 to 1.
        labels: (N,), int64.
        views: drawings of each digit in an evaluation pass.
    """

    purpose: str
    sources: Tensor
    labels: Tensor
    resolution: int
    nuisance: Nuisance
    mean: float
    std: float
    views: int = 1
    share: Share = WHOLE
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.sources) * self.views

    def names(self) -> list[str]:
        """See `NamedSplit.names`; the views of a digit have the same name."""
        names = [f"{n} of the {self.purpose} split" for n in range(len(self.sources))] * self.views
        return names[self.share.of_pass()]

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return Counter(self.labels.tolist() * self.views)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`. Every epoch draws new distortions."""
        check_positive("batch_size", batch_size)
        if epoch is None:
            images, labels = (part[self.share.of_pass()] for part in self._fixed)
            batch_size = max(1, batch_size // self.share.count)
        else:
            images, labels = self._epoch(seed, epoch)
        for part in slices(len(images), batch_size, drop_last=epoch is not None):
            batch = images[part], labels[part]
            yield batch if epoch is None else self._shared(batch)

    def _shared(self, batch: Batch) -> Batch:
        if self.share == WHOLE:
            return batch
        images, labels = batch
        own = self.share.of_batch(len(labels))
        return images[own], labels[own]

    @cached_property
    def _fixed(self) -> Batch:
        order = torch.arange(len(self.sources)).repeat(self.views)
        return self._draw(order, make_generator("digits", self.purpose, "views"))

    def _epoch(self, seed: int, epoch: int) -> Batch:
        generator = make_generator("digits", self.purpose, seed, epoch)
        order = torch.randperm(len(self), generator=generator) % len(self.sources)
        return self._draw(order, generator)

    def _draw(self, order: Tensor, generator: torch.Generator) -> Batch:
        images = render(self.sources[order], self.resolution, self.nuisance, generator)
        return images.sub_(self.mean).div_(self.std).to(self.device), self.labels[order]


def load_digits(
    resolution: int,
    *,
    seed: int = 0,
    nuisance: Nuisance | None = None,
    views: int = 4,
    share: Share = WHOLE,
    device: torch.device = CPU,
    fold: Fold | None = None,
) -> ImageData:
    """Load the digits, ten classes.

    A quarter is the test split, the same for every seed; a fifth of the rest is the validation
    split, cut by `seed`. Both show several fixed drawings of each digit, so that scores are less
    noisy.

    Args:
        resolution: pixels along each side, 8 to 64.
        seed: decides the cut of the validation split.
        nuisance: the distortions; None takes the defaults.
        views: drawings of each digit in the validation and test split.
        share: the share of the images that this process reads.
        device: device of the images in a batch.
        fold: for cross-validation, the part of the digits outside the test split that is the
            validation split.

    Raises:
        DataError: an argument is out of range.
    """
    check_resolution(resolution, *RESOLUTIONS, "digits")
    check_positive("views", views)
    nuisance = nuisance or Nuisance()
    sources, labels = _sources()
    rest, test = cut(labels.tolist(), TEST_SHARE, purpose="digits test")
    kept, off = cut(labels[rest].tolist(), VALIDATION_SHARE, purpose="digits validation", seed=seed)
    if fold is not None:
        kept, off = cut_fold(labels[rest].tolist(), fold, seed=seed)
    # The scale comes from all digits outside the test split, so it does not depend on the seed.
    sample = render(sources[rest], resolution, nuisance, make_generator("digits scale"))
    mean, std = sample.mean().item(), sample.std().item()

    def split(purpose: str, positions: Tensor, views: int) -> DigitsSplit:
        return DigitsSplit(
            purpose, sources[positions], labels[positions], resolution, nuisance, mean, std, views,
            share, device,
        )  # fmt: skip

    return ImageData(
        name="digits",
        resolution=resolution,
        class_names=tuple("0123456789"),
        train=split("train", torch.tensor(rest)[kept], 1),
        validation=split("validation", torch.tensor(rest)[off], views),
        test=split("test", torch.tensor(test), views),
        # A drawing has the resolution of the network, so nothing is resized or cut off.
        preprocessing=Preprocessing(mean=(mean,) * 3, std=(std,) * 3, crop_pct=1.0),
        seed=seed,
        cut_splits=("test", "validation"),
        fold=fold,
    )


@cache  # reading the file takes longer than all the rest; both tensors are only read
def _sources() -> Batch:
    """The ink (1797, 8, 8), from 0 to 1, and the classes (1797,)."""
    from sklearn.datasets import load_digits as load_sklearn_digits

    digits = load_sklearn_digits()
    return torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
