"""The networks of a comparison, with the figures that were published about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from torch import nn

from genets.core.errors import GenetsError, first_line, unknown_name
from genets.latency.engines.memory import estimate_bytes, largest_values
from genets.latency.predictor.probes import fill_zero_norms
from genets.networks import count, resolve_network
from genets.networks.baselines import SETS, baselines
from genets.networks.build import seeded_weights
from genets.networks.count import input_channels
from genets.structure import zoo

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

    def resident_bytes(self, batch_size: int) -> int:
        """A generous estimate of the memory that the prepared network occupies."""
        return estimate_bytes(self.parameters, self.input_values, self.largest_values, batch_size)


@dataclass(frozen=True)
class ComparedNetwork:
    """A network that can be built repeatedly, and the resolution at which it is measured.

    Attributes:
        resolution: Input size in pixels.
        make: Builds the network.
        top1_percent: Published top-1 accuracy on ImageNet of the full-precision network at its
            own resolution; None where no accuracy was published.
        published_ms: Published ms per image by batch size, for the paper's tables "table7",
            "table8" and "table9".
        seed: Seed of the initial weights.
    """

    name: str
    family: str
    resolution: int
    make: Callable[[], nn.Module]
    top1_percent: float | None = None
    published_ms: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    seed: int = 0

    def network(self) -> nn.Module:
        """Build the network, without layers of zeros.

        timm initialises the last norm of a residual branch with zeros. Multiplying zeros takes
        less power, and on some devices therefore less time.
        """
        network = self.make()
        fill_zero_norms(network)
        return network

    @cached_property
    def size(self) -> NetworkSize:
        """The size of the network. Raises GenetsError if it does not run at its resolution."""
        network, resolution = self.network(), self.resolution
        try:
            counted = count(network, resolution)
            largest = largest_values(network, resolution)
        except Exception as error:  # a foreign network may raise anything
            raise GenetsError(
                f"does not run at resolution {resolution}: {first_line(error)}"
            ) from error
        inputs = input_channels(network) * resolution**2
        return NetworkSize(counted.parameters, counted.multiply_adds, largest, inputs)


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
            partial(_build_seeded, baseline.network, seed),
            baseline.top1_percent if at_own else None,
            baseline.ms_per_image if at_own else {},
            seed,
        )
    named = resolve_network(name)
    at_own = resolution in (None, named.resolution)
    return ComparedNetwork(
        name,
        "timm" if named.structure is None else "structure",
        resolution or named.resolution,
        partial(_build_seeded, lambda: resolve_network(name).network, seed),
        zoo.entry(name).top1_percent if at_own and name in zoo else None,
        seed=seed,
    )


def _build_seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded_weights(seed):
        return make()
