"""The laboratory of a search: it times, trains, scores and exports networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from genets.analysis.comparison.networks import ComparedNetwork
from genets.core.errors import TargetError
from genets.core.log import get_logger
from genets.data import ImageData, Split
from genets.latency import (
    ENGINES,
    LatencyTable,
    Measurement,
    TableSettings,
    Target,
    measure_interleaved,
)
from genets.latency.engines.base import explain_failures
from genets.latency.predictor.probes import build_for_timing
from genets.latency.predictor.table import LARGE_ERROR
from genets.latency.predictor.visits import remove_visits
from genets.latency.timing.calm import OnWait, count_idle_threads, wait_until_calm
from genets.nas.candidates.export import OnnxCheck, export_network
from genets.nas.candidates.quantised import score_quantised
from genets.nas.selection.network_latency import narrow_share
from genets.nas.study import layout
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.team_training import TeamJob, train_in_team
from genets.nas.workers.job import Job, Workers
from genets.networks import load
from genets.structure import Structure
from genets.training import (
    Listener,
    Metric,
    Recipe,
    RunRecipe,
    RunSettings,
    Score,
    evaluate,
    train_on,
)
from genets.training.epoch_checkpoints import EpochCheckpoints
from genets.training.evaluation import evaluate_images
from genets.training.predictions import Predictions
from genets.training.short_trainings import OnStep, try_variants
from genets.training.train_network import train_network
from genets.training.variants import Variant

if TYPE_CHECKING:
    from torch import nn

OnShare = Callable[[float], None]
BuildOn = Callable[[str], "nn.Module"]  # builds a network on a device

_log = get_logger(__name__)

REBUILD_WAIT_S = 60.0  # for a calm device, before a table is built once more
SOURCE_SHARE = 0.5  # of the progress of a table that is made from the table of another engine


class Laboratory:
    """The real laboratory. A test gives a search a subclass that answers in closed form.

    The search itself plans, selects and stores.
    """

    def prepare_table(
        self,
        path: Path,
        expected: TableSettings,
        *,
        seed: int,
        time_limit_s: float,
        on_progress: OnShare | None = None,
    ) -> LatencyTable:
        """Load the latency table at `path`, or build it and save it there.

        A build that is interrupted continues from the file at `layout.visits_path`. Where the
        engine takes seconds to prepare a network, the table of a faster engine is prepared first;
        see `Engine.table_source`. A table with a large error is built once more if the device is
        calm or becomes calm within REBUILD_WAIT_S, and the better of the two tables is kept.

        Args:
            path: The file of the table.
            expected: The search space, target and number of classes of the table.
            seed: Seed of the networks that are measured.
            time_limit_s: Time for the measurements; see `LatencyTable.build`.
            on_progress: Called with the share that is done, 0 to 1.

        Raises:
            TargetError: The stored table is damaged, or has other settings.
        """
        if path.exists():
            cure = f"remove {path.parent} to have it measured here"
            return LatencyTable.load(path, expected, cure=cure)
        report, source = on_progress or (lambda share: None), None
        fast = ENGINES[expected.target.engine].table_source(expected.target)
        if fast is not None:
            source = self._prepare_source(
                path,
                replace(expected, target=fast),
                seed=seed,
                time_limit_s=time_limit_s,
                on_progress=lambda share: report(SOURCE_SHARE * share),
            )
        done = 0.0 if source is None else SOURCE_SHARE

        def build(visits: Path | None = None) -> LatencyTable:
            return LatencyTable.build(
                expected.space.master,
                expected.space,
                expected.target,
                expected.num_classes,
                seed=seed,
                time_limit_s=time_limit_s,
                on_progress=lambda share: report(done + (1 - done) * share),
                visits=visits,
                source=source,
            )

        visits = layout.visits_path(path)
        table = build(visits)
        table.save(path)
        remove_visits(visits)
        if table.rmspe > LARGE_ERROR:
            again = self._build_again(table, build)
            if again is not None and again.rmspe < table.rmspe:
                again.save(path)
                return again
        return table

    def _build_again(
        self, table: LatencyTable, build: Callable[[], LatencyTable]
    ) -> LatencyTable | None:
        """Build a table with a large error once more; None where that is not possible."""
        error = f"the latency table errs by {table.rmspe:.0%} (RMSPE) on networks that were not "
        error += "used to make it"
        if not self.wait_for_calm(table.target, REBUILD_WAIT_S, lambda seconds, others: None):
            _log.warning("%s, and other programs still use the device", error)
            return None
        _log.warning("%s, so it is measured once more", error)
        try:
            return build()
        except TargetError as failure:
            _log.warning("the first latency table stays: %s", failure)
            return None

    def _prepare_source(
        self,
        path: Path,
        expected: TableSettings,
        *,
        seed: int,
        time_limit_s: float,
        on_progress: OnShare,
    ) -> LatencyTable:
        """Give the table from which the table at `path` is made; see `prepare_table`.

        It is the table of a target of the study, if there is a valid one. Otherwise it has a folder
        of its own, because no network of the study is measured on its target.
        """
        own = layout.table_path(path.parent, expected.target.name)
        if own.exists():
            try:
                return LatencyTable.load(own, expected, cure="it is not used")
            except TargetError as error:
                _log.warning("%s", error)
        source = layout.source_path(path, expected.target.name)
        source.parent.mkdir(exist_ok=True)
        return self.prepare_table(
            source, expected, seed=seed, time_limit_s=time_limit_s, on_progress=on_progress
        )

    def measure(
        self,
        structures: Sequence[Structure],
        target: Target,
        num_classes: int,
        time_limit_s: float,
        on_progress: OnShare | None = None,
        *,
        relative: bool = False,
    ) -> dict[Structure, Measurement]:
        """Measure networks in turn.

        Args:
            structures: The networks.
            target: The target.
            num_classes: The number of classes of the networks.
            time_limit_s: Time for each network; a noisy machine uses all of it.
            on_progress: Called with the share of the sampling that is done, 0 to 1.
            relative: Whether the ratios to the first network must be precise, not the latencies.
        """
        networks: dict[str, tuple[BuildOn, int]] = {
            str(each): (partial(build_for_timing, each, num_classes), each.resolution)
            for each in structures
        }
        measured = _measure_in_turn(
            networks, target, time_limit_s, on_progress,
            reference=next(iter(networks)), relative=relative,
        )  # fmt: skip
        return {structure: measured[str(structure)] for structure in structures}

    def measure_rival(
        self,
        rival: ComparedNetwork,
        master: Structure,
        target: Target,
        num_classes: int,
        time_limit_s: float,
        on_progress: OnShare | None = None,
        *,
        relative: bool = False,
    ) -> tuple[Measurement, Measurement]:
        """Measure a rival and the MasterNet in turn; see `measure`.

        Returns:
            The measurements of the rival and of the MasterNet.

        Raises:
            GenetsError: The rival cannot run on the target.
        """
        measured = _measure_in_turn(
            {
                "rival": (rival.network, rival.resolution),
                "MasterNet": (partial(build_for_timing, master, num_classes), master.resolution),
            },
            target,
            time_limit_s,
            on_progress,
            reference="MasterNet",
            relative=relative,
        )
        return measured["rival"], measured["MasterNet"]

    def wait_for_calm(self, target: Target, limit_s: float, on_wait: OnWait) -> bool:
        """Wait until other processes leave the device to a target; see `wait_until_calm`."""
        return wait_until_calm(target, limit_s, on_wait=on_wait)

    def count_idle_threads(self, target: Target) -> int:
        """Choose the number of threads for which the CPUs have room; see the function."""
        return count_idle_threads(target)

    def train(
        self,
        net: nn.Module,
        data: ImageData,
        recipe: Recipe,
        *,
        seed: int,
        device: str,
        teacher: nn.Module | None,
        on_epoch: Callable[[int, float], None],
        metric: Metric,
        checkpoints: EpochCheckpoints | None,
    ) -> None:
        """Train the MasterNet or the winner on the training split. Raises TrainingError."""
        train_on(
            net,
            data,
            recipe,
            seed=seed,
            teacher=teacher,
            on_epoch=on_epoch,
            device=device,
            metric=metric,
            checkpoints=checkpoints,
        )

    def try_variants(
        self,
        net: nn.Module,
        data: ImageData,
        recipe: RunRecipe,
        *,
        seed: int,
        device: str,
        teacher: nn.Module | None,
        on_step: OnStep,
    ) -> list[Variant]:
        """Try the variants of a recipe with fields that are `auto`; see the function."""
        return try_variants(
            net, data, recipe, seed=seed, device=device, teacher=teacher, on_step=on_step
        )

    def train_in_team(
        self, net: nn.Module, job: TeamJob, on_epoch: Callable[[int, float], None]
    ) -> None:
        """Train the MasterNet or the winner in several processes. Raises TrainingError."""
        net.load_state_dict(train_in_team(job, on_epoch))

    def train_rival(
        self, settings: RunSettings, folder: Path, *, device: str, listener: Listener
    ) -> nn.Module:
        """Train a rival in a folder, from the last checkpoint where there is one.

        Returns:
            The trained network.

        Raises:
            GenetsError: The training failed.
        """
        return load(train_network(settings, folder, device=device, listener=listener).results)

    def evaluate(self, net: nn.Module, split: Split, device: str) -> Score:
        return evaluate(net, split, device=device)

    def test(self, net: nn.Module, split: Split, device: str) -> tuple[Score, Predictions]:
        """Score a trained network on the test split, with its prediction for every image."""
        return evaluate_images(net, split, device=device)

    def score_quantised(
        self, net: nn.Module, data: ImageData, split: Split, target: Target
    ) -> Score:
        """Score MasterNet, winner or rival after quantisation; see the function."""
        return score_quantised(net, data, split, target)

    def run_trials(
        self, job: Job[Trial, TrialResult], groups: Sequence[tuple[Trial, ...]], workers: Workers
    ) -> Iterator[TrialResult]:
        """Run groups of trials, and give each result when its group ends."""
        return workers.run(job, groups)

    def train_candidates(
        self,
        job: Job[Structure, TrainedCandidate],
        groups: Sequence[tuple[Structure, ...]],
        workers: Workers,
    ) -> Iterator[TrainedCandidate]:
        """Train and score groups of candidates, and give each result when its group ends."""
        return workers.run(job, groups)

    def export(
        self, net: nn.Module, structure: Structure, data: ImageData, folder: Path
    ) -> OnnxCheck:
        """Write a trained network to `folder`; see `export_network`."""
        return export_network(net, structure, data, folder)


def _measure_in_turn(
    networks: Mapping[str, tuple[BuildOn, int]],
    target: Target,
    time_limit_s: float,
    on_progress: OnShare | None,
    *,
    reference: str,
    relative: bool,
) -> dict[str, Measurement]:
    """Build networks on the device of a target, and measure them in turn.

    Args:
        networks: The function that builds each network, and its resolution.
        target: See `Laboratory.measure`.
        time_limit_s: See `Laboratory.measure`.
        on_progress: See `Laboratory.measure`.
        reference: The network for the ratios.
        relative: Whether the ratios to it must be precise, not the latencies.
    """
    device, nets = ENGINES[target.engine].place(target), {}
    for name, (build, resolution) in networks.items():
        with explain_failures(target, resolution):
            nets[name] = build(device)
    return measure_interleaved(
        nets,
        target,
        {name: resolution for name, (_, resolution) in networks.items()},
        reference=reference,
        precise="ratios" if relative else "latencies",
        calm_share=narrow_share(target.resolved()) if relative and len(nets) > 1 else None,
        time_limit_s=time_limit_s,
        on_progress=on_progress,
    )
