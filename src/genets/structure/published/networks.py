"""The networks with published figures by name; the names are those of the paper."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any, Generic, TypeVar

from genets.core.errors import GenetsError, unknown_name
from genets.structure.published.tables import published_tables
from genets.structure.structure import Structure
from genets.structure.zoo import zoo

SETS = ("paper34", "modern")


class UnknownBaselineError(GenetsError, KeyError):
    """No network or set of networks has this name; also a KeyError, as a Mapping must raise."""

    __str__ = GenetsError.__str__  # KeyError would put the sentence in quotes


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """A network and its published facts.

    Attributes:
        name: The name.
        set: `paper34` (the networks of Table 7) or `modern` (usual choices of today).
        family: The name of its family.
        network_from: Its origin: `timm:NAME`, `torchvision:NAME`, `zoo:NAME`, or `dna`, `df` or
            `ofa` for a network whose layers are in a JSON file of `genets.networks.baselines`.
        resolution: Pixels along one side of its own input.
        source: The publication of the numbers below.
        note: Remarks, such as deviations from the published numbers.
        parameters_m: Published parameters in millions; None where they were not published.
        multiply_adds_m: Published multiply-adds in millions, or None.
        top1_percent: Top-1 accuracy on ImageNet, of the weights that `source` trained, or None.
            timm's weights for the networks of `paper34` are others.
        options: Further arguments of the builder there.
        ms_per_image: The paper's latencies: `table7`, `table8`, `table9` -> batch size -> ms.
    """

    name: str
    set: str
    family: str
    network_from: str
    resolution: int
    source: str
    note: str = ""
    parameters_m: float | None = None
    multiply_adds_m: float | None = None
    top1_percent: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    ms_per_image: Mapping[str, Mapping[int, float]] = field(default_factory=dict, compare=False)

    @property
    def structure(self) -> Structure | None:
        """The structure of a GENet; None for networks outside the design space."""
        library, _, name = self.network_from.partition(":")
        return zoo[name] if library == "zoo" else None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


Network = TypeVar("Network", bound=PublishedNetwork)


class PublishedNetworks(Mapping[str, Network], Generic[Network]):
    """The networks by name, read-only, in the order of Table 7; the file is read at first use.

    Upper and lower case are equal: `networks["efficientnet-b3"]`.

    Args:
        kind: The class of the entries.
    """

    def __init__(self, kind: type[Network]) -> None:
        self._kind = kind

    @cached_property
    def _entries(self) -> dict[str, Network]:
        text = files(__package__).joinpath("baselines.toml").read_text(encoding="utf-8")
        return {
            name: self._kind(**_facts(name, facts)) for name, facts in tomllib.loads(text).items()
        }

    @cached_property
    def _by_lower_name(self) -> dict[str, Network]:
        return {name.lower(): network for name, network in self._entries.items()}

    def of(self, set_name: str) -> tuple[Network, ...]:
        """The networks of a set, `paper34` or `modern`. Raises GenetsError for another name."""
        if set_name not in SETS:
            raise UnknownBaselineError(unknown_name("set of baselines", set_name, SETS))
        return tuple(network for network in self.values() if network.set == set_name)

    def __getitem__(self, name: str) -> Network:
        try:
            return self._by_lower_name[name.lower()]
        except KeyError:
            message = unknown_name("baseline", name, self._entries)
            raise UnknownBaselineError(message) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _facts(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a network from its table in the file and from the paper's tables."""
    tables = published_tables()
    if facts["set"] == "paper34":
        facts["top1_percent"] = tables["table7"].top1_percent[name]
    return {
        "name": name,
        "network_from": facts.pop("network"),
        "ms_per_image": {
            table.name: table.ms_per_image[name]
            for table in tables.values()
            if name in table.ms_per_image
        },
        **facts,
    }


published_networks = PublishedNetworks(PublishedNetwork)
