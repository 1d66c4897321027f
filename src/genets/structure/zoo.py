"""The zoo: named structures with their published figures, read from `zoo.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from genets.core.errors import StructureError, unknown_name
from genets.structure.structure import Structure


class UnknownZooNameError(StructureError, KeyError):
    """No structure of the zoo has this name. A Mapping must raise a KeyError, so this is one."""

    __str__ = StructureError.__str__  # KeyError would put the sentence in quotes


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry:
    """A named structure with its published figures; None where a figure was not published.

    Attributes:
        structure: the structure.
        source: the publication of the structure.
        top1_percent: top-1 accuracy on ImageNet, in percent.
        parameters_m, multiply_adds_m: size and cost with 1000 classes, in millions.
    """

    structure: Structure
    source: str
    top1_percent: float | None = None
    parameters_m: float | None = None
    multiply_adds_m: float | None = None


class Zoo(Mapping[str, Structure]):
    """A read-only mapping from name to Structure. The data file is read at the first use."""

    @cached_property
    def _entries(self) -> dict[str, ZooEntry]:
        text = files("genets.structure").joinpath("zoo.toml").read_text(encoding="utf-8")
        return {
            name: ZooEntry(structure=Structure.parse(facts.pop("notation")), **facts)
            for name, facts in tomllib.loads(text).items()
        }

    def entry(self, name: str) -> ZooEntry:
        """A structure with its published figures. Raises StructureError for an unknown name."""
        try:
            return self._entries[name]
        except KeyError:
            message = unknown_name("zoo name", name, self._entries)
            raise UnknownZooNameError(message) from None

    def __getitem__(self, name: str) -> Structure:
        return self.entry(name).structure

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


zoo = Zoo()
"""The structures that have names, such as `genets.zoo["genet_large"]`: the only `Zoo`."""
