"""Structures, their written forms, search spaces and the zoo.

`block` and `structure` hold the values, `notation` and `toml_file` their written forms, `space`
the choices of a search, `cost` the multiply-adds and parameters, `layers` the cost of the user's
own block types, `zoo` the named structures, and `published` the published figures of other
networks. This layer imports no torch.
"""

from genets.structure.block import BLOCK_TYPES, Block, BlockType, SuperBlock
from genets.structure.notation import parse_super_block
from genets.structure.space import DesignSpace, SearchSpace
from genets.structure.structure import Structure
from genets.structure.zoo import zoo

__all__ = [
    "BLOCK_TYPES",
    "Block",
    "BlockType",
    "DesignSpace",
    "SearchSpace",
    "Structure",
    "SuperBlock",
    "parse_super_block",
    "zoo",
]
