"""The starting weights of the MasterNet: published ones, a file, or those of a results folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.image_facts import Preprocessing
from genets.data import ImageData
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader, is_study
from genets.training.recipe import RunRecipe
from genets.training.run.inputs import make_network, preprocessing_of
from genets.training.run.settings import RunSettings

if TYPE_CHECKING:
    from torch import nn


def starting_preprocessing(settings: SearchSettings, folder: Path) -> Preprocessing | None:
    """The preprocessing of the images: with mean and deviation of the starting weights.

    A study stores it, so that it continues without the file of the weights.

    Args:
        settings: The settings of the search.
        folder: The folder of the study, which may be new.

    Returns:
        None for the default of the data.

    Raises:
        GenetsError: The weights are missing or damaged.
    """
    if not settings.has_starting_weights:
        return None
    if is_study(folder):
        stored = StudyReader(folder).load_json(layout.START, _read_start)
        if stored is not None:
            return stored[0]
    return preprocessing_of(_as_run(settings))


def describe_start(preprocessing: Preprocessing | None) -> dict[str, Any]:
    """The record that `starting_preprocessing` reads."""
    return {"preprocessing": preprocessing and preprocessing.to_json()}


def _read_start(record: Any) -> tuple[Preprocessing | None]:
    stored = record["preprocessing"]
    return (None if stored is None else Preprocessing.from_json(stored),)


def load_start(settings: SearchSettings, data: ImageData, note: Callable[[str], None]) -> nn.Module:
    """Build the MasterNet with its starting weights.

    Args:
        settings: The settings of the search.
        data: The images.
        note: Called with messages, such as that the classifier is new.

    Raises:
        GenetsError: The weights are missing or damaged, or belong to another network.
    """
    net, _ = make_network(_as_run(settings), data, True, note)
    return net


def _as_run(settings: SearchSettings) -> RunSettings:
    """The settings of a training run of the MasterNet from these weights."""
    return RunSettings(
        network=settings.master,
        data=settings.data,
        recipe=RunRecipe(epochs=1),
        resolution=settings.resolution,
        seed=settings.seed,
        pretrained=settings.pretrained,
        weights=settings.weights,
        normalisation=settings.normalisation,
    )
