"""Loading a data set by its name or folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from genets.core.data_name import LOADERS, find_data_path
from genets.core.errors import DataError, unknown_name
from genets.core.files import describe_hidden_folder
from genets.core.image_facts import MAX_BROKEN_SHARE, Preprocessing
from genets.core.log import get_logger
from genets.core.progress import OnProgress
from genets.data.folder import load_folder
from genets.data.split import SPLITS, ImageData
from genets.data.timm_dataset import PREFIXES, load_timm

_log = get_logger(__name__)


def load_data(
    name: str | Path,
    resolution: int,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    check: bool = True,
    on_progress: OnProgress | None = None,
    preprocessing: Preprocessing | None = None,
    splits: Sequence[str] = SPLITS,
    cut_missing: bool = True,
    max_broken_share: float = MAX_BROKEN_SHARE,
    **options: Any,
) -> ImageData:
    """Load a data set and cut it into training, validation and test split.

    Args:
        name: `digits`, a folder of images, or a name that `timm.data.create_dataset` takes, with
            its prefix (`torch/cifar10`, `hfds/...`, `tfds/...`, `wds/...`). The text `digits` is
            always the built-in data set; a folder of that name is `./digits`. A `Path` is always
            a folder.
        resolution: pixels along each side of the images.
        seed: decides the cut of the validation split; the test split is the same for every seed.
        device: device of the images in a batch.
        workers: processes that read images, for data sets that are not in memory; None chooses.
        check: read every image of a folder once now, so that broken images are reported and
            counted now and not when a pass meets them.
        on_progress: called with the number of images that `check` has read.
        preprocessing: of the images that are scored, for data sets that are not in memory; None
            is that of a training with genets.
        splits: the splits that are needed. For data sets that are not in memory, the others stay
            empty: their images are not read, and may be missing.
        cut_missing: whether splits that a data set does not have are cut off its training images;
            otherwise they stay empty. A data set in memory always has all splits.
        max_broken_share: the largest share of broken images that is no error. One broken image is
            no error unless the share is 0.
        options: further arguments of `load_digits`, `load_folder` or `load_timm`.

    Raises:
        DataError: the data set is unknown, cannot be read, or has too few images or classes.
    """
    if isinstance(name, Path) and str(name) in LOADERS:
        name = os.path.join(os.curdir, name)  # a path without its ./ looks like the built-in name
    load = _loader(name)
    if load in (load_folder, load_timm):
        options |= {
            "workers": workers,
            "preprocessing": preprocessing,
            "splits": splits,
            "cut_missing": cut_missing,
            "max_broken_share": max_broken_share,
        }
    if load is load_folder:
        options |= {"check": check, "on_progress": on_progress}
    return load(
        name,
        resolution,
        seed=seed,
        device=torch.device(device),
        **options,
    )


def _loader(name: str | Path) -> Callable[..., ImageData]:
    text = str(name)
    if text in LOADERS:
        hidden = describe_hidden_folder(text, "the built-in data set")
        if hidden:
            _log.info("%s", hidden)
        return lambda _, resolution, **options: LOADERS[text](resolution, **options)
    if find_data_path(name) is not None:
        return load_folder
    if text.lower().startswith(tuple(f"{prefix}/" for prefix in PREFIXES)):
        return load_timm
    if os.sep in text or text.startswith((".", "~")):
        raise DataError(f"folder {text} does not exist")
    remark = "neither a folder of images nor a name such as torch/cifar10 or hfds/food101"
    raise DataError(unknown_name("data set", text, LOADERS, remark))
