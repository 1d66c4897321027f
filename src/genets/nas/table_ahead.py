"""Latency tables made ahead of a search, or for a further target of a finished study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genets.core.errors import StudyError
from genets.latency import LatencyTable, TableSettings, Target
from genets.nas.study.study import LATENCY, Study, is_study
from genets.structure import SearchSpace

SECONDS = 30.0


def table_for_study(
    folder: Path, target: Target | None, on_progress: Callable[[float], None] | None = None
) -> tuple[LatencyTable, Path]:
    """The table of a study for a target (its own by default), made if it is not there.

    `select` will use it. Raises GenetsError: no study, or one that has not seen its data yet.
    """
    with Study.open(folder) as study:
        settings = study.settings
        num_classes = study.load_json("data", lambda record: len(record["class_names"]))
        if num_classes is None:
            raise StudyError(f"study {folder} has not begun: its number of classes is not known")
        wanted = TableSettings(
            settings.space.design_space().around(settings.structure),
            target or settings.target,
            num_classes,
        )
        return _made(wanted, study.latency_folder, settings.seed, settings.table_seconds,
                     on_progress)  # fmt: skip


def table_ahead(
    space: SearchSpace,
    target: Target,
    num_classes: int,
    folder: Path,
    *,
    seed: int = 0,
    time_limit_s: float = SECONDS,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[LatencyTable, Path]:
    """The table that a search in `folder` will find, made if it is not there. Raises GenetsError.

    time_limit_s: of timing; see `LatencyTable.build`.
    """
    if is_study(folder):
        raise StudyError(f"{folder} is a study already; name it in place of a MasterNet")
    latency = folder / LATENCY
    latency.mkdir(parents=True, exist_ok=True)
    wanted = TableSettings(space, target, num_classes)
    return _made(wanted, latency, seed, time_limit_s, on_progress)


def _made(
    wanted: TableSettings,
    folder: Path,
    seed: int,
    time_limit_s: float,
    on_progress: Callable[[float], None] | None,
) -> tuple[LatencyTable, Path]:
    path = folder / f"{wanted.target.name}.json"
    if path.exists():
        return LatencyTable.load(path, wanted), path
    table = LatencyTable.build(
        wanted.space.master,
        wanted.space,
        wanted.target,
        wanted.num_classes,
        seed=seed,
        time_limit_s=time_limit_s,
        on_progress=on_progress,
    )
    table.save(path)
    return table, path
