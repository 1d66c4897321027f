"""One worker process of a Ray cluster. This code runs on the machines of the cluster."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genets.core.errors import GenetsError
from genets.nas.workers.environment import describe_differences, describe_environment
from genets.nas.workers.files import take_outputs, write_inputs
from genets.nas.workers.image_folder import write_folder
from genets.nas.workers.job import AnyJob, Runner

LOCK = ".lock"
ABANDONED_SECONDS = 3600.0  # a worker of a new run takes the lock long before


@dataclass(frozen=True)
class Parcel:
    """A job and the files that it needs, which travel to each machine once.

    Attributes:
        job: The job with real paths of the driver; see `files.scratch_path`.
        files: The contents by these paths.
        folder: The folder of the images; None for a data set by its name.
    """

    job: AnyJob
    files: dict[Path, bytes]
    folder: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The answer of a worker for a group, or for its preparation.

    Attributes:
        results: The results of the group.
        files: The files that the runner wrote, by the driver's path.
        fault: The sentence of an error that stops the search; empty where there is none.
        lacks_images: Whether the folder of the images is missing, so that they must travel.
    """

    results: tuple[Any, ...] = ()
    files: dict[Path, bytes] = field(default_factory=dict)
    fault: str = ""
    lacks_images: bool = False


class RayWorker:
    """Runs groups of one job. Ray makes it an actor, whose calls run one after the other."""

    def __init__(self) -> None:
        self._place: Path | None = None  # of the files of all workers of the run on this machine
        self._scratch: Path | None = None  # of the files of this worker

    def begin(
        self, driver: dict[str, str], device: str, precision: str, folder: str | None, run: str
    ) -> tuple[str, str]:
        """Compare this process with the driver, before anything of a job is read.

        Only plain values travel here, because another version of genets may not know the others.

        Args:
            driver: The environment of the driver; see `describe_environment`.
            device: The device that trains.
            precision: The precision of the trainings.
            folder: The folder for temporary files; None for the usual one of this machine.
            run: A name that all workers of this run share, and no others.

        Returns:
            The name of this machine, and the differences, which are empty where there are none.
        """
        import torch

        torch.set_num_threads(1)  # as every worker that has others beside it
        self._folder, self._run_name = folder, run
        own = describe_environment(device.partition(":")[0], precision)
        return socket.gethostname(), describe_differences(driver, own)

    def prepare(self, parcel: Parcel, images: dict[str, bytes] | None = None) -> Outcome:
        """Make the runner of the job.

        images: The files of the folder of images, once it is known to be missing here.
        """
        try:
            place, scratch = self._make_folders()
            job = parcel.job.elsewhere(scratch)
            if parcel.folder is not None and not parcel.folder.is_dir():
                if images is None:
                    return Outcome(lacks_images=True)
                job = job.with_data(str(write_folder(place, images)))
            self._inputs = write_inputs(scratch, parcel.files)
            self._runner: Runner[Any, Any] = job.runner()
        except GenetsError as error:
            return Outcome(fault=str(error))
        return Outcome()

    def answer(self) -> Outcome:
        """Show that the worker lives."""
        return Outcome()

    def run(self, group: Sequence[Any]) -> Outcome:
        """Run a group of items."""
        assert self._scratch is not None
        try:
            results = tuple(self._runner.run(group))
        except GenetsError as error:
            return Outcome(fault=str(error))
        return Outcome(results, take_outputs(self._scratch, self._inputs))

    def _make_folders(self) -> tuple[Path, Path]:
        """Make the folder of the run on this machine, and in it that of this worker, once.

        Raises GenetsError where the disk is full.
        """
        try:
            places = Path(self._folder or tempfile.gettempdir())
            if self._place is None:
                remove_abandoned_files(places)
                self._place = places / f"genets-{self._run_name}"
                self._place.mkdir(exist_ok=True)
                lock = os.open(self._place / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                with suppress(OSError):  # a file system without locks, on which nothing is removed
                    fcntl.flock(lock, fcntl.LOCK_SH)  # until this process ends
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(dir=self._place))
        except OSError as error:
            where = self._folder or "the folder for temporary files"
            raise GenetsError(f"cannot write to {where}: {error.strerror}") from error
        return self._place, self._scratch

    def close(self) -> None:
        """Remove the files of the whole run on this machine, also of workers that died."""
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


def remove_abandoned_files(folder: Path) -> None:
    """Remove the files of earlier runs on this machine whose workers were all killed."""
    for place in folder.glob(f"genets-{'[0-9a-f]' * 32}"):
        with suppress(OSError):  # a worker holds the lock, or the folder is another user's
            lock = place / LOCK
            if time.time() - lock.stat().st_mtime > ABANDONED_SECONDS:
                with lock.open("r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place, ignore_errors=True)
