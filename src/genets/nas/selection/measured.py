"""The measured latency of networks on a target, stored so that a resumed study relies on it."""

from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from genets.core.errors import BusyDeviceError, StudyError, counted
from genets.core.files import write_atomic
from genets.core.json_files import read_json
from genets.core.log import get_logger
from genets.latency import Budget, LatencyTable, Measurement, Target
from genets.latency.timing.measurement import Ratio
from genets.nas.selection.network_latency import NetworkLatency
from genets.structure import Structure

_log = get_logger(__name__)
Key = TypeVar("Key")

MIN_ATTEMPTS = 3  # measurements before a budget is left undecided
MAX_TIMES_AS_LONG = 8  # as the time limit of a measurement, where its ratio is imprecise

# Measures networks in turn, A B A B, with the usual time limit times a factor.
MeasureInTurn = Callable[[Sequence[Key], int], Mapping[Key, Measurement]]
# Waits for a calm device, for at most so many seconds; returns whether the device is calm.
WaitForCalm = Callable[[float], bool]
# Called before each measurement, with a few words on it, such as `measuring 2 networks again`.
OnMeasuring = Callable[[str], None]


class MeasuredInTurn(ABC, Generic[Key]):
    """The measured networks of one target, in one JSON file; each is known by a key.

    Args:
        path: The file, which may not exist yet.
        master: The MasterNet, which is measured in turn with every other network.
        measure_in_turn: Measures networks. A reader leaves out this and the following arguments.
        budget: The budget that the latencies decide on.
        wait_for_calm: Waits for a calm device.
        wait_limit_s: The longest time for one decision, counted from the first wait for a calm
            device.
        on_measuring: Called before each measurement, with a few words on it.
        explained: Turns an OSError of the block, such as a full disk, into a StudyError.

    Raises:
        StudyError: The file is damaged.
    """

    @staticmethod
    @abstractmethod
    def read_key(text: str) -> Any:
        """Read a key from the text that `str` gives."""

    def __init__(
        self,
        path: Path,
        master: Key | None = None,
        measure_in_turn: MeasureInTurn[Key] | None = None,
        *,
        budget: Budget | None = None,
        wait_for_calm: WaitForCalm = lambda limit_s: False,
        wait_limit_s: float = 0.0,
        on_measuring: OnMeasuring = lambda words: None,
        explained: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._path = path
        self._master = master
        self._measure_in_turn = measure_in_turn
        self._budget = budget
        self._wait_for_calm = wait_for_calm
        self._wait_limit_s = wait_limit_s
        self._on_measuring = on_measuring
        self._explained = explained
        self.stored: dict[Key, NetworkLatency] = self._load()
        # The device may be calm now, so disturbed latencies of an earlier process are repeated.
        self._repeated = {s for s, latency in self.stored.items() if latency.disturbed}
        self._longest: set[Key] = set()  # with a stored measurement of the longest time

    def for_budget(self, budget: Budget) -> Self:
        """Give the same networks, with the same file, for another budget."""
        networks = copy.copy(self)  # which shares the stored latencies
        networks._budget = budget
        return networks

    def measure(
        self, structures: Sequence[Key], *, to_refuse: bool = False
    ) -> dict[Key, NetworkLatency]:
        """Measure the networks without a stored latency that decides on the budget, and store them.

        A measurement that does not decide is repeated when the device is calm.

        Args:
            structures: The networks.
            to_refuse: Whether the budget is refused if no network meets it. Then a network that is
                near the budget is measured until the device is calm, and up to eight times as long.

        Raises:
            BusyDeviceError: The device stayed busy. The next process measures again.
            StudyError: The file cannot be written.
        """
        fresh = self.undecided(structures, to_refuse=to_refuse)
        if fresh:
            try:
                self._measure_until_decided(structures, to_refuse)
            except BaseException:
                with suppress(OSError, StudyError):  # a full disk must not hide the error
                    self._store()
                raise
            self._store()
        return {structure: self.stored[structure] for structure in structures}

    def _store(self) -> None:
        record = {str(s): latency.to_json() for s, latency in self.stored.items()}
        with self._explained():
            write_atomic(self._path, json.dumps(record) + "\n")

    def undecided(self, structures: Iterable[Key], *, to_refuse: bool = False) -> list[Key]:
        """List the networks that `measure` would measure."""
        structures = list(dict.fromkeys(structures))
        if to_refuse and self._budget is not None:
            known = [self.stored[structure] for structure in structures if structure in self.stored]
            to_refuse = not any(latency.meets(self._budget) for latency in known)
        return [structure for structure in structures if not self._is_decided(structure, to_refuse)]

    def _is_decided(self, structure: Key, to_refuse: bool) -> bool:
        latency, budget = self.stored.get(structure), self._budget
        if latency is None or structure in self._repeated or not latency.decides(budget):
            return False
        if budget is None or not to_refuse:
            return True
        if latency.may_meet(budget) and structure not in self._longest:
            return False
        return latency.meets(budget) or latency.exceeds(budget)

    def _measure_until_decided(self, structures: Sequence[Key], to_refuse: bool) -> None:
        attempts, times_as_long, end_s = 0, 1, math.inf
        fresh = self.undecided(structures, to_refuse=to_refuse)
        while True:
            start_s = time.monotonic()
            self._on_measuring(_describe_measurement(len(fresh), attempts))
            stored = self._measure_once(fresh, times_as_long)
            self._repeated -= set(fresh)
            if times_as_long == MAX_TIMES_AS_LONG:
                self._longest.update(stored)
            attempts += 1
            measured, fresh = fresh, self.undecided(structures, to_refuse=to_refuse)
            _log.info(
                "measured %s in %.1f s, measurement %d; without a decision on the budget: %d",
                counted(len(measured), "network"),
                time.monotonic() - start_s,
                attempts,
                len(fresh),
            )
            if not fresh:
                return
            if times_as_long < MAX_TIMES_AS_LONG and self._needs_more_samples(fresh):
                times_as_long *= 2
                continue
            if end_s == math.inf:
                end_s = time.monotonic() + self._wait_limit_s
            left_s = end_s - time.monotonic()
            calm = self._wait_for_calm(max(0.0, left_s))
            if attempts >= MIN_ATTEMPTS and (left_s <= 0 or not calm):
                undecided = [self.stored[structure] for structure in fresh]
                causes = [cause for latency in undecided for cause in latency.disturbances]
                target = undecided[0].network.target
                raise make_busy_error(self._budget, self._wait_limit_s, target, causes)

    def _needs_more_samples(self, structures: Sequence[Key]) -> bool:
        """Whether more samples can decide, without a calm device."""
        latencies = [self.stored[structure] for structure in structures]
        relative = self._budget is not None and self._budget.is_relative
        return all(
            (relative and each.is_undelayed and not each.has_precise_ratio)
            or each.may_meet(self._budget)
            for each in latencies
        )

    def _measure_once(self, structures: Sequence[Key], times_as_long: int) -> list[Key]:
        """Measure the networks, and give those whose measurement was stored.

        A disturbed measurement replaces no calm one.
        """
        assert self._master is not None
        assert self._measure_in_turn is not None
        together = [*dict.fromkeys([self._master, *structures])]
        measured = dict(self._measure_in_turn(together, times_as_long))
        # A network that is measured alone has no ratio, but that of the MasterNet to itself is 1.
        master = replace(measured[self._master], ratio=Ratio(1.0, 1.0, 1.0))
        measured[self._master] = master
        stored = []
        for structure in structures:
            latency = NetworkLatency.in_turn(measured[structure], master)
            before = self.stored.get(structure)
            if before is None or before.disturbed or not latency.disturbed:
                self.stored[structure] = latency
                stored.append(structure)
        return stored

    def _load(self) -> dict[Key, NetworkLatency]:
        def read(record: Any) -> dict[Key, NetworkLatency]:
            return {self.read_key(key): NetworkLatency.from_json(v) for key, v in record.items()}

        cure = "remove it to measure again"
        return read_json(self._path, read, raises=StudyError, cure=cure) or {}


class MeasuredNetworks(MeasuredInTurn[Structure]):
    """The measured structures of one target; see `MeasuredInTurn`."""

    @staticmethod
    def read_key(text: str) -> Structure:
        return Structure.parse(text)


class MeasuredRivals(MeasuredInTurn[str]):
    """The measured rivals of one target, by name; the MasterNet's key is its notation."""

    @staticmethod
    def read_key(text: str) -> str:
        return text


@dataclass(frozen=True, eq=False)
class TargetLatency:
    """The latencies of a study on one target: predictions and measurements."""

    table: LatencyTable
    networks: MeasuredNetworks

    @property
    def target(self) -> Target:
        return self.table.target

    @property
    def measured(self) -> Mapping[Structure, NetworkLatency]:
        """All networks that have been measured."""
        return self.networks.stored

    def measure(
        self, structures: Sequence[Structure], *, to_refuse: bool = False
    ) -> dict[Structure, NetworkLatency]:
        """See `MeasuredNetworks.measure`."""
        return self.networks.measure(structures, to_refuse=to_refuse)


def _describe_measurement(networks: int, before: int) -> str:
    """Describe a measurement in a few words. before: The number of measurements before it."""
    again = f" again, measurement {before + 1}" if before else ""
    return f"measuring {counted(networks, 'network')}{again}"


def make_busy_error(
    budget: Budget | None,
    wait_limit_s: float,
    target: Target,
    disturbances: Iterable[str] = (),
) -> BusyDeviceError:
    """Make the error for a device that stayed busy or slow; it says how to continue.

    Args:
        budget: The budget that could not be decided.
        wait_limit_s: The longest time to wait.
        target: The target of the latencies.
        disturbances: Disturbances of the latencies that do not decide on the budget.
    """
    causes = " and ".join(dict.fromkeys(disturbances)) or "other programs kept the device busy"
    decided = f"on the budget{'' if budget is None else f' {budget}'}"
    alone = target.threads == 1 and budget is not None and budget.is_relative
    advice = (
        ""
        if alone or not target.is_cpu
        else "; with one thread (--threads 1; for a search, in another folder), a budget such as "
        "0.5x needs no calm device"
    )
    return BusyDeviceError(
        f"{causes}, so no measurement could decide {decided} within {wait_limit_s / 60:g} minutes; "
        "finished work is kept, so give the same command again when nothing disturbs the device, "
        f"or with a longer --wait{advice}"
    )
