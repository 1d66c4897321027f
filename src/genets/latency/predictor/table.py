"""LatencyTable: predicted latencies of all structures of a search space on a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from genets.core.errors import TargetError
from genets.core.json_files import read_json, write_json
from genets.latency.predictor.builder import WholeNetwork, time_space
from genets.latency.predictor.costs import Calibration, SpaceCosts
from genets.latency.predictor.probes import Probe
from genets.latency.predictor.storage import TableSettings, read_fields, table_to_json
from genets.latency.predictor.transfer import Transfer, choose_networks
from genets.latency.predictor.work import Array
from genets.latency.target import Target
from genets.latency.timing.statistics import rmspe
from genets.structure import DesignSpace, SearchSpace, Structure, SuperBlock

HELD_OUT_NETWORKS = 20
LARGE_ERROR = 0.2  # RMSPE; on a machine left alone tables err by 2 to 10 %
CORRECTION_WEIGHT = 4.0  # a network measured after a selection counts as much as four others


@dataclass(frozen=True)
class LatencyTable:
    """The costs of all stages of a search space on a target, calibrated on whole networks.

    Attributes:
        space: The search space around a MasterNet.
        target: The target, with its number of threads.
        num_classes: The number of classes of the networks.
        timed_ms: The timed probes, in ms per batch.
        networks: The measured whole networks.
        environment: Device, driver, versions, threads and clocks.
        seconds: The time that building the table took: `preparing` and `timing`.
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
        visits: Path | None = None,
        source: LatencyTable | None = None,
    ) -> LatencyTable:
        """Build a table by timing probes and whole networks on this machine.

        Args:
            master: The MasterNet.
            space: The search space, or the design space around the MasterNet.
            target: Device, engine, precision and batch size.
            num_classes: The number of classes of the networks.
            seed: Determines the whole networks and the order of the timing.
            time_limit_s: Limit of the timing. Preparing some hundred small networks takes further
                time, and so does repeating probes whose times contradict each other.
            held_out: The number of whole networks that only measure the error of the table.
            on_progress: Called with the share that is done, 0 to 1.
            visits: A file that keeps the finished timings. Where it holds those of an interrupted
                call with the same arguments, on the same device and versions, the table continues
                from them. The caller removes the file when the table is stored.
            source: The table of a faster engine for the same space, see `Engine.table_source`. The
                probes then follow from it and from MAX_NETWORKS whole networks, see `transfer`.
                A quarter of these networks measure the error, and `held_out` is ignored.

        Returns:
            The table.

        Raises:
            TargetError: This machine cannot run the target or one of the networks, or the device
                failed.
        """
        around = space.around(master) if isinstance(space, DesignSpace) else space
        assert around.master == master
        networks: list[Structure] | None = None
        if source is not None:
            chosen, unfitted = choose_networks(source, seed)
            networks, held_out = [*chosen, *unfitted], len(unfitted)
        timings = time_space(
            around,
            target,
            num_classes,
            seed=seed,
            time_limit_s=time_limit_s,
            held_out=held_out,
            on_progress=on_progress,
            visits=visits,
            networks=networks,
        )
        if source is not None:
            fitted = [network for network in timings.networks if network.use != "held-out"]
            timings = timings._replace(
                timed_ms=Transfer.fit(source, fitted).probes(source),
                environment={**timings.environment, "table_source": source.target.name},
            )
        return cls(around, target.resolved(), num_classes, *timings)

    def predict_ms_per_image(self, structure: Structure) -> float:
        """Predict the latency of a structure.

        Raises:
            TargetError: The structure is outside the search space of the table.
        """
        self._check_structure(structure)
        total = 0.0
        for index in structure.indices:
            read, stage = structure.input_width(index), structure.stage(index)
            costs = self.stage_ms_per_image(index, [read], [stage], resolution=structure.resolution)
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
        """Predict the cost of stages at one place of the network.

        The latency of a structure is the sum over its stages and the offset. The classifier belongs
        to the head.

        Args:
            index: The index of the stage, as in `Structure.indices`.
            input_widths: Channels that the stage reads.
            stages: Candidates for the stage.
            resolution: Pixels along one side of the network's input; None is the MasterNet's.

        Returns:
            ms per image, of shape (input widths, stages).
        """
        resolution = self.space.master.resolution if resolution is None else resolution
        self._check_resolution(resolution)
        factor = self.calibration.factors[self.space.master.indices.index(index)]
        costs = self._costs.stage_ms(index, input_widths, stages, resolution)
        return np.asarray(costs * (factor / self.target.batch_size))

    @property
    def offset_ms_per_image(self) -> float:
        """The part of the latency that does not depend on the stages."""
        return self.calibration.offset_ms / self.target.batch_size

    @property
    def master_ms_per_image(self) -> float:
        """The MasterNet's latency, as measured with the table; else its prediction."""
        master = self.space.master
        for network in self.networks:
            if network.structure == master and network.use == "calibration":
                return network.ms_per_batch / self.target.batch_size
        return self.predict_ms_per_image(master)

    @property
    def source_name(self) -> str | None:
        """The target of the table that this one was made from; None where all was timed."""
        name = self.environment.get("table_source")
        return None if name is None else str(name)

    @property
    def rmspe(self) -> float:
        """Root mean squared relative error on the whole networks that were never fitted.

        It is 0 in a space of the MasterNet alone, whose latency is fitted.
        """
        if not self.held_out_ms_per_image:
            return 0.0
        predicted, measured = np.array(self.held_out_ms_per_image).T
        return rmspe(predicted, measured)

    @property
    def held_out_ms_per_image(self) -> list[tuple[float, float]]:
        """(predicted, measured) latency of each held-out network."""
        return [
            (self.predict_ms_per_image(n.structure), n.ms_per_batch / self.target.batch_size)
            for n in self.networks
            if n.use == "held-out"
        ]

    def correct(self, ms_per_image: Mapping[Structure, float]) -> LatencyTable:
        """Return a table whose calibration also uses these measured networks.

        Raises:
            TargetError: A structure is outside the search space of the table.
        """
        added = []
        for structure, ms in ms_per_image.items():
            self._check_structure(structure)
            added.append(WholeNetwork(structure, ms * self.target.batch_size, "correction"))
        return replace(self, networks=(*self.networks, *added))

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration on all networks that are not held out."""
        used = [n for n in self.networks if n.use != "held-out"]
        if not used:
            return Calibration.identity(len(self.space.master.stages))
        return Calibration.fit(
            np.array([self._costs.network_ms(n.structure) for n in used]),
            np.array([n.ms_per_batch for n in used]),
            [CORRECTION_WEIGHT if n.use == "correction" else 1.0 for n in used],
        )

    @cached_property
    def _costs(self) -> SpaceCosts:
        return SpaceCosts.fit(self.space, self.timed_ms)

    def _check_resolution(self, resolution: int) -> None:
        valid = self.space.resolutions
        if resolution not in valid:
            raise TargetError(
                f"the latency table has resolution {' and '.join(map(str, valid))}, "
                f"not {resolution}"
            )

    def _check_structure(self, structure: Structure) -> None:
        """Raise TargetError if the strides differ, or stem or head have widths out of range."""
        master, widths = self.space.master, self.space.widths
        self._check_resolution(structure.resolution)
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
        """Write the table as JSON, completely or not at all. Raises OSError."""
        write_json(path, self.to_json())

    @classmethod
    def load(
        cls,
        path: str | Path,
        expect: TableSettings | None = None,
        *,
        cure: str = "it must be measured again",
    ) -> LatencyTable:
        """Read a table that `save` wrote.

        Args:
            path: The file.
            expect: The settings that the table must have been made for; None accepts any table.
            cure: Advice to the user about a damaged table, or one for other settings.

        Returns:
            The table.

        Raises:
            TargetError: The file is missing, damaged, of another version, or for other settings.
        """
        try:
            table = read_json(path, cls.from_json, raises=TargetError, cure=cure)
        except OSError as error:
            raise TargetError(f"cannot read latency table {path}: {error.strerror}") from error
        if table is None:
            raise TargetError(f"cannot read latency table {path}: the file does not exist")
        differences = list(expect.differences(table)) if expect else []
        if differences:
            raise TargetError(
                f"latency table {path} is for other settings ({'; '.join(differences)}); {cure}"
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Return settings, conditions and timings; and the error and predictions, for readers."""
        return table_to_json(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> LatencyTable:
        """Create a table from the output of `to_json`; raises the errors of foreign JSON."""
        table = cls(**read_fields(record))
        table._check_predictions()
        return table

    def _check_predictions(self) -> None:
        """Predict with every part once, so that a missing probe is found when the file is read.

        Raises:
            ValueError, KeyError: A part is missing, or a prediction is not finite.
        """
        if len(self.networks) > 1 and not self.held_out_ms_per_image:
            raise ValueError("no network is held out")
        master = self.space.master
        for resolution, index in product(self.space.resolutions, master.indices):
            stages = [
                replace(master.stage(index), type=each.type, kernel=each.kernel, ratio=each.ratio)
                for each in self.space.blocks[index]
            ]
            read = [master.input_width(index)]
            costs = self.stage_ms_per_image(index, read, stages, resolution=resolution)
            if not np.isfinite(costs).all():
                raise ValueError("a predicted latency is not finite")
