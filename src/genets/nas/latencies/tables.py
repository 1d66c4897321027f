"""Latency tables that are built before a search, or for another target of a study."""

from __future__ import annotations

from pathlib import Path

from genets.core.errors import StudyError
from genets.core.output_folder import make_folder
from genets.latency import LatencyTable, TableSettings, Target
from genets.nas.laboratory import Laboratory, OnShare
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.reader import is_study
from genets.nas.study.study import Study


def table_for_study(
    folder: Path, target: Target | None, on_progress: OnShare | None = None
) -> tuple[LatencyTable, Path]:
    """Load or build the latency table of a study, which `select` will use.

    Args:
        folder: The study.
        target: By default the study's own target.
        on_progress: Called with the share that is done, 0 to 1.

    Returns:
        The table and its file.

    Raises:
        GenetsError: The folder is no study, or its search has not loaded its images yet.
    """
    with Study.open(folder) as study:
        settings, num_classes = study.settings, study.num_classes()
        if num_classes is None:
            raise StudyError(f"study {folder} has not begun: its number of classes is not known")
        expected = _expected_table(settings, target or settings.target, num_classes)
        path = layout.table_path(study.latency_folder, expected.target.name)
        return _prepare(path, expected, settings, on_progress), path


def table_ahead(
    settings: SearchSettings,
    num_classes: int,
    folder: Path,
    on_progress: OnShare | None = None,
) -> tuple[LatencyTable, Path]:
    """Load or build the latency table that a new search in `folder` will use.

    Args:
        settings: The settings of the search. Its MasterNet, search space, target, seed and
            `table_seconds` count.
        num_classes: The number of classes of the data.
        folder: The folder of the new search.
        on_progress: Called with the share that is done, 0 to 1.

    Returns:
        The table and its file.

    Raises:
        GenetsError: The folder is a study already, or its table has other settings.
    """
    if is_study(folder):
        raise StudyError(
            f"{folder} is already a study; give its folder to --table instead of a MasterNet"
        )
    expected = _expected_table(settings, settings.target, num_classes)
    path = layout.table_path(folder / layout.LATENCY, expected.target.name)
    if not path.exists():
        expected.target.check()  # a wrong target must leave no folder behind
    make_folder(folder)
    path.parent.mkdir(exist_ok=True)
    return _prepare(path, expected, settings, on_progress), path


def _expected_table(settings: SearchSettings, target: Target, num_classes: int) -> TableSettings:
    space = settings.space.design_space().around(settings.structure)
    return TableSettings(space, target, num_classes)


def _prepare(
    path: Path, expected: TableSettings, settings: SearchSettings, on_progress: OnShare | None
) -> LatencyTable:
    return Laboratory().prepare_table(
        path,
        expected,
        seed=settings.seed,
        time_limit_s=settings.table_seconds,
        on_progress=on_progress,
    )
