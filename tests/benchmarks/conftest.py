"""Benchmarks are imported by their names; what they register exists in these tests alone."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genets.core.data_name import LOADERS
from genets.networks import own_blocks
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES

REGISTRIES: tuple[dict[Any, Any], ...] = (BLOCK_TYPES, BLOCKS, own_blocks._loaded, LOADERS)

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

# The imports register block types and a data set, which would change the tests of others.
_before = [dict(registry) for registry in REGISTRIES]
import shapes  # noqa: E402, F401
import tables  # noqa: E402

_added = [
    {name: value for name, value in registry.items() if name not in before}
    for registry, before in zip(REGISTRIES, _before, strict=True)
]
for _registry, _names in zip(REGISTRIES, _added, strict=True):
    for _name in _names:
        del _registry[_name]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    before = [dict(registry) for registry in REGISTRIES]
    for registry, added in zip(REGISTRIES, _added, strict=True):
        registry.update(added)
    yield
    for registry, old in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(old)


@pytest.fixture
def macro(tmp_path: Path) -> "tables.Table":
    """All networks of four layers, with interactions and three noisy trainings."""
    from made_tables import write_macro

    write_macro(tmp_path, interaction=0.02, noise=0.5)
    return tables.read_macro(tmp_path)
