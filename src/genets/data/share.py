"""The share of the images that one of several processes reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """The share of process `number` (from 0) of the `count` that train one network together."""

    number: int = 0
    count: int = 1

    def of_batch(self, size: int) -> list[int]:
        """The positions of this share in a training batch of `size` images, a multiple of `count`.

        Half of the positions are at the front and half, mirrored, at the back: mix-up pairs each
        image with the image at the mirrored position, so a share has the pairs of the whole batch.
        """
        own = size // self.count
        front, back = own // 2, own - own // 2
        first, last = self.number * front, size - (self.number + 1) * back
        return [*range(first, first + front), *range(last, last + back)]

    def of_pass(self) -> slice:
        """The positions of this share in an evaluation pass: every `count`-th image."""
        return slice(self.number, None, self.count)


WHOLE = Share()
