"""Drift: many networks are timed in turn, several times, so that drift can be removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from genets.latency.engines.base import DeviceClock, Run, find_move, move_in_memory
from genets.latency.timing.clock import MAX_MOVED_RUN_S, warm_up
from genets.latency.timing.statistics import Array
from genets.latency.timing.watch import ActivityWatch

Key = TypeVar("Key", bound=Hashable)

MIN_ROUNDS = 3
MAX_ROUNDS = 10
# Caches and clock frequencies that another network left behind would distort a short run.
UNTIMED_S = 0.005
SAMPLES = 5  # samples of one visit; their median counts
# A visit takes fewer samples if they take longer than this. One run of this length is enough: the
# timer's error and the earlier contents of the caches are negligible.
VISIT_S = 0.05
# Windows of the clock's shortest length in one visit take about so long: two on CUDA, where little
# disturbs a window. Five windows would take 35 s in each round of 700 networks.
TIMED_S = 0.02
NEIGHBOURS = 31  # visits that determine the speed of the device at one moment
SWEEPS = 3
SAME_SPEED = 0.07
REPEAT_ROUNDS = 3  # maximum number of further rounds for contradictory times
REPEAT_VISITS = 2  # visits of each contradictory network in such a round
REPEAT_SHARE = 0.5  # of the time of the normal rounds; after it, no further round starts
NORMAL_PROGRESS = 0.85  # the share of the progress that the normal rounds are


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """The time of one run.

    seconds: of one run. error: standard error of the logarithm of `seconds`, so a relative error.
    """

    seconds: float
    error: float


class Visit(NamedTuple):
    """A visit of one network.

    number: of the network, from 0. seconds: of one run. cost_s: seconds that the visit took.
    """

    number: int
    seconds: float
    cost_s: float


class RecordError(LookupError):
    """Recorded visits are not those that come first with these networks and this generator."""


def time_in_rounds(
    clock: DeviceClock,
    runs: Mapping[Key, Run],
    *,
    rng: np.random.Generator,
    time_limit_s: float,
    on_progress: Callable[[float], None],
    watch: ActivityWatch | None = None,
    before: Mapping[Key, Run] | None = None,
    find_contradictions: Callable[[Mapping[Key, TimeEstimate]], Collection[Key]] = lambda _: (),
    recorded: Iterable[Visit] = (),
    on_visit: Callable[[Visit], None] = lambda _: None,
) -> dict[Key, TimeEstimate]:
    """Time one run of each network, without the drift of the device.

    Each round visits every network once, in random order.

    Args:
        clock: The clock of the device.
        runs: The run of each network.
        rng: Draws the order of the visits.
        time_limit_s: After MIN_ROUNDS rounds, no round starts that would probably end later.
        on_progress: Called with the share that is done, 0 to 1.
        watch: Notes interrupted samples; by default one for `clock`.
        before: Untimed work before each single run of these networks. The other networks run many
            times in a row.
        find_contradictions: Finds the networks whose times contradict each other. They are visited
            again after the time limit, in at most REPEAT_ROUNDS rounds.
        recorded: The first visits, from an earlier call with the same arguments that was
            interrupted. They are not made again.
        on_visit: Called after each visit that is made.

    Returns:
        The time of each network.

    Raises:
        RecordError: See the class.
    """
    rounds = _Rounds(
        clock, watch or ActivityWatch(clock), runs, before or {}, rng, list(recorded), on_visit
    )
    for done in range(1, MAX_ROUNDS + 1):
        rounds.visit(runs, lambda: on_progress(NORMAL_PROGRESS * rounds.share(time_limit_s)))
        if done >= MIN_ROUNDS and rounds.spent_s * (done + 1) / done > time_limit_s:
            break
    limit_s = rounds.spent_s + REPEAT_SHARE * max(rounds.spent_s, time_limit_s)
    for _ in range(REPEAT_ROUNDS):
        repeated = list(find_contradictions(rounds.times()))
        if not repeated or rounds.spent_s > limit_s:
            break
        rounds.repeat(repeated)
    on_progress(1.0)
    return rounds.times()


class _Rounds(Generic[Key]):
    """All visits so far, in the order of time."""

    def __init__(
        self,
        clock: DeviceClock,
        watch: ActivityWatch,
        runs: Mapping[Key, Run],
        before: Mapping[Key, Run],
        rng: np.random.Generator,
        recorded: list[Visit],
        on_visit: Callable[[Visit], None],
    ) -> None:
        self.clock, self.watch = clock, watch
        self.runs, self.before, self.rng = runs, before, rng
        self.recorded, self.on_visit = recorded, on_visit
        self.number = {key: number for number, key in enumerate(runs)}
        self.visits: list[Visit] = []
        self.latest_s: dict[int, float] = {}  # of one run, by number of the network
        self.spent_s = 0.0
        self.is_warm = False

    def share(self, time_limit_s: float) -> float:
        """The share of the normal rounds that is done, 0 to 1.

        They end at the time limit, but not before MIN_ROUNDS and not after MAX_ROUNDS.
        """
        done = len(self.visits) / len(self.runs)
        return max(done / MAX_ROUNDS, min(1.0, self.spent_s / time_limit_s, done / MIN_ROUNDS))

    def visit(self, keys: Collection[Key], on_visit: Callable[[], None]) -> None:
        """Visit each of `keys` once, in random order."""
        ordered = list(keys)
        for which in self.rng.permutation(len(ordered)):
            visit = self._recorded_visit(ordered[which]) or self._make_visit(ordered[which])
            self.visits.append(visit)
            self.latest_s[visit.number] = visit.seconds
            self.spent_s += visit.cost_s
            on_visit()

    def _recorded_visit(self, key: Key) -> Visit | None:
        if len(self.visits) >= len(self.recorded):
            return None
        visit = self.recorded[len(self.visits)]
        if visit.number != self.number[key]:
            raise RecordError
        return visit

    def _make_visit(self, key: Key) -> Visit:
        if not self.is_warm:
            warm_up(self.clock, next(iter(self.runs.values())))
            self.is_warm = True
        number, run = self.number[key], self.runs[key]
        # A network stays where it was prepared until a visit has shown how long a run is.
        is_moved = self.latest_s.get(number, math.inf) <= MAX_MOVED_RUN_S
        moving_s = move_in_memory(find_move(run)) if is_moved else 0.0
        seconds, cost_s = _visit(self.clock, self.watch, run, self.before.get(key))
        visit = Visit(number, seconds, moving_s + cost_s)
        self.on_visit(visit)
        return visit

    def repeat(self, keys: list[Key]) -> None:
        """Visit `keys` again, among as many other networks.

        Visits of `keys` alone would look like a change of the device's speed.
        """
        others = [key for key in self.runs if key not in set(keys)]
        for _ in range(REPEAT_VISITS):
            chosen = self.rng.permutation(len(others))[: len(keys)]
            self.visit([*keys, *(others[which] for which in chosen)], lambda: None)

    def times(self) -> dict[Key, TimeEstimate]:
        numbers, seconds = ([visit[part] for visit in self.visits] for part in (0, 1))
        estimates = remove_drift(np.array(numbers), np.array(seconds))
        return dict(zip(self.runs, estimates, strict=True))


def remove_drift(visited: NDArray[np.int_], seconds: Array) -> list[TimeEstimate]:
    """Estimate the seconds of each network at the speed that the device had most of the time.

    Other users of the machine slow it down by a third for seconds or minutes, and slow some
    networks down more than others. The speed at one moment is the common part of the visits around
    it. Visits at an unusual speed count only for networks without any visit at the usual speed.

    Args:
        visited: Shape (visits,), the number of the network, from 0, in the order of time.
        seconds: Shape (visits,).

    Returns:
        An estimate for each network.
    """
    logarithm = np.log(seconds)
    count = int(visited.max()) + 1
    drift = np.zeros_like(logarithm)
    for _ in range(SWEEPS):
        typical = _medians(logarithm - drift, visited, count)
        drift = median_filter(logarithm - typical[visited], NEIGHBOURS, mode="nearest")
        drift -= np.median(drift)
    usual = np.abs(drift) <= SAME_SPEED
    at_any_speed = _medians(logarithm - drift, visited, count)
    at_usual = _medians((logarithm - drift)[usual], visited[usual], count)
    chosen = np.where(np.isnan(at_usual), at_any_speed, at_usual)
    errors = _errors(np.abs(logarithm - drift - chosen[visited]), visited, count)
    pairs = zip(np.exp(chosen).tolist(), errors.tolist(), strict=True)
    return [TimeEstimate(*pair) for pair in pairs]


def _errors(deviations: Array, visited: NDArray[np.int_], count: int) -> Array:
    """(count,) standard errors of medians of normal values, from median absolute deviations.

    A few visits may agree by chance, so each deviation is at least the median over all networks.
    """
    spread = 1.4826 * _medians(deviations, visited, count)
    spread = np.maximum(spread, np.median(spread))
    return np.asarray(math.sqrt(math.pi / 2) * spread / np.sqrt(np.bincount(visited)))


def _medians(values: Array, visited: NDArray[np.int_], count: int) -> Array:
    """(count,) the median of each network; NaN for a network without a visit."""
    groups = (values[visited == which] for which in range(count))
    return np.array([np.median(group) if len(group) else math.nan for group in groups])


def _visit(
    clock: DeviceClock, watch: ActivityWatch, run: Run, before: Run | None
) -> tuple[float, float]:
    """The seconds of one run, and the seconds that the visit took."""
    first = watch.time_runs(run, 1)
    per_run = spent = max(_typical_s([first], watch), 1e-9)
    if per_run >= VISIT_S and (watch.has_room() or not math.isnan(first[1])):
        return per_run, first[0]
    if per_run < UNTIMED_S:
        count = math.ceil((UNTIMED_S - per_run) / per_run)
        spent += clock.time_runs(run, count)
    count = 1 if before else max(1, math.ceil(clock.min_window_s / per_run))
    windows = []
    most = min(SAMPLES, math.ceil(TIMED_S / clock.min_window_s))
    for _ in range(min(most, math.ceil(VISIT_S / per_run))):
        if before:
            spent += clock.time_runs(before, 1)
        windows.append(watch.time_runs(run, count))
    seconds = _typical_s(windows, watch) / count
    return max(seconds, 1e-9), spent + sum(wall for wall, _ in windows)


def _typical_s(windows: list[tuple[float, float]], watch: ActivityWatch) -> float:
    """The median, without interrupted windows; the shortest window if all were interrupted."""
    if watch.has_room():
        return float(np.median([wall for wall, _ in windows]))
    undelayed = [seconds for _, seconds in windows if not math.isnan(seconds)]
    return float(np.median(undelayed)) if undelayed else min(wall for wall, _ in windows)
