"""Alternatives: the best structure, the best of other block types, and so on.

Two structures are alternatives of each other if the block types of their super-blocks differ
somewhere: XX DW DW is one of XX BL DW, another depth, width, kernel or ratio alone is none. The
k-th alternative is the best structure whose types are not those of any before it. That is exact:
all structures but those of given types fall into few products of types (Lawler 1972), and each
product is a chain of its own, with its own frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from genets.nas.selection.chain import ChainStage, Frontier, Integers, pareto
from genets.structure import Structure

BlockTypes = tuple[str, ...]  # of the stages, in order
TypeProduct = tuple[frozenset[str], ...]  # for each stage the types that may stand there
Solve = Callable[[Sequence[ChainStage]], Frontier]


def block_types(structure: Structure) -> BlockTypes:
    return tuple(stage.type for stage in structure.stages)


def products_without(allowed: TypeProduct, used: Sequence[BlockTypes]) -> list[TypeProduct]:
    """Disjoint products of types which hold all of `allowed` but `used`; none if none is left."""
    products = [allowed]
    for types in used:
        products = [part for product in products for part in _without(product, types)]
    return products


def _without(product: TypeProduct, types: BlockTypes) -> Iterator[TypeProduct]:
    if any(name not in names for name, names in zip(types, product, strict=True)):
        yield product
        return
    for place, name in enumerate(types):
        # The first stage that differs is this one: so no structure is in two parts.
        same = tuple(frozenset([earlier]) for earlier in types[:place])
        if others := product[place] - {name}:
            yield (*same, others, *product[place + 1 :])


def allowed_types(stages: Sequence[ChainStage]) -> TypeProduct:
    """What the stages of a chain may be."""
    return tuple(frozenset(option.type for option in stage.options) for stage in stages)


def frontier_without(
    stages: Sequence[ChainStage], used: Sequence[BlockTypes], solve: Solve
) -> Frontier:
    """What `solve` gives for a chain, over all its structures but those of the types in `used`.

    Some structure must be left, see `products_without`.
    """
    if not used:
        return solve(stages)
    latency, accuracy, chosen = [], [], []
    for product in products_without(allowed_types(stages), used):
        columns = [
            np.array([n for n, option in enumerate(stage.options) if option.type in names])
            for stage, names in zip(stages, product, strict=True)
        ]
        front = solve([*map(_only, stages, columns)])
        latency.append(front.latency_ms)
        accuracy.append(front.accuracy)
        chosen.append(_of_whole_chain(front.chosen, columns))
    all_latency, all_accuracy = np.concatenate(latency), np.concatenate(accuracy)
    kept = pareto(all_latency, all_accuracy) if len(all_latency) else np.empty(0, np.int64)
    picked = np.concatenate(chosen)[kept]
    return Frontier(tuple(stages), all_latency[kept], all_accuracy[kept], picked)


def _only(stage: ChainStage, columns: Integers) -> ChainStage:
    return replace(
        stage,
        options=tuple(stage.options[column] for column in columns),
        latency_ms=stage.latency_ms[:, columns],
        accuracy=stage.accuracy[:, columns],
    )


def _of_whole_chain(chosen: Integers, columns: Sequence[Integers]) -> Integers:
    whole = chosen.copy()
    for place, own in enumerate(columns):
        whole[:, place] = own[chosen[:, place]]
    return whole
