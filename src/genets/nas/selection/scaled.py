"""The MasterNet with all widths scaled: a candidate that inherits every block type.

A candidate that inherits weights loses something with each block of another type, and with few
images a search cannot measure how much. The scaled MasterNet loses nothing but channels. A width
that would replace a projection by an identity, and so lose its weights, is taken only where nothing
else is fast enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from genets.structure import SearchSpace, Structure, SuperBlock

PredictMs = Callable[[Structure], float]


def scale_to_latency(
    space: SearchSpace, predict_ms: PredictMs, aim_ms: float, resolution: int
) -> Structure | None:
    """Scale the widths of the MasterNet by one factor until a latency is reached.

    Widths have steps, so many of them change at the same factor. Widths that still fit are then
    those of the next larger factor.

    Args:
        space: The search space; each width is one of its widths.
        predict_ms: Predicts a latency in ms per image.
        aim_ms: The largest predicted latency.
        resolution: The resolution of the structure.

    Returns:
        The structure; None where all are slower.
    """
    for keep in (True, False):
        wider: Structure | None = None
        for structure in _scaled_down(space, keep=keep):
            structure = structure.with_resolution(resolution)
            if predict_ms(structure) <= aim_ms:
                return _widen(structure, wider or structure, predict_ms, aim_ms)
            wider = structure
    return None


def _widen(
    structure: Structure, wider: Structure, predict_ms: PredictMs, aim_ms: float
) -> Structure:
    """Take widths of another structure, the slowest first, as long as the latency allows it.

    Stages with a common identity shortcut change together, and each shortcut keeps its kind.
    """
    groups: list[list[int]] = []
    for index, is_linked in zip(structure.indices, _identities(structure), strict=True):
        groups = [*groups[:-1], [*groups[-1], index]] if is_linked else [*groups, [index]]

    def widened(start: Structure, group: Sequence[int]) -> Structure:
        for index in group:
            start = start.with_stage(index, wider.stage(index))
        return start

    def latency(group: Sequence[int]) -> float:
        return predict_ms(widened(structure, group))

    for group in sorted(groups, key=latency, reverse=True):
        tried = widened(structure, group)
        is_alike = _identities(tried) == _identities(structure)
        if is_alike and predict_ms(tried) <= aim_ms:
            structure = tried
    return structure


def _identities(structure: Structure) -> list[bool]:
    """Whether the first shortcut of each stage is an identity."""
    return [
        structure.stage(index).keeps_shape(structure.input_width(index))
        for index in structure.indices
    ]


def _scaled_down(space: SearchSpace, *, keep: bool) -> Iterator[Structure]:
    """The scaled MasterNets, the widest first. keep: whether they keep the projections."""
    master = space.master
    shares = {
        width / master.stage(index).width
        for index in master.indices
        for width in space.widths[index]
    }
    for share in sorted(shares, reverse=True):
        stages: list[SuperBlock] = []
        for index in master.indices:
            input_width = stages[-1].width if stages else 0
            stages.append(_scaled_stage(space, index, share, input_width if keep else 0))
        yield Structure(tuple(stages), master.resolution)


def _scaled_stage(space: SearchSpace, index: int, share: float, input_width: int) -> SuperBlock:
    """The widest stage up to a share of the MasterNet's width; at least the narrowest one.

    Where the MasterNet has a projection there, the width is not `input_width`.
    """
    own, widths = space.master.stage(index), space.widths[index]
    options = [replace(own, width=width) for width in widths]
    if own.type != "Conv" and not own.keeps_shape(space.master.input_width(index)):
        options = [each for each in options if not each.keeps_shape(input_width)] or options
    narrow = [each for each in options if each.width <= share * own.width]
    return max(narrow or options[:1], key=lambda each: each.width)
