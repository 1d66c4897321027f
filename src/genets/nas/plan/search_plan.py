"""The plan of a search: its phases, their times on this machine, and the disk space."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType
from typing import Any

from genets.core.errors import GenetsError, check_type
from genets.core.output_folder import check_writable_folder
from genets.core.progress import OnProgress
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.checks import check_search
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.new_study import complete_settings, settings_at
from genets.nas.phase_names import phase_of
from genets.nas.plan.begun_study import BegunStudy
from genets.nas.plan.estimate import Estimate, PlannedPhase
from genets.nas.plan.probe import Probe
from genets.nas.search import signature_with_settings
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import StudyReader
from genets.nas.study.study import Study
from genets.nas.trials.run import plan_round
from genets.nas.workers.job import Machines
from genets.nas.workers.machines import find_machines

PROBE_S = 60.0  # the longest probe
SHARED = ("trials", "screening", "candidate training")  # phases that all workers share
TOGETHER = ("MasterNet training", "final training")  # phases that the processes share


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The phases of a search, with estimates from a probe on this machine.

    Attributes:
        folder: The folder of the study, to which nothing is written.
        settings: All settings.
        reasons: Why settings were chosen, line by line.
        images: The number of images of each split.
        workers: The number of processes that train trials and candidates.
        phases: The phases that are left, in their order.
        disk_bytes: The largest size of the files, by kind.
        free_bytes: The free space of the disk.
        warnings: Disturbances of the probe, and a disk that is too small.
        probe_seconds: The time of the probe.
        workers_on: The machines of these processes, in words.
        gpus: The number of GPUs that these processes use; 0 on CPUs.
        continued: Whether the study has begun already.
        processes: The number of processes that train the MasterNet and the winner together.
        made_at: When the plan was made, in seconds since 1970.
    """

    folder: Path
    settings: SearchSettings
    reasons: tuple[str, ...]
    images: dict[str, int]
    workers: int
    phases: tuple[PlannedPhase, ...]
    disk_bytes: dict[str, int]
    free_bytes: int
    warnings: tuple[str, ...]
    probe_seconds: float
    workers_on: str = "this machine"
    gpus: int = 0
    continued: bool = False
    processes: int = 1
    made_at: float = field(default_factory=time.time)

    @property
    def finish_at(self) -> float:
        """When the search would end if it began with the plan, in seconds since 1970."""
        return self.made_at + self.seconds

    @property
    def gpu_hours(self) -> float:
        """The GPU-hours: the phases in `SHARED` use all GPUs, and most other phases use one."""
        return sum(each.seconds * self._gpus_of(each.phase) for each in self.phases) / 3600

    def _gpus_of(self, name: str) -> int:
        """The number of GPUs that a phase uses."""
        phase = phase_of(name)
        if phase in TOGETHER and self.gpus:
            return self.processes
        return self.gpus if phase in SHARED else min(1, self.gpus)

    @property
    def seconds(self) -> float:
        """The estimated time of the search, without waiting for a calm device."""
        return sum(each.seconds for each in self.phases)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values; `seconds` is the time of all phases."""
        return asdict(self) | {
            "finish_at": self.finish_at,
            "gpu_hours": self.gpu_hours,
            "folder": str(self.folder),
            "settings": self.settings.to_dict(),
            "seconds": self.seconds,
        }


def plan_search(
    *,
    out: str | Path,
    preset: str | None = None,
    workers: int | None = None,
    workers_on: str | Machines = "local",
    processes: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    on_event: OnProgress | None = None,
    **settings: Any,
) -> SearchPlan:
    """Plan a search: its phases, its time on its machines, and its disk space.

    Images and settings are checked as by `search`, and a probe of about a minute times a few steps
    of each kind of training. Nothing is written to the folder of the study. Of a study that has
    begun, the phases that are left are planned.

    Args:
        out: The folder of the study, new or to be continued.
        preset: See `search`.
        workers: See `search`.
        workers_on: See `search`. Machines of a cluster are taken to be as fast as this one.
        processes: See `search`. GPUs that share a training are taken to divide its steps.
        wait_minutes: See `search`; the plan itself does not wait.
        on_event: Called with the progress.
        **settings: See `search`.

    Returns:
        The plan.

    Raises:
        GenetsError: `search` would refuse the settings, the images or the folder; or the search
            has finished, or the settings differ from those of the study.
    """
    check_type("workers", workers, (int, NoneType), "an integer or None")
    check_type("processes", processes, (int, NoneType), "an integer or None")
    complete = complete_settings(settings_at(Path(out), preset, settings), out, preset)
    return make_plan(
        SearchSettings(**complete.values), out, preset=preset, reasons=complete.reasons,
        workers=workers, workers_on=workers_on, processes=processes, wait_minutes=wait_minutes,
        on_event=on_event,
    )  # fmt: skip


plan_search.__signature__ = signature_with_settings(plan_search)  # type: ignore[attr-defined]


def make_plan(
    settings: SearchSettings,
    out: str | Path,
    *,
    preset: str | None = None,
    workers: int | None = None,
    workers_on: str | Machines = "local",
    processes: int | None = None,
    wait_minutes: float = DEFAULT_WAIT_MINUTES,
    reasons: Sequence[str] = (),
    on_event: OnProgress | None = None,
    lab: Laboratory | None = None,
    limit_s: float = PROBE_S,
) -> SearchPlan:
    """Plan a search with complete settings; see `plan_search` and `run_search`.

    limit_s: the longest probe.
    """
    folder, files = Path(out), StudyReader(out).files
    check_writable_folder(out)
    files.check_usable()
    machines = find_machines(workers_on)
    checked = check_search(
        settings, out, workers=workers, machines=machines, processes=processes,
        wait_minutes=wait_minutes, on_event=on_event,
    )  # fmt: skip
    settings, data = checked.settings, checked.data
    begun = BegunStudy(folder, settings) if files.is_begun else None
    try:
        temporary = TemporaryDirectory(prefix="genets-plan-")
    except OSError as error:
        raise GenetsError(f"the probe needs a temporary folder: {error.strerror}") from error
    with temporary as place, Study.create_or_resume(place, settings) as study:
        context = SearchContext(
            study, data.num_classes, lab=lab, preprocessing=checked.preprocessing,
            workers=workers, machines=machines,
        )  # fmt: skip
        gpus = min(context.workers.count, context.workers.gpus) if context.device != "cpu" else 0
        times = Probe(context, data, limit_s, on_event).run(plan_round(context))
        estimate = Estimate(context, data, times, processes or 1)
        planned, disk_bytes = estimate.phases(), estimate.disk_bytes()
        phases = tuple(begun.leave_out_ended(planned) if begun else planned)
    disk = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free_bytes = shutil.disk_usage(disk).free
    warnings = [f"{cause} during the probe, so the times may be too long"
                for cause in times.measured.disturbances]  # fmt: skip
    if sum(disk_bytes.values()) > free_bytes + (begun.disk_bytes() if begun else 0):
        warnings.append(
            f"the disk of {disk} has too little free space for the study; free some space, or give "
            "another --out"
        )
    source = f"those of the preset {preset}" if preset else "defaults"
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return SearchPlan(
        folder=folder,
        settings=settings,
        reasons=(*reasons, *checked.reasons, f"other settings: given, or {source}"),
        images={name: len(split) for name, split in splits.items()},
        workers=context.workers.count,
        phases=phases,
        disk_bytes=disk_bytes,
        free_bytes=free_bytes,
        warnings=tuple(warnings),
        probe_seconds=times.seconds,
        workers_on=str(machines),
        gpus=gpus,
        continued=begun is not None,
        processes=processes or 1,
    )
