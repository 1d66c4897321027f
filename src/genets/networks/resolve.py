"""A network from what a person types: every command that takes a network takes these forms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from genets.errors import GenetsError, unknown_name
from genets.networks.baselines import baselines
from genets.networks.build import build
from genets.networks.weights import STRUCTURE_FILE, load
from genets.structure import Structure, zoo

TIMM_PREFIX = "timm:"


@dataclass(frozen=True)
class NamedNetwork:
    """A network, what to call it, and the input resolution in pixels that it is made for.

    structure: None for networks that are not of this design space.
    """

    name: str
    network: nn.Module
    structure: Structure | None
    resolution: int


def resolve_network(text: str, num_classes: int = 1000) -> NamedNetwork:
    """The network that `text` names, with fresh weights unless it names a results folder.

    text: a zoo name (`genet_large`), a baseline in any case (`EfficientNet-B3`), `timm:NAME`,
    a structure file (`mine.toml`), a notation (`Conv3x32s2 ... @256`), or a results folder,
    whose own weights and class count are loaded.
    Raises GenetsError: none of these, with the nearest names; StructureError: a bad structure.
    """
    text = text.strip()
    path = Path(text)
    if text.startswith(TIMM_PREFIX):
        return _timm_network(text.removeprefix(TIMM_PREFIX), num_classes)
    if text.endswith(".toml"):
        return _built(path.stem, Structure.load(path), num_classes)
    if text and path.is_dir():
        structure = Structure.load(path / STRUCTURE_FILE)
        return NamedNetwork(text, load(path), structure, structure.resolution)
    if "@" in text or any(c.isspace() for c in text):
        return _built(text, Structure.parse(text), num_classes)
    if "/" in text:
        raise GenetsError(f"no results folder {text!r}")
    if text in zoo:
        return _built(text, zoo[text], num_classes)
    if text in baselines:
        return _baseline(text, num_classes)
    raise GenetsError(
        f"{unknown_name('network', text, (*zoo, *baselines))} (a network is a zoo name, a "
        f"baseline, timm:NAME, a .toml structure file, a quoted notation or a results folder)"
    )


def _built(name: str, structure: Structure, num_classes: int) -> NamedNetwork:
    return NamedNetwork(name, build(structure, num_classes), structure, structure.resolution)


def _baseline(name: str, num_classes: int) -> NamedNetwork:
    baseline = baselines[name]
    network = baseline.network(num_classes)
    return NamedNetwork(baseline.name, network, baseline.structure, baseline.resolution)


def _timm_network(name: str, num_classes: int) -> NamedNetwork:
    known = timm.list_models()
    if not timm.is_model(name):
        raise GenetsError(unknown_name("timm network", name, known))
    try:
        network: Any = timm.create_model(name, num_classes=num_classes)
    except RuntimeError as error:  # a tag that this network does not have
        raise GenetsError(f"timm cannot create {name!r}: {error}") from error
    resolution = network.pretrained_cfg["input_size"][-1]
    return NamedNetwork(f"{TIMM_PREFIX}{name}", network, None, resolution)
