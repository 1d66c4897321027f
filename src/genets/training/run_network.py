"""The network that a run trains, with the weights it begins with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from genets.core.errors import GenetsError, TrainingError
from genets.data import ImageData, seeded_globals
from genets.networks import NamedNetwork, resolve_network
from genets.networks.faults import what_failed
from genets.structure import Structure
from genets.training.run_settings import RunSettings
from genets.training.starting_weights import head_of, start_from


def run_network(
    settings: RunSettings, data: ImageData, fresh: bool, note: Callable[[str], None]
) -> tuple[nn.Module, Structure | None]:
    """The network at the images' resolution. fresh: with its weights to begin with."""
    with seeded_globals("network", settings.seed):
        named = resolve_network(
            settings.network, data.num_classes, pretrained=settings.pretrained and fresh
        )
    structure = named.structure
    if structure is not None:
        structure = structure.with_resolution(data.resolution)
    else:
        _check_resolution(named, data)
    if fresh and settings.weights:
        start_from(named.network, settings.weights, data.num_classes, note)
    if fresh and settings.pretrained:
        _tell_pretrained(named, data, note)
    return named.network, structure


def _tell_pretrained(named: NamedNetwork, data: ImageData, note: Callable[[str], None]) -> None:
    config = getattr(named.network, "pretrained_cfg", None) or {}
    classes = config.get("num_classes", data.num_classes)
    if classes != data.num_classes:
        note(
            f"the published weights of {named.name} are of {classes} classes: the head "
            f"({head_of(named.network)}) is made anew for {data.num_classes}"
        )
    for name, own in (("mean", data.mean), ("std", data.std)):
        theirs = tuple(config.get(name, own))
        if theirs != own:
            note(f"{named.name} was trained with {name} {theirs}, {data.name} has {own}")


def _check_resolution(named: NamedNetwork, data: ImageData) -> None:
    """Structures check themselves; other networks are tried. Raises TrainingError."""
    size = data.resolution
    named.network.eval()
    try:
        with torch.no_grad():
            logits = named.network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, GenetsError):
            raise
        raise TrainingError(
            f"{named.name} cannot take images of {size} pixels: {what_failed(error)}"
        ) from error
    assert logits.shape == (1, data.num_classes), logits.shape
