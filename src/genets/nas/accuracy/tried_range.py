"""What trials have tried at each stage: beyond it a prediction is an extrapolation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from genets.nas.study.trial import Trial
from genets.structure import Structure, SuperBlock


@dataclass(frozen=True)
class TriedRange:
    """By stage what finished trials had in its place, the MasterNet's own included."""

    master: Structure
    tried: Mapping[int, Sequence[SuperBlock]]

    @classmethod
    def of(cls, master: Structure, trials: Sequence[Trial]) -> TriedRange:
        tried = {
            index: [master.stage(index), *(t.super_block for t in trials if t.index == index)]
            for index in master.indices
        }
        return cls(master, tried)

    def outside(self, structure: Structure) -> tuple[str, ...]:
        """A few words on each stage of `structure` that goes beyond the trials there."""
        return tuple(
            words
            for index in structure.indices
            for words in self._beyond(index, structure.stage(index))
        )

    def _beyond(self, index: int, there: SuperBlock) -> Iterator[str]:
        name, tried = self.master.stage_name(index), self.tried[index]
        if there.block not in {one.block for one in tried}:
            yield f"{name}: no trial of {there.block}"
        for what in ("depth", "width"):
            value, values = getattr(there, what), [getattr(one, what) for one in tried]
            least, most = min(values), max(values)
            if not least <= value <= most:
                yield f"{name}: {what} {value}, tried {least} to {most}"
