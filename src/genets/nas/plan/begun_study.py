"""The plan of a study that has begun: the phases that are left, by the files of the study."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from genets.core.errors import StudyError
from genets.nas.plan.estimate import PlannedPhase
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.reader import StudyReader
from genets.nas.study.study import with_stored_budgets
from genets.nas.watch.phases import PhaseStatus, list_phases


class BegunStudy:
    """The phases of a study, read without writing.

    Args:
        folder: The folder of the study.
        settings: The settings of the search, which must be those of the study.

    Raises:
        StudyError: The study has other settings, has ended, or is damaged.
    """

    def __init__(self, folder: Path, settings: SearchSettings) -> None:
        self.folder, reader = folder, StudyReader(folder)
        asked = with_stored_budgets(settings, reader.settings)
        reader.files.check_same(reader.settings.to_dict(), asked.to_dict())
        phases = list_phases(Snapshot.read(folder), None, is_running=False)
        self._status: dict[str, PhaseStatus] = {each.phase: each for each in phases}
        if all(_has_ended(each) for each in phases):
            raise StudyError(
                f"the search of {folder} has finished, so nothing is left to plan; "
                f"`genets report {folder}` shows its results"
            )

    def leave_out_ended(self, planned: Iterable[PlannedPhase]) -> Iterator[PlannedPhase]:
        """Give the phases that are left; a phase in which trainings have ended keeps its rest."""
        for phase in planned:
            status = self._status.get(phase.phase)  # None in a round that has not begun
            if status is None or not _has_ended(status):
                yield without_ended(status.done, status.total, phase) if status else phase

    def disk_bytes(self) -> int:
        """The size of the files of the study, of which a running search may remove some."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.stat(Path(folder, name)).st_size
        return total


def _has_ended(status: PhaseStatus) -> bool:
    return status.state in ("done", "refused")


def without_ended(done: float | None, total: float | None, phase: PlannedPhase) -> PlannedPhase:
    """A phase without the steps that have ended, all of which take about as long."""
    if not done or not total:
        return phase
    left = max(0.0, 1 - done / total)
    return replace(
        phase,
        work=f"{phase.work}, {done:.0f} of them done",
        seconds=left * phase.seconds,
        count=round(left * phase.count),
    )
