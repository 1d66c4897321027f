"""Splits seen otherwise: several as one, and in another normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genets.data.split import Batch, ImageData, Split


@dataclass(frozen=True, eq=False)
class Joined:
    """All images of several splits, one split after the other."""

    splits: Sequence[Split]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`; the images of an epoch are shuffled within each split."""
        for split in self.splits:
            yield from split.batches(batch_size, epoch=epoch, seed=seed)


@dataclass(frozen=True, eq=False)
class Renormalised:
    """Images * scale + offset, each (1, 3, 1, 1)."""

    split: Split
    scale: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.split)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        for images, labels in self.split.batches(batch_size, epoch=epoch, seed=seed):
            yield images * self.scale + self.offset, labels


def normalised_as(
    split: Split, data: ImageData, mean: Sequence[float], std: Sequence[float]
) -> Split:
    """`split` of `data`, as a network expects it that was trained with this mean and deviation.

    mean, std: of pixel values in 0 to 1, for R, G, B.
    """
    if (tuple(mean), tuple(std)) == (data.mean, data.std):
        return split
    own_mean, own_std, mean_, std_ = (
        torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
        for values in (data.mean, data.std, mean, std)
    )
    return Renormalised(split, own_std / std_, (own_mean - mean_) / std_)
