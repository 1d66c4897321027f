"""Benchmarks are imported by their names; their block types exist in these tests alone."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genets.networks import own_blocks
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES

REGISTRIES: tuple[dict[Any, Any], ...] = (BLOCK_TYPES, BLOCKS, own_blocks._loaded)

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

# The import registers block types. They would change the accuracy model in the tests of others.
_before = [dict(registry) for registry in REGISTRIES]
import tables  # noqa: E402

_added = [
    {name: value for name, value in registry.items() if name not in before}
    for registry, before in zip(REGISTRIES, _before, strict=True)
]
for _registry, _names in zip(REGISTRIES, _added, strict=True):
    for _name in _names:
        del _registry[_name]


@pytest.fixture(autouse=True)
def _table_blocks() -> Iterator[None]:
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
