"""Chunks: which networks can be resident together, to be timed in turn."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

import torch

from genets.analysis.candidates import Size
from genets.latency import Target
from genets.latency.engines.host_memory import available_bytes

Key = TypeVar("Key", bound=Hashable)

BYTES_PER_VALUE = 4
UNKNOWN_FREE_BYTES = 2**33  # where the system does not say


def resident_bytes(size: Size, batch_size: int) -> int:
    """A generous estimate of what a prepared network keeps: two copies of its weights, its
    inputs, and as much as its largest layer reads and writes, twice.

    Engines with memory plans of their own (ONNX Runtime, OpenVINO, CUDA graphs) keep the
    feature maps of every network between its runs.
    """
    values = 2 * size.parameters + batch_size * (size.input_values + 2 * size.largest_values)
    return BYTES_PER_VALUE * values


def free_bytes(target: Target) -> int:
    """Half of what the device has free: the rest is for what an engine needs while it works."""
    on_gpu = not target.is_cpu
    free = int(torch.cuda.mem_get_info(target.device)[0]) if on_gpu else available_bytes()
    return (UNKNOWN_FREE_BYTES if free is None else free) // 2


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
