"""Candidates: the networks of a comparison, with what was published about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import nn

from genets.core.errors import GenetsError, unknown_name
from genets.latency.engines.memory import estimate_bytes, largest_values
from genets.latency.predictor.probes import fill_zero_norms
from genets.networks import count, resolve_network
from genets.networks.baselines import SETS, baselines
from genets.networks.count import input_channels
from genets.structure import zoo

GENETS = ("GENet-light", "GENet-normal", "GENet-large")
SET_NAMES = (*SETS, "genets")
# The GENets under their zoo names have the published facts of Table 7 as well.
PAPER_NAMES = {"genet_light": GENETS[0], "genet_normal": GENETS[1], "genet_large": GENETS[2]}


@dataclass(frozen=True, slots=True)
class Size:
    """What a network is made of.

    multiply_adds: of one image. largest_values: input and output of its largest layer, values
    for one image. input_values: of one image.
    """

    parameters: int
    multiply_adds: int
    largest_values: int
    input_values: int

    def resident_bytes(self, batch_size: int) -> int:
        """What a prepared network keeps, generously."""
        return estimate_bytes(self.parameters, self.input_values, self.largest_values, batch_size)


@dataclass(frozen=True)
class ComparedNetwork:
    """A network that can be made, as often as it is needed, at the resolution it is measured at.

    top1_percent: the published top-1 accuracy on ImageNet, of the full-precision network at
        its own resolution; None where none is known.
    published_ms: ms per image by batch size, in the paper's `table7`, `table8` and `table9`.
    seed: of its fresh weights.
    """

    name: str
    family: str
    resolution: int
    make: Callable[[], nn.Module]
    top1_percent: float | None = None
    published_ms: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    seed: int = 0

    def network(self) -> nn.Module:
        """The network, without the zero weights that timing must avoid; see `fill_zero_norms`."""
        network = self.make()
        fill_zero_norms(network)
        return network

    @cached_property
    def size(self) -> Size:
        """Counted, not run. Raises GenetsError if it does not run at its resolution."""
        network, resolution = self.network(), self.resolution
        try:
            counted = count(network, resolution)
            largest = largest_values(network, resolution)
        except Exception as error:  # whatever its forward raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GenetsError(f"does not run at resolution {resolution}: {reason}") from error
        inputs = input_channels(network) * resolution**2
        return Size(counted.parameters, counted.multiply_adds, largest, inputs)


def find_networks(
    names: Iterable[str], set_name: str | None = None, resolution: int | None = None, seed: int = 0
) -> list[ComparedNetwork]:
    """Those of the set, then those named, each once.

    names: what `resolve_network` takes, names of the paper's Table 7 among them.
    resolution: in pixels, in place of each network's own. seed: of fresh weights.
    Raises GenetsError: an unknown name or set, or no network at all.
    """
    if set_name is not None and set_name not in SET_NAMES:
        raise GenetsError(unknown_name("set of networks", set_name, SET_NAMES))
    if resolution is not None and resolution < 1:
        raise GenetsError(f"resolution must be an integer above 0, not {resolution}")
    wanted = dict.fromkeys((*_names_of(set_name), *names))
    if not wanted:
        raise GenetsError(f"name the networks to compare, or a set: {', '.join(SET_NAMES)}")
    return [find_network(name, resolution, seed) for name in wanted]


def _names_of(set_name: str | None) -> tuple[str, ...]:
    if set_name is None:
        return ()
    if set_name == "genets":
        return GENETS
    return tuple(baseline.name for baseline in baselines.of(set_name))


def find_network(name: str, resolution: int | None = None, seed: int = 0) -> ComparedNetwork:
    """See `find_networks`. What was published holds for a network's own resolution alone."""
    known = baselines.get(PAPER_NAMES.get(name, name))
    if known is not None:
        own = resolution in (None, known.resolution)
        return ComparedNetwork(
            name if name in PAPER_NAMES else known.name,
            known.family,
            resolution or known.resolution,
            partial(_seeded, known.network, seed),
            known.top1_percent if own else None,
            known.ms_per_image if own else {},
            seed,
        )
    named = resolve_network(name)
    own = resolution in (None, named.resolution)
    published = zoo.entry(name).top1_percent if own and name in zoo else None
    return ComparedNetwork(
        name,
        "timm" if named.structure is None else "structure",
        resolution or named.resolution,
        partial(_seeded, lambda: resolve_network(name).network, seed),
        published,
        seed=seed,
    )


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
