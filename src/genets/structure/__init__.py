"""Structures, their written forms, search spaces and the zoo.

`block` and `structure` hold the values, `notation` and `toml_file` their written forms, `space`
the choices of a search, `cost` the multiply-adds, `layers` the cost of the user's own block types,
and `zoo` the named structures. This layer imports no torch.
"""

from genets.structure.block import BLOCK_TYPES, Block, BlockType, SuperBlock
from genets.structure.notation import parse_super_block
from genets.structure.space import DesignSpace, SearchSpace
from genets.structure.structure import Structure
from genets.structure.zoo import Zoo, ZooEntry, zoo

__all__ = [
    "BLOCK_TYPES",
    "Block",
    "BlockType",
    "DesignSpace",
    "SearchSpace",
    "Structure",
    "SuperBlock",
    "Zoo",
    "ZooEntry",
    "parse_super_block",
    "zoo",
]
