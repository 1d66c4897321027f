"""A network from what a person types: every command that takes a network takes these forms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from genets.core.errors import GenetsError, unknown_name
from genets.networks.baselines import baselines
from genets.networks.baselines.builders import build_network
from genets.networks.build import build
from genets.networks.weights import (
    STRUCTURE_FILE,
    WEIGHTS_FILE,
    check_results,
    load_structure_network,
    load_tensors,
    read_weights,
    stated_number,
)
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


def load(folder: str | Path) -> nn.Module:
    """The trained network of a results folder, in eval mode on the CPU.

    Raises GenetsError: a file is missing, damaged, or they do not belong together.
    """
    return _trained(Path(folder)).network


def resolve_network(
    text: str, num_classes: int = 1000, *, pretrained: bool = False
) -> NamedNetwork:
    """The network that `text` names, with fresh weights unless it names a results folder.

    text: a zoo name (`genet_large`), a baseline in any case (`EfficientNet-B3`), `timm:NAME`,
    a structure file (`mine.toml`), a notation (`Conv3x32s2 ... @256`), or a results folder,
    whose own weights and class count are loaded.
    pretrained: with published weights; the head is fresh where their classes are others.
    Raises GenetsError: none of these, with the nearest names, or no published weights, or they
    cannot be fetched; StructureError: a bad structure.
    """
    text = text.strip()
    path = Path(text)
    if text.startswith(TIMM_PREFIX):
        return _timm_network(text.removeprefix(TIMM_PREFIX), num_classes, pretrained)
    if text.endswith(".toml"):
        return _built(path.stem, Structure.load(path), num_classes, pretrained)
    if text and path.is_dir():
        return _trained(path, text)
    if "@" in text or any(c.isspace() for c in text):
        return _built(text, Structure.parse(text), num_classes, pretrained)
    if "/" in text:
        raise GenetsError(f"no results folder {text!r}")
    if text in zoo:
        return _built(text, zoo[text], num_classes, pretrained)
    if text in baselines:
        return _baseline(text, num_classes, pretrained)
    if timm.is_model(text):
        raise GenetsError(f"unknown network {text!r}; timm's of this name is {TIMM_PREFIX}{text}")
    raise GenetsError(
        f"{unknown_name('network', text, (*zoo, *baselines))} (a network is a zoo name, a "
        f"baseline, timm:NAME, a .toml structure file, a quoted notation or a results folder)"
    )


def _trained(folder: Path, name: str = "") -> NamedNetwork:
    """That of a results folder: of its structure, or of the name that its weights state."""
    if not folder.is_dir():
        raise GenetsError(f"no results folder {str(folder)!r}")
    check_results(folder)
    path = folder / WEIGHTS_FILE
    if (folder / STRUCTURE_FILE).exists():
        structure = Structure.load(folder / STRUCTURE_FILE)
        network = load_structure_network(folder)
        return NamedNetwork(name, network, structure, structure.resolution)
    tensors, metadata = read_weights(path)
    if "network" not in metadata:
        raise GenetsError(f"{str(folder)!r} has no {STRUCTURE_FILE}, and {path} names no network")
    named = resolve_network(metadata["network"], stated_number(metadata, "num_classes", path))
    load_tensors(named.network, tensors, path)
    resolution = stated_number(metadata, "resolution", path)
    return NamedNetwork(name, named.network.eval(), named.structure, resolution)


def _built(name: str, structure: Structure, num_classes: int, pretrained: bool) -> NamedNetwork:
    network = build(structure, num_classes, pretrained=pretrained)
    return NamedNetwork(name, network, structure, structure.resolution)


def _baseline(name: str, num_classes: int, pretrained: bool) -> NamedNetwork:
    baseline = baselines[name]
    network = baseline.network(num_classes, pretrained)
    return NamedNetwork(baseline.name, network, baseline.structure, baseline.resolution)


def _timm_network(name: str, num_classes: int, pretrained: bool) -> NamedNetwork:
    known = timm.list_models()
    if not timm.is_model(name):
        raise GenetsError(unknown_name("timm network", name, known))
    full_name = f"{TIMM_PREFIX}{name}"
    try:
        network: Any = build_network(full_name, full_name, {}, num_classes, pretrained)
    except RuntimeError as error:  # a tag that this network does not have
        raise GenetsError(f"timm cannot create {name!r}: {error}") from error
    resolution = network.pretrained_cfg["input_size"][-1]
    return NamedNetwork(full_name, network, None, resolution)
