"""Workers on a Ray cluster: each takes the next group when it is free.

A worker is replaced where it dies, gives no result for too long, or gets no memory for a training;
see `schedule`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic
from uuid import uuid4

from genets.core.data_name import find_data_path
from genets.core.errors import GenetsError, WorkersError, counted, first_line
from genets.core.log import get_logger
from genets.data import readers_for
from genets.nas.workers.environment import describe_environment
from genets.nas.workers.files import ROOT
from genets.nas.workers.image_folder import read_folder
from genets.nas.workers.job import Item, Job, Result
from genets.nas.workers.monitor import Monitor
from genets.nas.workers.ray_plan import WorkerPlan
from genets.nas.workers.ray_worker import Outcome, Parcel, RayWorker
from genets.nas.workers.schedule import TIME_LIMIT, Group, Losses, Schedule, TimeLimit

if TYPE_CHECKING:
    from genets.nas.workers.ray_cluster import Connection, RayCluster

_log = get_logger(__name__)

PATIENCE_SECONDS = 30.0  # until the driver asks whether the cluster still has room for a worker
CLOSE_SECONDS = 5.0  # for the workers to remove their files
MACHINE_LOST = "its machine was lost"
CONNECTION_LOST = "the connection to it was lost"  # Ray notices later that a machine is lost


@dataclass(frozen=True)
class RayWorkers:
    """Workers on a Ray cluster; see `Workers`.

    Attributes:
        cluster: The cluster.
        plan: The workers for which it has room.
        limit: When a group counts as hanging.
    """

    cluster: RayCluster
    plan: WorkerPlan
    limit: TimeLimit = TIME_LIMIT

    @property
    def count(self) -> int:
        return self.plan.count

    @property
    def gpus(self) -> int:
        return self.plan.all_gpus

    @property
    def readers(self) -> int:
        return readers_for(self.plan.cpus) if self.plan.gpus else 0

    def run(
        self,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> Iterator[Result]:
        """See `Workers.run`."""
        if not groups:
            return
        workers = min(self.plan.count, len(groups))
        _log.info("%s on %s, %s for each", counted(workers, "worker"), self.cluster, self.plan)
        cpus, memory = workers * self.plan.cpus, workers * self.plan.memory
        with self.cluster.connected(cpus, memory) as connection:
            yield from _Run(connection, self, job, groups, monitor).results()


@dataclass
class _Call(Generic[Item]):
    """A call that a worker has not answered yet.

    Attributes:
        actor: The worker.
        step: Its present step: begin, prepare, answer or run.
        host: The name of its machine, once it is known.
        group: The group that it runs; None for the other steps.
    """

    actor: Any
    step: str
    host: str = ""
    group: Group[Item] | None = None


class _Run(Generic[Item, Result]):
    """One job on a cluster."""

    def __init__(
        self,
        connection: Connection,
        workers: RayWorkers,
        job: Job[Item, Result],
        groups: Sequence[tuple[Item, ...]],
        monitor: Monitor | None = None,
    ) -> None:
        self._monitor = monitor or Monitor()
        self._schedule = Schedule(job, groups, self._monitor, workers.limit)
        self._ray, self._folder = connection.ray, connection.folder
        self._connection, self._workers, self._job = connection, workers, job
        self._count = min(workers.count, len(groups))
        self._calls: dict[Any, _Call[Item]] = {}  # by the reference of the answer
        self._actors: list[Any] = []
        self._free: list[_Call[Item]] = []  # the last calls of the workers that wait for a group
        self._failed_starts = Losses()  # in a row
        self._name = uuid4().hex
        plan = workers.plan
        self._actor_class = self._ray.remote(RayWorker).options(
            num_cpus=plan.cpus, num_gpus=plan.gpus, memory=plan.memory or None,
            max_restarts=0, max_task_retries=0,
        )  # fmt: skip
        self._environment = describe_environment(job.device, job.precision)
        items = [item for group in groups for item in group]
        folder = find_data_path(job.data)
        self._image_folder = folder if folder and folder.is_dir() else None
        self._parcel = self._ray.put(
            Parcel(job.elsewhere(ROOT), job.inputs(items), self._image_folder)
        )
        self._images: Any = None  # the reference of the images, once a machine lacks them

    def results(self) -> Iterator[Result]:
        """Give each result when its group ends."""
        try:
            for _ in range(self._count):
                self._start_worker()
            while self._schedule.is_open:
                for answer in self._wait():
                    yield from self._finish(self._calls.pop(answer), answer)
                yield from self._end_hanging()
            self._monitor.check_stop()
        finally:
            self._end_workers()

    def _start_worker(self) -> None:
        actor = self._actor_class.remote()
        self._actors.append(actor)
        answer = actor.begin.remote(
            self._environment, self._job.device, self._job.precision, self._folder, self._name
        )
        self._calls[answer] = _Call(actor, "begin")

    def _wait(self) -> list[Any]:
        """Wait until a worker answers; where a group hangs, only see whether one has answered.

        Raises WorkersError where no worker can begin any more.
        """
        while True:
            if self._schedule.hanging():
                return self._answered(list(self._calls))
            ended, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE_SECONDS)
            if ended:
                return list(ended)
            if any(call.step != "begin" for call in self._calls.values()):
                continue
            _log.info("waiting for room for a worker on %s", self._workers.cluster)
            if not any(map(self._workers.plan.room, self._connection.nodes())):
                raise WorkersError(
                    f"{self._workers.cluster} has no room for a worker with {self._workers.plan} "
                    "any more; every finished trial is kept, so give the same command again"
                )

    def _answered(self, calls: list[Any]) -> list[Any]:
        """Give one of the calls that have an answer, which may be on another machine; or none."""
        ended, _ = self._ray.wait(calls, num_returns=1, timeout=0, fetch_local=False)
        return list(ended)

    def _finish(self, call: _Call[Item], answer: Any) -> Iterator[Result]:
        """Take the answer of a worker, and give it more work."""
        errors = self._ray.exceptions
        try:
            outcome = self._ray.get(answer)
        except errors.RayError as error:
            if "failed to import on the worker" in str(error):
                raise WorkersError(
                    f"a worker on {self._workers.cluster} cannot import genets, which must be "
                    "installed on every machine of the cluster, in the same version"
                ) from error
            if isinstance(error, errors.RayTaskError):  # an exception in our own code
                raise
            yield from self._replace(call, describe_death(error))
            return
        if call.step == "begin":
            self._check_begun(call, *outcome)
            return
        yield from self._take(call, outcome)

    def _check_begun(self, call: _Call[Item], host: str, differences: str) -> None:
        if differences:
            raise WorkersError(
                f"the worker on {host} has other versions or another precision than the search "
                f"({differences}); every machine needs the same"
            )
        answer = call.actor.prepare.remote(self._parcel)
        self._calls[answer] = _Call(call.actor, "prepare", host)

    def _send_images(self, call: _Call[Item]) -> None:
        """Prepare a worker with the images; Ray sends them to each machine once."""
        assert self._image_folder is not None
        if self._images is None:
            try:
                self._images = self._ray.put(read_folder(self._image_folder))
            except GenetsError as error:
                raise WorkersError(
                    f"the images are not sent to {call.host}, where {self._image_folder} is "
                    f"missing ({error}); the folder must have the same path on each machine, for "
                    "example on a shared file system"
                ) from error
        _log.info("the images are sent to %s, where %s is missing", call.host, self._image_folder)
        answer = call.actor.prepare.remote(self._parcel, self._images)
        self._calls[answer] = _Call(call.actor, "prepare", call.host)

    def _take(self, call: _Call[Item], outcome: Outcome) -> Iterator[Result]:
        """Store and give the results of a group, and give the worker the next one."""
        if outcome.fault:
            raise WorkersError(f"worker on {call.host}: {outcome.fault}")
        if outcome.lacks_images:
            self._send_images(call)
            return
        self._failed_starts = Losses()
        results: Sequence[Result] = outcome.results
        if call.group is not None:
            results = self._schedule.sift(call.group, results, call.host)
        for path, content in outcome.files.items():
            self._job.store(path, content)
        is_short = len(results) < len(outcome.results)
        if is_short and self._schedule.has_waiting:  # another worker may have the memory
            self._remove(call.actor)
            self._fill()
        else:
            self._free.append(call)
            self._give_work()  # before the results are given, so that the worker does not wait
        yield from results
        if call.group is not None:
            # Only now, because the first Ctrl-C waits for the groups that run.
            self._schedule.end(call.group, outcome.results)

    def _give_work(self) -> None:
        """Give waiting groups to free workers."""
        while self._schedule.has_waiting and self._free:
            free, group = self._free.pop(), self._schedule.take()
            answer = free.actor.run.remote(group.items)
            self._calls[answer] = _Call(free.actor, "run", free.host, group)

    def _replace(self, call: _Call[Item], reason: str) -> Iterator[Result]:
        """Start a worker in place of a dead worker, and give the results of items lost twice."""
        self._remove(call.actor)  # Ray may have lost the connection to it alone
        where = f"the worker on {call.host or self._workers.cluster}"
        with_machine = reason in (MACHINE_LOST, CONNECTION_LOST)
        if call.group is None:
            self._failed_starts = self._failed_starts.plus(with_machine=with_machine)
            if self._failed_starts.count > self._workers.count:
                raise WorkersError(
                    f"{where} died before its first group ({reason}); every finished trial is "
                    "kept, so give the same command again, with fewer --workers if memory ran out"
                )
        else:
            yield from self._schedule.lose(call.group, where, reason, with_machine=with_machine)
        self._fill()

    def _end_hanging(self) -> Iterator[Result]:
        for hanging in self._schedule.hanging():
            answer, call = next(
                (answer, call) for answer, call in self._calls.items() if call.group is hanging
            )
            if self._answered([answer]):
                continue
            del self._calls[answer]
            self._remove(call.actor)
            yield from self._schedule.give_up(hanging, f"the worker on {call.host}")
            self._fill()

    def _remove(self, actor: Any) -> None:
        """End a worker at once."""
        self._actors.remove(actor)
        self._ray.kill(actor)

    def _fill(self) -> None:
        """Ask free workers whether they live, and start a worker in place of a lost one.

        A worker that answers gets a group. A free worker may have died unseen: it must not cost a
        group a loss.
        """
        if self._schedule.has_waiting:
            while self._free:
                call = self._free.pop()
                self._calls[call.actor.answer.remote()] = _Call(call.actor, "answer", call.host)
            self._start_worker()

    def _end_workers(self) -> None:
        """End the workers; those that are free remove the files of the run on their machines."""
        busy = [call.actor for call in self._calls.values()]
        free = [actor for actor in self._actors if not any(actor is each for each in busy)]
        closing = [actor.close.remote() for actor in free]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for actor in self._actors:
            self._ray.kill(actor)


def describe_death(error: BaseException) -> str:
    """Give the reason for the death of a worker, as far as Ray knows it."""
    text = str(error).lower()
    if "running low on memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "memory ran out on its machine"
    if re.search(r"node (has )?died|node was|node failure", text):
        return MACHINE_LOST
    if type(error).__name__ == "ActorUnavailableError":
        return CONNECTION_LOST
    if "connection error" in text or "sigkill" in text:
        return "it was killed, perhaps because memory ran out"
    return first_line(error)
