"""Mix-up and CutMix: a split whose training batches are mixed images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from genets.core.errors import TrainingError
from genets.data import Batch, Split, seeded_globals
from genets.training.features import FeatureSplit
from genets.training.recipe import RunRecipe


@dataclass(frozen=True, eq=False)
class MixedSplit:
    """The images of a split, whose training batches are mixed by the recipe.

    A batch is mixed on the device, with random numbers that depend on the seed, the epoch and the
    number of the batch alone. Its labels are probabilities (N, classes). Passes of evaluation are
    those of the split.
    """

    split: Split
    recipe: RunRecipe
    num_classes: int
    device: str | torch.device

    def __len__(self) -> int:
        return len(self.split)

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return self.split.class_counts()

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        if epoch is None:
            yield from self.split.batches(batch_size)
            return
        mixing = self.recipe.mixing(self.num_classes)
        assert mixing is not None
        for step, batch in enumerate(self.split.batches(batch_size, epoch=epoch, seed=seed)):
            # Pairs are mixed; a training split that is smaller than a batch may be odd.
            even = len(batch[1]) // 2 * 2
            images, labels = (part[:even].to(self.device, non_blocking=True) for part in batch)
            if images.data_ptr() == batch[0].data_ptr():
                images = images.clone()  # mixing is in place, and a split may keep its images
            with seeded_globals("step", seed, epoch, step):
                mixed = mixing(images, labels)
            yield mixed


def mixed_images(
    split: Split, recipe: RunRecipe, num_classes: int | None, device: str | torch.device
) -> Split:
    """The images that a recipe trains on: mixed ones, where it has mix-up or CutMix.

    Of features, the images are mixed before the frozen network computes the features.

    Args:
        split: The training images, or features of them.
        recipe: The recipe.
        num_classes: The number of classes, which only mixing needs.
        device: The device on which images are mixed.

    Raises:
        TrainingError: The recipe mixes images, and the number of classes is not given.
    """
    if not (recipe.mixup or recipe.cutmix):
        return split
    if num_classes is None:
        raise TrainingError("num_classes must be given for a recipe with mixup or cutmix")
    if isinstance(split, FeatureSplit):
        mixed = mixed_images(split.split, recipe, num_classes, device)
        return FeatureSplit(mixed, split.frozen, split.device, split.precision)
    return MixedSplit(split, recipe, num_classes, device)
