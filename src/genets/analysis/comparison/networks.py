"""The networks of a comparison, with the figures that were published about them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import torch
from torch import nn

from genets.core.errors import GenetsError, first_line, unknown_name
from genets.latency.engines.memory import Footprint
from genets.networks import resolve_network
from genets.networks.baselines import SETS, baselines
from genets.networks.build import seeded_weights
from genets.networks.count import count_on_meta, input_channels
from genets.networks.folder_name import find_results_folder
from genets.networks.random_weights import fill_weights, is_fillable, materialise
from genets.networks.source import NetworkSource
from genets.structure import zoo

Made = TypeVar("Made")

GENETS = ("GENet-light", "GENet-normal", "GENet-large")
SET_NAMES = (*SETS, "genets")
# The published figures of Table 7 also hold for the GENets under their names in the zoo.
PAPER_NAMES = {"genet_light": GENETS[0], "genet_normal": GENETS[1], "genet_large": GENETS[2]}


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """The size of a network at its resolution.

    Attributes:
        multiply_adds: For one image.
        largest_values: Number of input and output values of the largest layer, for one image.
        input_values: Number of values of one image.
    """

    parameters: int
    multiply_adds: int
    largest_values: int
    input_values: int

    def held_bytes(self, footprint: Footprint, batch_size: int, built_bytes: int = 0) -> int:
        """Estimate the memory of the weights and inputs of the prepared network.

        Args:
            footprint: The memory that the engine needs.
            batch_size: Images per run.
            built_bytes: Bytes for each weight of the network from which the engine prepares.
        """
        weights = (footprint.weight_bytes + built_bytes) * self.parameters
        return weights + footprint.value_bytes * self.input_values * batch_size


@dataclass(frozen=True)
class ComparedNetwork:
    """A network of a comparison, and the resolution at which it is measured.

    Attributes:
        resolution: Input size in pixels.
        make: Builds the network, on torch's default device where its constructor allows that.
        top1_percent: Published top-1 accuracy on ImageNet of the full-precision network at its
            own resolution; None where no accuracy was published.
        published_ms: Published ms per image by batch size, for the paper's tables "table7",
            "table8" and "table9".
        seed: Seed of the weights.
        trained: Whether `make` gives trained weights, which are then kept.
        skeleton: The network on torch's meta device, where `make` need not build it again.
    """

    name: str
    family: str
    resolution: int
    make: Callable[[], nn.Module]
    top1_percent: float | None = None
    published_ms: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    seed: int = 0
    trained: bool = False
    skeleton: nn.Module | None = None

    def network(self, device: str = "cpu") -> nn.Module:
        """The network on a device, with weights for timing unless it is trained."""
        if self._on_meta is not None:
            return materialise(copy.deepcopy(self._on_meta), device, self.seed)
        network = _build_seeded(self.make, self.seed)
        if not self.trained:
            fill_weights(network, self.seed)
        return network

    @cached_property
    def _on_meta(self) -> nn.Module | None:
        """The network on torch's meta device, which takes no memory; None if it cannot be there."""
        if self.trained:
            return None
        network = self.skeleton
        if network is None:
            network = _try_on_meta(self.make)
        return network if network is not None and is_fillable(network) else None

    @cached_property
    def size(self) -> NetworkSize:
        """The size of the network. Raises GenetsError if it does not run at its resolution."""
        network = self._on_meta
        if network is None:
            network = copy.deepcopy(_build_seeded(self.make, self.seed))
        try:
            network = network.to("meta")
            counted, maps = count_on_meta(network, self.resolution)
        except Exception as error:  # a foreign network may raise anything
            raise GenetsError(
                f"does not run at resolution {self.resolution}: {first_line(error)}"
            ) from error
        inputs = input_channels(network) * self.resolution**2
        return NetworkSize(counted.parameters, counted.multiply_adds, maps.largest, inputs)


def find_networks(
    names: Iterable[str], set_name: str | None = None, resolution: int | None = None, seed: int = 0
) -> list[ComparedNetwork]:
    """Find the networks of a set and the named networks, without duplicates.

    Args:
        names: Names that `resolve_network` accepts, also those of the paper's Table 7.
        set_name: A name of `SET_NAMES`; its networks come first.
        resolution: In pixels, instead of each network's own.
        seed: Seed of the initial weights.

    Returns:
        At least one network.

    Raises:
        GenetsError: A name or the set is unknown, or no network is named.
    """
    if set_name is not None and set_name not in SET_NAMES:
        raise GenetsError(unknown_name("set of networks", set_name, SET_NAMES))
    if resolution is not None and resolution < 1:
        raise GenetsError(f"resolution must be an integer above 0, not {resolution}")
    all_names = dict.fromkeys((*_names_in(set_name), *names))
    if not all_names:
        raise GenetsError(f"name the networks to compare, or a set: {', '.join(SET_NAMES)}")
    return [find_network(name, resolution, seed) for name in all_names]


def _names_in(set_name: str | None) -> tuple[str, ...]:
    if set_name is None:
        return ()
    if set_name == "genets":
        return GENETS
    return tuple(baseline.name for baseline in baselines.of(set_name))


def find_network(name: str, resolution: int | None = None, seed: int = 0) -> ComparedNetwork:
    """Find one network; see `find_networks`.

    A network of Table 7 has its published figures under each of its names, such as `ResNet-18` and
    `timm:resnet18`. At another resolution than its own, it has none.
    """
    by_origin = {baseline.network_from: baseline for baseline in baselines.values()}
    own_name = name in PAPER_NAMES or name in by_origin
    baseline = by_origin.get(name) or baselines.get(PAPER_NAMES.get(name, name))
    if baseline is not None:
        at_own = resolution in (None, baseline.resolution)
        return ComparedNetwork(
            name if own_name else baseline.name,
            baseline.family,
            resolution or baseline.resolution,
            baseline.network,
            baseline.top1_percent if at_own else None,
            baseline.ms_per_image if at_own else {},
            seed,
        )
    named = _resolve(name)
    is_on_meta = any(parameter.is_meta for parameter in named.network.parameters())
    at_own = resolution in (None, named.resolution)
    return ComparedNetwork(
        name,
        "timm" if named.structure is None else "structure",
        resolution or named.resolution,
        lambda: resolve_network(name).network,
        zoo.entry(name).top1_percent if at_own and name in zoo else None,
        seed=seed,
        trained=named.is_trained,
        skeleton=named.network if is_on_meta else None,
    )


def _resolve(name: str) -> NetworkSource:
    """Resolve a network, on torch's meta device if its weights are fresh and it can be there."""
    is_folder = find_results_folder(name) is not None
    source = None if is_folder else _try_on_meta(lambda: resolve_network(name))
    return source or resolve_network(name)


def _try_on_meta(make: Callable[[], Made]) -> Made | None:
    """Make something on torch's meta device; None where its constructor needs real tensors."""
    try:
        with torch.device("meta"):
            return make()
    except GenetsError:
        raise
    except Exception:  # noqa: BLE001 - a foreign constructor may raise anything
        return None


def _build_seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded_weights(seed):
        return make()
