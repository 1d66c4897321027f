"""Structures, their written forms, design spaces and the zoo. Imports no torch."""

from genets.structure.block import BLOCK_TYPES, Block, BlockType
from genets.structure.notation import (
    format_notation,
    format_super_block,
    parse_notation,
    parse_super_block,
)
from genets.structure.space import DesignSpace, SearchSpace
from genets.structure.structure import Structure, SuperBlock
from genets.structure.toml_file import format_toml, load_structure, parse_toml
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
    "format_notation",
    "format_super_block",
    "format_toml",
    "load_structure",
    "parse_notation",
    "parse_super_block",
    "parse_toml",
    "zoo",
]
