"""The images of a process that trains for a search."""

from __future__ import annotations

from typing import Any

from genets.core.log import get_logger
from genets.data import ImageData, load_data, with_augmentation
from genets.training import Recipe, with_all_fields

_log = get_logger(__name__)


def load_worker_images(data: str, resolution: int, recipe: Recipe, **options: Any) -> ImageData:
    """Load the images with the augmentation of a recipe.

    Images that cannot be read are logged alone, because the search has read all images and has
    warned.

    Args:
        data: See `load_data`.
        resolution: The resolution in pixels.
        recipe: How networks are trained on the images.
        **options: Other arguments of `load_data`.

    Raises:
        DataError: The images cannot be loaded.
    """
    images = load_data(data, resolution, check=False, **options)
    if images.broken is not None:
        images.broken.report = lambda name, reason: _log.info(
            "image %s cannot be read (%s)", name, reason
        )
    return with_augmentation(images, with_all_fields(recipe).augmentation())
