"""Loading of the images of a search."""

from __future__ import annotations

from genets.core.image_facts import Preprocessing
from genets.core.progress import OnProgress
from genets.data import ImageData, load_data
from genets.data.split import Fold
from genets.nas.settings.settings import SearchSettings


def load_images(
    settings: SearchSettings,
    resolution: int,
    device: str = "cpu",
    *,
    preprocessing: Preprocessing | None = None,
    fold: Fold | None = None,
    check: bool = False,
    on_progress: OnProgress | None = None,
    known: ImageData | None = None,
) -> ImageData:
    """Load the images of a search.

    Args:
        settings: The settings of the search.
        resolution: Pixels along each side.
        device: The device of the images in a batch.
        preprocessing: How images become inputs; None for the default of the data.
        fold: The fold whose training and validation split are loaded; None for the usual splits.
        check: Whether to read every image once.
        on_progress: Called with the number of images that the check has read.
        known: The same images, loaded before. The user was warned of the broken images among them,
            and is not warned again.

    Raises:
        DataError: The images cannot be loaded.
    """
    data = load_data(
        settings.data,
        resolution,
        seed=settings.seed,
        device=device,
        check=check,
        on_progress=on_progress,
        max_broken_share=settings.max_broken_share,
        preprocessing=preprocessing,
        fold=fold,
    )
    if known is not None and data.broken and known.broken:
        data.broken.reasons |= known.broken.reasons
    return data
