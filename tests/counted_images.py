"""A split of images without pixels, for what follows from their numbers alone."""

from collections import Counter
from dataclasses import dataclass


@dataclass
class CountedImages:
    """A split of images of some classes, equally many of each."""

    count: int
    classes: int = 2

    def __len__(self) -> int:
        return self.count

    def class_counts(self) -> Counter[int]:
        return Counter(number % self.classes for number in range(self.count))
