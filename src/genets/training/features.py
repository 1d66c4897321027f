"""Features: the feature maps of a frozen network in place of the images of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from genets.data import Batch, Split
from genets.training.resources import max_kept_bytes
from genets.training.step import autocast, repeatable


class FeatureSplit:
    """A split whose images are the feature maps that a frozen network computes.

    All passes of evaluation are equal, so their features are computed once and kept, as far as they
    fit into a share of the device's memory.

    Args:
        split: The images.
        frozen: The network, which is moved to `device` and put into eval mode.
        device: The device to compute on.
        precision: The precision of a `Recipe`, for the features of training. Those of evaluation
            are computed in fp32, as every score is.
    """

    def __init__(
        self,
        split: Split,
        frozen: nn.Module,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.split = split
        self.frozen = frozen.to(device).eval()
        self.device = device
        self.precision = precision
        self._kept: dict[int, list[Batch]] = {}

    def __len__(self) -> int:
        return len(self.split)

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return self.split.class_counts()

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`; with features (N, C, H, W) on the device in place of images."""
        if epoch is not None:
            for batch in self.split.batches(batch_size, epoch=epoch, seed=seed):
                yield self._features(batch, self.precision)
            return
        if batch_size in self._kept:
            yield from self._kept[batch_size]
            return
        kept, room = [], max_kept_bytes(self.device)
        for images in self.split.batches(batch_size):
            batch = self._features(images, "fp32")
            yield batch
            room -= batch[0].nbytes
            if room >= 0:
                kept.append(batch)
            else:
                kept.clear()
        if room >= 0:
            self._kept[batch_size] = kept

    def _features(self, batch: Batch, precision: str) -> Batch:
        images, labels = batch
        with torch.no_grad(), autocast(self.device, precision), repeatable():
            return self.frozen(images.to(self.device, non_blocking=True)), labels
