"""The recipe of a training run: augmentation and averaging beside what every training needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError, shown
from genets.training.recipe import BELOW_1, Recipe

if TYPE_CHECKING:
    from genets.data import Augmentation

MOST_JITTER = 10  # beyond, images are noise


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe(Recipe):
    """A `Recipe`, and what only whole runs use; timm does the work of each.

    mixup, cutmix: the alpha of each (larger mixes more); 0 is none. With both they take turns.
    crop_area: smallest and largest share of the image that a random crop shows.
    flip: probability of a left-right flip.
    colour_jitter: largest change of brightness, contrast and saturation; auto_augment replaces it.
    auto_augment: timm's name of a policy (`original` is AutoAugment, `rand-m9-mstd0.5`); empty
        for none.
    erase: probability of random erasing.
    ema_decay: of the moving average of the weights, which is then what is scored and handed
        over; 0 is no average. It warms up, so that short runs forget their beginning.
    channels_last: the layout of weights and images in memory.
    compile: run the network through torch.compile.

    Sets of images that draw themselves (digits) have nuisance of their own in place of crop_area,
    flip, colour_jitter, auto_augment and erase.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    colour_jitter: float = 0.4
    auto_augment: str = ""
    erase: float = 0.0
    ema_decay: float = 0.0
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)  # super() does not work in a dataclass with slots
        for name in ("mixup", "cutmix"):
            self._check(name, 0, math.inf, "0 or above")
        self._check("colour_jitter", 0, MOST_JITTER, f"from 0 to {MOST_JITTER}")
        for name in ("flip", "erase"):
            self._check(name, 0, 1, "from 0 to 1")
        self._check("ema_decay", 0, BELOW_1, "from 0 to below 1")
        for name in ("channels_last", "compile"):
            self._check_flag(name)
        self._check_crop()
        self._check_policy()
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise GenetsError(
                f"batch_size must be even for mixup and cutmix, which mix pairs, "
                f"not {self.batch_size}"
            )

    def _check_crop(self) -> None:
        area = self.crop_area
        numbers = isinstance(area, tuple | list) and len(area) == 2
        if not (numbers and all(_is_share(part) for part in area) and area[0] <= area[1]):
            raise GenetsError(
                f"crop_area must be two ascending shares from above 0 to 1, not {shown(area)}"
            )
        object.__setattr__(self, "crop_area", tuple(map(float, area)))

    def _check_policy(self) -> None:
        wrong = f"auto_augment must be a policy of timm or empty, not {shown(self.auto_augment)}"
        if not isinstance(self.auto_augment, str):
            raise GenetsError(wrong)
        if self.auto_augment:
            try:
                self.augmentation().training_transform(32)
            except (AssertionError, ValueError, KeyError) as error:
                known = "known are original, v0, 3a, rand-..., augmix-..."
                raise GenetsError(f"{wrong}; {known}") from error

    def augmentation(self) -> Augmentation:
        """What is done to single images."""
        from genets.data import Augmentation  # with PyTorch

        return Augmentation(
            crop_area=self.crop_area,
            flip=self.flip,
            colour_jitter=self.colour_jitter,
            auto_augment=self.auto_augment,
            erase=self.erase,
        )

    def mixing(self, num_classes: int) -> Any | None:
        """timm's mix-up: images and labels (N,) to images and probabilities (N, classes).

        It draws from numpy's global generator, and mixes the images in place.
        """
        if not (self.mixup or self.cutmix):
            return None
        from timm.data.mixup import Mixup

        # Smoothing is left to the loss, which does the same to probabilities.
        mixup: Any = Mixup  # has no types
        return mixup(self.mixup, self.cutmix, label_smoothing=0.0, num_classes=num_classes)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
