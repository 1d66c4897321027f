"""`genets search --masternet`: the structure to start from, chosen by training (section 4.1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genets.analysis.masters import MasterRanking
    from genets.nas.settings.settings import SearchSettings

TRAININGS = 2  # of each structure, with seeds of their own


def choose_master(names: str, values: dict[str, Any], out: Path, *, plain: bool) -> str:
    """The best of the named structures in the one-line notation, after showing the ranking.

    names: zoo names, files or notations, with commas between them. values: the settings of the
    search, of which data, resolution, recipe and seeds are those of the ranking.
    Raises GenetsError.
    """
    from genets.cli.output import error_console
    from genets.nas.settings.settings import SearchSettings
    from genets.report.study.tables import masters_table

    each = [name.strip() for name in names.split(",") if name.strip()]
    settings = {name: SearchSettings(**{**values, "master": name}) for name in each}
    ranking = _ranking(settings, out, plain=plain)
    first = next(iter(settings.values()))
    ranked = ranking.with_latencies(_latencies(ranking, first))
    error_console().print(masters_table(ranked, ranking.metric))
    for failed in ranking.failed:
        error_console().print(f"{failed.name}: {failed.reason}", markup=False, soft_wrap=True)
    return str(ranking.best)


def _ranking(settings: dict[str, SearchSettings], out: Path, *, plain: bool) -> MasterRanking:
    from genets.analysis import Progress
    from genets.analysis.masters import check_masters, rank_masters
    from genets.cli.progress import show_progress
    from genets.core.errors import StudyError
    from genets.data import load_data
    from genets.nas.study import layout
    from genets.nas.study.reader import is_study
    from genets.nas.trials.workers import training_device

    structures = {name: one.structure for name, one in settings.items()}
    check_masters(structures)
    if is_study(out) and not (out / layout.RANKING).exists():
        raise StudyError(f"study {out} has its MasterNet already; --masternet is for a new one")
    first = next(iter(settings.values()))
    device = training_device(first.training_device)
    data = load_data(first.data, first.resolution, seed=first.seed, device=device)
    out.mkdir(parents=True, exist_ok=True)
    with show_progress(plain=plain) as on_event:
        return rank_masters(
            structures,
            data,
            first.master_training.recipe(),
            seeds=range(first.seed, first.seed + TRAININGS),
            metric=first.metric,
            device=device,
            keep=out / layout.RANKING,
            on_training=lambda done, total, name: on_event(
                Progress("MasterNets", done, total, name)
            ),
        )


def _latencies(ranking: MasterRanking, settings: SearchSettings) -> dict[str, float]:
    """ms per image of each on the target of the search, measured in turn."""
    from genets.latency.predictor.probes import build_live
    from genets.latency.timing.measurement import measure_interleaved

    measured = measure_interleaved(
        {row.name: build_live(row.structure, 1000) for row in ranking.ranked},
        settings.target,
        settings.resolution,
        time_limit_s=settings.measure_seconds,
    )
    return {name: measurement.ms_per_image for name, measurement in measured.items()}
