"""What a frozen network makes of a split's images, for networks that go on from there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from genets.data import Batch, Split


class FeatureSplit:
    """A split whose images are feature maps, made once per batch by a frozen network.

    The passes of evaluation are all alike, so their features are kept.
    """

    def __init__(self, split: Split, frozen: nn.Module, device: str | torch.device = "cpu") -> None:
        self.split = split
        self.frozen = frozen.to(device).eval()
        self.device = device
        self._kept: dict[int, list[Batch]] = {}

    def __len__(self) -> int:
        return len(self.split)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`; features (N, C, H, W) instead of images, on the device."""
        if epoch is not None:
            yield from map(self._features, self.split.batches(batch_size, epoch=epoch, seed=seed))
            return
        if batch_size not in self._kept:
            self._kept[batch_size] = [*map(self._features, self.split.batches(batch_size))]
        yield from self._kept[batch_size]

    def _features(self, batch: Batch) -> Batch:
        images, labels = batch
        with torch.no_grad():
            return self.frozen(images.to(self.device, non_blocking=True)), labels
