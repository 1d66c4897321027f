"""Alternatives: the best structure, the best structure of other block types, and so on.

Two structures are alternatives if at least one of their super-blocks has another block type: XX DW
DW is an alternative of XX BL DW. Another depth, width, kernel or ratio alone does not count. The
k-th alternative is the best structure whose block types differ from those of all alternatives
before it. This is exact: all structures except those of given block types fall into few products of
types (Lawler 1972), and each product is a chain with its own frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from genets.nas.selection.chain import ChainStage, Integers
from genets.nas.selection.frontier import Frontier, pareto
from genets.structure import Structure

BlockTypes = tuple[str, ...]  # one for each stage, in order
TypeProduct = tuple[frozenset[str], ...]  # the allowed block types of each stage
Solve = Callable[[Sequence[ChainStage]], Frontier]


def block_types(structure: Structure) -> BlockTypes:
    return tuple(stage.type for stage in structure.stages)


def allowed_types(stages: Sequence[ChainStage]) -> TypeProduct:
    """The block types that each stage of a chain offers."""
    return tuple(frozenset(option.type for option in stage.options) for stage in stages)


def products_without(allowed: TypeProduct, used: Sequence[BlockTypes]) -> list[TypeProduct]:
    """Split all block types in `allowed`, except those in `used`, into disjoint products."""
    products = [allowed]
    for types in used:
        products = [part for product in products for part in _without(product, types)]
    return products


def _without(product: TypeProduct, types: BlockTypes) -> Iterator[TypeProduct]:
    if any(name not in names for name, names in zip(types, product, strict=True)):
        yield product
        return
    for number, name in enumerate(types):
        # This stage is the first that differs, so no structure is in two products.
        same = tuple(frozenset([earlier]) for earlier in types[:number])
        if others := product[number] - {name}:
            yield (*same, others, *product[number + 1 :])


def frontier_without(
    stages: Sequence[ChainStage], used: Sequence[BlockTypes], solve: Solve
) -> Frontier:
    """The frontier of a chain over all structures except those of the block types in `used`.

    Args:
        stages: the chain.
        used: block types to leave out. At least one other structure must exist, see
            `products_without`.
        solve: computes the frontier of a chain.
    """
    if not used:
        return solve(stages)
    latency, gain, chosen = [], [], []
    for product in products_without(allowed_types(stages), used):
        columns = [
            np.array([n for n, option in enumerate(stage.options) if option.type in names])
            for stage, names in zip(stages, product, strict=True)
        ]
        front = solve([*map(_restrict, stages, columns)])
        latency.append(front.latency_ms)
        gain.append(front.gain)
        chosen.append(_unrestricted_choices(front.chosen, columns))
    all_latency, all_gain = np.concatenate(latency), np.concatenate(gain)
    best = pareto(all_latency, all_gain) if len(all_latency) else np.empty(0, np.int64)
    return Frontier(tuple(stages), all_latency[best], all_gain[best], np.concatenate(chosen)[best])


def _restrict(stage: ChainStage, columns: Integers) -> ChainStage:
    """The stage with only some of its options."""
    return replace(
        stage,
        options=tuple(stage.options[column] for column in columns),
        latency_ms=stage.latency_ms[:, columns],
        gain=stage.gain[:, columns],
    )


def _unrestricted_choices(chosen: Integers, columns: Sequence[Integers]) -> Integers:
    """Choices of a restricted chain, as indices of the options of the whole chain."""
    unrestricted = chosen.copy()
    for number, own in enumerate(columns):
        unrestricted[:, number] = own[chosen[:, number]]
    return unrestricted
