"""Single images, read, transformed and collated; broken ones are passed over."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from genets.data.broken_images import BROKEN, reason_of
from genets.data.pixels import as_rgb
from genets.data.seeds import kept_globals, seed_globals

MOST_STAND_INS = 50


class Images(Sized, Protocol):
    """Images and their classes, read one by one."""

    def __getitem__(self, position: int, /) -> tuple[Image.Image, Any]: ...


Item = tuple[tuple[Tensor, int] | None, dict[str, str]]
"""Pixels (H, W, 3), bytes, and the class, or None; and the broken ones met on the way to it."""


Pick = tuple[int, tuple[int, int] | None]
"""A position in a pool, and while training the seed and the epoch."""


@dataclass(frozen=True, eq=False)
class ImageReader(Dataset[Item]):
    """Gives images of a split as they are shown in a pass; keeps no state, so workers can stay.

    positions: those of the split, ascending.
    training_transform, fixed_transform: from an image to pixels (3, H, W), bytes.
    """

    images: Images
    purpose: str
    positions: Sequence[int]
    training_transform: Any
    fixed_transform: Any

    def __getitems__(self, picks: Sequence[Pick]) -> list[Item]:
        """What a DataLoader asks for: a batch at a time."""
        with kept_globals():
            return [self._item(*pick) for pick in picks]

    def _item(self, first: int, key: tuple[int, int] | None) -> Item:
        broken: dict[str, str] = {}
        for position in [first] if key is None else self._candidates(first):
            try:
                image, label = self.images[position]
                image = as_rgb(image)
            except BROKEN as error:
                broken[self._name(position)] = reason_of(error)
                continue
            pixels = self._transformed(image, position, key)
            return (pixels.permute(1, 2, 0), int(label)), broken
        return None, broken

    def _candidates(self, position: int) -> Iterator[int]:
        """The image and, to stand in for it if it is broken, those after it in the split."""
        place, count = bisect_left(self.positions, position), len(self.positions)
        for step in range(min(MOST_STAND_INS, count)):
            yield self.positions[(place + step) % count]

    def _transformed(
        self, image: Image.Image, position: int, key: tuple[int, int] | None
    ) -> Tensor:
        """Each image's augmentation has a seed of its own, whoever reads it."""
        if key is not None:
            seed_globals("augmentation", *key, position)
        transform = self.fixed_transform if key is None else self.training_transform
        pixels: Tensor = transform(image)
        return pixels

    def _name(self, position: int) -> str:
        paths = getattr(self.images, "paths", None)
        return f"{position} of the {self.purpose} split" if paths is None else paths[position]


def collate(items: Sequence[Item]) -> tuple[Any, dict[str, str]]:
    """A batch of those that could be read, or None, and the broken ones."""
    good = [image for image, _ in items if image is not None]
    broken = {name: reason for _, found in items for name, reason in found.items()}
    return default_collate(good) if good else None, broken
