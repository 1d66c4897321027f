"""The checks before a search, which write nothing: settings, target, weights and images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from genets.core.class_balance import balance_advice
from genets.core.errors import SettingsError, TrainingError
from genets.core.gpu import check_one_kind
from genets.core.image_facts import Preprocessing
from genets.core.progress import OnProgress
from genets.data import ImageData, describe_equal_files
from genets.nas.image_loading import load_images
from genets.nas.latencies.calm import check_wait
from genets.nas.master.start import load_start, starting_preprocessing
from genets.nas.new_study import choose_folds
from genets.nas.rivals.contender import check_rivals
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import is_study
from genets.nas.warnings import balance_cure
from genets.nas.workers.devices import check_memory
from genets.nas.workers.job import Machines
from genets.training.resources import training_device
from genets.training.run.distributed import check_processes
from genets.training.run.trainer import check_shares


@dataclass(frozen=True)
class CheckedSearch:
    """A search that may begin.

    Attributes:
        settings: All settings, with the number of folds.
        data: The images at the MasterNet's resolution.
        preprocessing: How images become inputs; None for the default of the data.
        reasons: Why settings were chosen by the number of images, line by line.
    """

    settings: SearchSettings
    data: ImageData
    preprocessing: Preprocessing | None
    reasons: tuple[str, ...]


def check_search(
    settings: SearchSettings,
    out: str | Path,
    *,
    workers: int | None,
    machines: Machines,
    processes: int | None,
    wait_minutes: float,
    on_event: OnProgress | None,
) -> CheckedSearch:
    """Check a search before its folder is made, so that a wrong name leaves no study behind.

    See `run_search` for the arguments; `machines` is `workers_on`.

    Raises:
        GenetsError: A setting is wrong, or weights, images or the target cannot be used.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be at least 1, not {workers}")
    check_wait(wait_minutes)
    _check_space(settings)
    settings.target.check()
    check_one_kind(torch, settings.target.device)
    device = training_device(settings.training_device)
    check_memory(device)
    check_processes(device, processes)
    machines.check(device)
    check_rivals(settings, Path(out))
    preprocessing = starting_preprocessing(settings, Path(out))
    data = load_images(
        settings, settings.resolution, device, preprocessing=preprocessing, check=True,
        on_progress=on_event,
    )  # fmt: skip
    if equal_files := describe_equal_files(data):
        warnings.warn(equal_files, stacklevel=3)
    _check_resolutions(settings)
    _check_shares(settings, data, processes or 1)
    if settings.has_starting_weights and not is_study(Path(out)):
        # Weights that do not fit are refused here.
        load_start(settings, data, lambda note: warnings.warn(note, stacklevel=2))
    cure = balance_cure(settings)
    if advice := balance_advice(data.train.class_counts(), data.class_names, cure):
        warnings.warn(advice, stacklevel=3)
    settings, reasons = choose_folds(settings, data, Path(out))
    return CheckedSearch(settings, data, preprocessing, reasons)


def _check_space(settings: SearchSettings) -> None:
    """Raise SettingsError where the space holds no structure besides the MasterNet."""
    space = settings.space.design_space().around(settings.structure)
    if space.size == len(space.resolutions):
        raise SettingsError(
            "the design space holds no structure besides the MasterNet; give space.blocks more "
            "blocks, or a wider space.width_range, stem_width_range, head_width_range or "
            "depth_change"
        )


def _check_shares(settings: SearchSettings, data: ImageData, processes: int) -> None:
    """Raise SettingsError where processes cannot share the batches of MasterNet and winner."""
    for name in ("master_training", "final_training"):
        recipe = getattr(settings, name).recipe()
        try:
            check_shares(recipe, processes)
        except TrainingError as error:
            raise SettingsError(f"{name}: {error}") from error
        if processes > 1 and recipe.batch_size > len(data.train):
            raise SettingsError(
                f"batch_size of {name} must be at most {len(data.train)}, the number of training "
                f"images, where {processes} processes share it, not {recipe.batch_size}"
            )


def _check_resolutions(settings: SearchSettings) -> None:
    """Raise DataError where the images cannot be loaded at the extreme resolutions."""
    for resolution in {*settings.space.resolutions[:1], *settings.space.resolutions[-1:]}:
        load_images(settings, resolution)
