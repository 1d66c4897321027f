"""Facts about the images of a training, which are stored beside the weights that it made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from genets.core.errors import DataError
from genets.core.validation import check_fields, from_plain, to_plain

Colours = tuple[float, float, float]
MAX_BROKEN_SHARE = 0.01  # one broken image of a hundred
# A top-1 of 80 % on 200 images has a standard error of 2.8 points. Good networks often differ by
# less, so with fewer images, chance would decide.
FEW_VALIDATION_IMAGES = 200
CROP_PCT_RANGE = (0.1, 2.0)  # a smaller crop would need a huge resize; timm's largest is 1.15
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input of a network when it is scored; the names are timm's.

    Attributes:
        mean: Mean of R, G and B, for pixel values in 0 to 1; it is subtracted.
        std: Standard deviation of R, G and B, which divides.
        interpolation: Pillow's filter of the resize.
        crop_pct: The side of the crop as a share of the resized side; above 1 the crop has a
            border of zeros.
        crop_mode: `center` resizes the shorter side and cuts the middle out; `squash` resizes
            both sides; `border` resizes the longer side and fills the border with the mean.

    Raises:
        DataError: A value is out of range.
    """

    mean: Colours
    std: Colours
    interpolation: Filter = "bicubic"
    crop_pct: float = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"

    def __post_init__(self) -> None:
        check_fields(self, raises=DataError)
        if not all(value > 0 for value in self.std):
            raise DataError(f"std must be above 0 for each colour, not {self.std}")
        low, high = CROP_PCT_RANGE
        if not low <= self.crop_pct <= high:
            raise DataError(f"crop_pct must be from {low} to {high}, not {self.crop_pct}")

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read the output of `to_json`. Raises DataError."""
        return from_plain(cls, record, raises=DataError)


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """How many training images a data set has, and how large they are.

    Attributes:
        images: The number of training images.
        median_side: The median of the shorter sides, in pixels.
    """

    images: int
    median_side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """The data set of a training, and the seed of its validation split.

    Attributes:
        data: The name of the data set, or the absolute path of its folder.
        seed: The seed that cut the validation split.
        fingerprint: `ImageData.train_fingerprint`; None where an older genets stored none.
        max_broken_share: The share of broken images that the training tolerated; None where an
            older genets stored none, and for data sets without files.

    Raises:
        DataError: A value has another type or is out of range.
    """

    data: str
    seed: int = 0
    fingerprint: str | None = None
    max_broken_share: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, raises=DataError)
        if self.seed < 0:
            raise DataError(f"seed must be at least 0, not {self.seed}")
        if self.max_broken_share is not None and not 0 <= self.max_broken_share <= 1:
            raise DataError(f"max_broken_share must be from 0 to 1, not {self.max_broken_share}")

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Read the output of `to_json`. Raises DataError."""
        return from_plain(cls, record, raises=DataError)

    def is_same_data(self, other: ImageOrigin) -> bool:
        """Whether both have the same images; a folder may have moved."""
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        return self.data == other.data

    def may_share_images(self, other: ImageOrigin) -> bool:
        """Whether both have the same images, or the same folder, whose images may have changed."""
        return self.is_same_data(other) or self.data == other.data
