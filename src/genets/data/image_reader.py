"""Reading, transforming and collating single images; broken images are skipped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from genets.data.broken_images import reason_of
from genets.data.image_file import BROKEN
from genets.data.pixels import as_rgb
from genets.data.seeds import kept_globals, seed_globals

MAX_REPLACEMENTS = 50


class Images(Sized, Protocol):
    """Images and their classes, read one by one."""

    def __getitem__(self, position: int, /) -> tuple[Image.Image, Any]: ...


Item = tuple[tuple[Tensor, int] | None, dict[str, str]]
"""Pixels (H, W, 3) as bytes and the class, or None; and the broken images met before it."""


Pick = tuple[int, tuple[int, int] | None]
"""A position in a pool, and in training the seed and the epoch."""


@dataclass(frozen=True, eq=False)
class ImageReader(Dataset[Item]):
    """Reads the images of a split for a pass. It has no state, so its workers stay.

    Attributes:
        images: the images of the pool.
        purpose: name of the split.
        positions: positions of the split in the pool, ascending.
        training_transform, fixed_transform: from an image to pixels (3, H, W) as bytes.
    """

    images: Images
    purpose: str
    positions: Sequence[int]
    training_transform: Any
    fixed_transform: Any

    def __getitems__(self, picks: Sequence[Pick]) -> list[Item]:
        """The items of a batch; a DataLoader calls this method once per batch."""
        with kept_globals():
            return [self._item(*pick) for pick in picks]

    def _item(self, first: int, key: tuple[int, int] | None) -> Item:
        broken: dict[str, str] = {}
        for position in [first] if key is None else self._replacements(first):
            try:
                image, label = self.images[position]
                image = as_rgb(image)
            except BROKEN as error:
                broken[image_name(self.images, self.purpose, position)] = reason_of(error)
                continue
            pixels = self._transformed(image, position, key)
            return (pixels.permute(1, 2, 0), int(label)), broken
        return None, broken

    def _replacements(self, position: int) -> Iterator[int]:
        """Yield the position, then the next positions of the split; they replace a broken image."""
        place, count = bisect_left(self.positions, position), len(self.positions)
        for step in range(min(MAX_REPLACEMENTS, count)):
            yield self.positions[(place + step) % count]

    def _transformed(
        self, image: Image.Image, position: int, key: tuple[int, int] | None
    ) -> Tensor:
        """Transform an image. Its augmentation has its own seed, so any process gives the same."""
        if key is not None:
            seed_globals("augmentation", *key, position)
        transform = self.fixed_transform if key is None else self.training_transform
        pixels: Tensor = transform(image)
        return pixels


def image_name(images: Images, purpose: str, position: int) -> str:
    """The file of an image, or its position in the pool where images are not files."""
    paths = getattr(images, "paths", None)
    return f"{position} of the {purpose} split" if paths is None else paths[position]


def collate(items: Sequence[Item]) -> tuple[Any, dict[str, str]]:
    """The batch of the readable images, or None, and the broken images."""
    good = [image for image, _ in items if image is not None]
    broken = {name: reason for _, broken in items for name, reason in broken.items()}
    return default_collate(good) if good else None, broken
