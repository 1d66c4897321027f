"""Latency table: predicts the latency of every structure of a design space on one target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genets.core.errors import TargetError
from genets.core.files import write_atomic
from genets.latency.predictor.costs import Calibration, EndCosts, StageCosts
from genets.latency.predictor.probes import End, Piece, Probe, without_edges
from genets.latency.predictor.work import Array
from genets.latency.target import Target
from genets.latency.timing.measurement import Measurement
from genets.latency.timing.statistics import rmspe
from genets.structure import DesignSpace, SearchSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions

if TYPE_CHECKING:
    from genets.latency.predictor.storage import TableSettings

HELD_OUT_NETWORKS = 20
CORRECTION_WEIGHT = 4.0  # a network that a selection was made of counts as much as four others

Use = Literal["calibration", "held-out", "correction"]


@dataclass(frozen=True)
class WholeNetwork:
    """A measured network: for calibration, held out of it, or measured after a selection."""

    structure: Structure
    ms_per_batch: float
    use: Use


@dataclass(frozen=True)
class LatencyTable:
    """Costs of the stages on a target, calibrated on whole networks.

    timed_ms: ms per batch of every timed piece. networks: whole networks, measured.
    seconds: what building it took, `preparing` and `timing`.
    """

    space: SearchSpace
    target: Target
    num_classes: int
    timed_ms: Mapping[Probe, float]
    networks: tuple[WholeNetwork, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def build(
        cls,
        master: Structure,
        space: SearchSpace | DesignSpace,
        target: Target,
        num_classes: int,
        *,
        seed: int = 0,
        time_limit_s: float = 30.0,
        held_out: int = HELD_OUT_NETWORKS,
        on_progress: Callable[[float], None] | None = None,
    ) -> LatencyTable:
        """Time what is needed. Raises TargetError.

        time_limit_s: of timing; the preparation of some hundred small networks comes on top, and
            so do pieces that are timed again because their times contradict each other.
        held_out: whole networks that only tell the error.
        on_progress: called with the share done, 0 to 1.
        """
        from genets.latency.predictor.builder import build_table

        around = space.around(master) if isinstance(space, DesignSpace) else space
        assert around.master == master
        return build_table(
            around,
            target,
            num_classes,
            seed=seed,
            time_limit_s=time_limit_s,
            held_out=held_out,
            on_progress=on_progress,
        )

    def predict_ms_per_image(self, structure: Structure) -> float:
        """Predicted latency of one structure. Raises TargetError if the table is not for it."""
        self._check_structure(structure)
        resolution = structure.resolution
        total = 0.0
        for index in structure.indices:
            reads, stage = structure.input_width(index), structure.stage(index)
            costs = self.stage_ms_per_image(index, [reads], [stage], resolution=resolution)
            total += float(costs[0, 0])
        return total + self.offset_ms_per_image

    def stage_ms_per_image(
        self,
        index: int,
        input_widths: Sequence[int],
        stages: Sequence[SuperBlock],
        *,
        resolution: int | None = None,
    ) -> Array:
        """(input widths, stages): ms per image of each as the stage `index`.

        The sum over stages (by `Structure.indices`; the classifier counts to the head) and the
        offset is the prediction. resolution: of the images; by default the MasterNet's.
        """
        factor = self.calibration.factors[self.space.master.indices.index(index)]
        costs = self._stage_ms(index, input_widths, stages, self._resolution(resolution))
        return np.asarray(costs * (factor / self.target.batch_size))

    @property
    def offset_ms_per_image(self) -> float:
        """What every structure has beside its stages."""
        return self.calibration.offset_ms / self.target.batch_size

    @property
    def master_ms_per_image(self) -> float:
        """The MasterNet as it was measured with the table, or predicted where it was not."""
        master = self.space.master
        for network in self.networks:
            if network.structure == master and network.use == "calibration":
                return network.ms_per_batch / self.target.batch_size
        return self.predict_ms_per_image(master)

    @property
    def rmspe(self) -> float:
        """Root mean squared relative error on whole networks that no fit has seen."""
        predicted, measured = np.array(self.held_out_ms_per_image).T
        return rmspe(predicted, measured)

    @property
    def held_out_ms_per_image(self) -> list[tuple[float, float]]:
        """(predicted, measured) of each network that was held out."""
        return [
            (self.predict_ms_per_image(n.structure), n.ms_per_batch / self.target.batch_size)
            for n in self.networks
            if n.use == "held-out"
        ]

    def correct(self, measurements: Mapping[Structure, Measurement | float]) -> LatencyTable:
        """A table whose calibration knows these whole networks too; floats are ms per image."""
        added = tuple(
            WholeNetwork(
                structure,
                (m.ms_per_image if isinstance(m, Measurement) else m) * self.target.batch_size,
                "correction",
            )
            for structure, m in measurements.items()
        )
        for network in added:
            self._check_structure(network.structure)
        return replace(self, networks=(*self.networks, *added))

    @cached_property
    def calibration(self) -> Calibration:
        used = [n for n in self.networks if n.use != "held-out"]
        if not used:
            return Calibration.none(len(self.space.master.stages))
        return Calibration.fit(
            np.array([self._part_costs_ms(n.structure) for n in used]),
            np.array([n.ms_per_batch for n in used]),
            [CORRECTION_WEIGHT if n.use == "correction" else 1.0 for n in used],
        )

    @cached_property
    def _parts_ms(self) -> dict[Piece | End, float]:
        """ms per batch of pieces and ends as parts of a network."""
        return without_edges(self.timed_ms)

    @cached_property
    def _costs(self) -> dict[tuple[int, int], StageCosts | EndCosts]:
        """By index of the stage, and pixels along one side of what it reads."""
        stem, *_, head = self.space.master.indices
        pieces: dict[tuple[int, int], dict[Piece, float]] = {}
        ends: dict[tuple[int, int], dict[End, float]] = {}
        for part, ms in self._parts_ms.items():
            if isinstance(part, Piece):
                pieces.setdefault((part.index, part.resolution), {})[part] = ms
            else:
                index = stem if part.name == "stem" else head
                ends.setdefault((index, part.resolution), {})[part] = ms
        return {key: StageCosts.fit(timed) for key, timed in pieces.items()} | {
            key: EndCosts.of(timed) for key, timed in ends.items()
        }

    def _part_costs_ms(self, structure: Structure) -> Array:
        """ms per batch of each stage before calibration."""
        costs = [
            self._stage_ms(index, [reads], [structure.stage(index)], structure.resolution)[0, 0]
            for index in structure.indices
            for reads in [structure.input_width(index)]
        ]
        return np.array(costs)

    def _stage_ms(
        self, index: int, input_widths: Sequence[int], stages: Sequence[SuperBlock], resolution: int
    ) -> Array:
        """(input widths, stages): ms per batch before calibration."""
        return self._costs[index, self._sides[resolution][index]].stage_ms(input_widths, stages)

    @cached_property
    def _sides(self) -> dict[int, dict[int, int]]:
        """For each image resolution, by index, pixels along one side of what a stage reads."""
        master = self.space.master
        return {
            resolution: dict(
                zip(
                    master.indices,
                    input_resolutions(master.with_resolution(resolution)),
                    strict=True,
                )
            )
            for resolution in self.space.resolutions
        }

    def _resolution(self, resolution: int | None) -> int:
        known = self.space.resolutions
        wanted = self.space.master.resolution if resolution is None else resolution
        if wanted not in known:
            raise TargetError(
                f"the latency table has resolution {' and '.join(map(str, known))}, not {wanted}"
            )
        return wanted

    def _check_structure(self, structure: Structure) -> None:
        """Raise TargetError where it is of other strides, or its ends of widths not timed."""
        master, widths = self.space.master, self.space.widths
        self._resolution(structure.resolution)
        same = [s.stride for s in structure.stages] == [s.stride for s in master.stages]
        if not same or any(
            not widths[end][0] <= structure.stage(end).width <= widths[end][-1]
            for end in (master.indices[0], master.indices[-1])
        ):
            raise TargetError(
                f"the latency table is for structures with the stem, head and strides of "
                f"{master}, not for {structure}"
            )

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, atomically. Raises OSError."""
        write_atomic(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def load(cls, path: str | Path, expect: TableSettings | None = None) -> LatencyTable:
        """Read a table. Raises TargetError if it is damaged, or not what is expected."""
        from genets.latency.predictor.storage import read_table

        return read_table(Path(path), expect)

    def to_json(self) -> dict[str, Any]:
        from genets.latency.predictor.storage import table_to_json

        return table_to_json(self)
