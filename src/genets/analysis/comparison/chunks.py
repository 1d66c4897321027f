"""Chunks: which networks can be resident together, to be timed in turn."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def in_chunks(sizes: Mapping[Key, int], limit: int, reference: Key) -> Iterator[list[Key]]:
    """The keys in order, cut where a chunk would hold more than `limit` bytes.

    The reference is in every chunk, so that chunks can be compared.
    """
    chunk: list[Key] = []
    held = 0
    for key, size in sizes.items():
        if key == reference:
            continue
        if chunk and held + size + sizes[reference] > limit:
            yield [reference, *chunk]
            chunk, held = [], 0
        chunk.append(key)
        held += size
    yield [reference, *chunk]
