"""Which images a process reads, where several train one network together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """What process `number` (from 0) of `count` reads."""

    number: int = 0
    count: int = 1

    def of_batch(self, size: int) -> list[int]:
        """Its places in a training batch of `size` images, a multiple of `count`.

        Half of them from the front and half, mirrored, from the back: mix-up pairs each image
        with the one at the mirrored place, so the pairs of a share are those of the whole batch.
        """
        own = size // self.count
        front, back = own // 2, own - own // 2
        first, last = self.number * front, size - (self.number + 1) * back
        return [*range(first, first + front), *range(last, last + back)]

    def of_pass(self) -> slice:
        """Its places in a pass of evaluation: every `count`-th image."""
        return slice(self.number, None, self.count)


WHOLE = Share()
