"""What trials have tried at each super-block: beyond it a prediction is an extrapolation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genets.nas.trial import Trial
from genets.structure import Block, Structure, SuperBlock


@dataclass(frozen=True)
class TriedRange:
    """For each super-block what finished trials had in its place, the MasterNet's own included."""

    blocks: tuple[frozenset[Block], ...]
    depths: tuple[tuple[int, int], ...]
    widths: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, master: Structure, trials: Sequence[Trial]) -> TriedRange:
        tried = [
            [own, *(trial.super_block for trial in trials if trial.index == index)]
            for index, own in enumerate(master.super_blocks)
        ]
        return cls(
            tuple(frozenset(s.block for s in there) for there in tried),
            tuple(_ends([s.depth for s in there]) for there in tried),
            tuple(_ends([s.width for s in there]) for there in tried),
        )

    def outside(self, structure: Structure) -> tuple[str, ...]:
        """A few words on each super-block of `structure` that goes beyond the trials there."""
        places = enumerate(structure.super_blocks)
        return tuple(words for index, there in places for words in self._beyond(index, there))

    def _beyond(self, index: int, there: SuperBlock) -> Iterator[str]:
        name = f"super-block {index + 1}"
        if there.block not in self.blocks[index]:
            yield f"{name}: no trial of {there.block}"
        for what, value, (least, most) in (
            ("depth", there.depth, self.depths[index]),
            ("width", there.width, self.widths[index]),
        ):
            if not least <= value <= most:
                yield f"{name}: {what} {value}, tried {least} to {most}"


def _ends(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)
