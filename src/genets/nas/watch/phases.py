"""The phases of a search as the files of its study show them: done, running or waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genets.nas.phase_names import RIVALS, phase_name
from genets.nas.settings.rival_names import expand_rivals
from genets.nas.snapshot import RoundSnapshot, Snapshot
from genets.nas.watch.run_record import RunRecord

PhaseState = Literal["done", "running", "stopped", "waiting", "refused"]


@dataclass(frozen=True)
class PhaseStatus:
    """A phase of a search.

    Attributes:
        phase: The name, as in `SearchResult.seconds`.
        state: "stopped" is a phase that no process works on any more, and "refused" one of a budget
            that no structure meets.
        done, total: The steps that have ended, and all of them: trials, candidates, epochs or
            percent; None where they are not known.
        seconds: The wall time over all runs; None before the phase has ended once.
    """

    phase: str
    state: PhaseState
    done: float | None = None
    total: float | None = None
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Part:
    """A phase by the files of the study. is_done: None where its budget is refused."""

    phase: str
    is_done: bool | None
    done: float | None = None
    total: float | None = None


def list_phases(
    snapshot: Snapshot, run: RunRecord | None, *, is_running: bool
) -> tuple[PhaseStatus, ...]:
    """List the phases in their order.

    A phase that has no result, and that comes before one that has a result, was not needed.

    Args:
        snapshot: The content of the study.
        run: The record of the last run, if there is one.
        is_running: Whether that run still works on its phase.
    """
    parts = list(_list_parts(snapshot))
    current = next((n for n, part in enumerate(parts) if run and part.phase == run.phase), -1)
    reached = max((n for n, part in enumerate(parts) if part.is_done or n == current), default=-1)
    phases = []
    for number, part in enumerate(parts):
        done, total = part.done, part.total
        state: PhaseState = "waiting"
        if part.is_done is None:
            state = "refused"
        elif part.is_done or number < reached:
            state = "done"
        elif number == current and run is not None:
            state = "running" if is_running else "stopped"
            done, total = (run.done, run.total) if total is None else (done, total)
        phases.append(PhaseStatus(part.phase, state, done, total, snapshot.seconds.get(part.phase)))
    return tuple(phases)


def _list_parts(snapshot: Snapshot) -> Iterator[_Part]:
    yield _Part("latency table", snapshot.own_latency is not None)
    for of_budget in snapshot.each_budget:  # a check has no file, and is done with the next phase
        yield _of_budget(of_budget, "budget check", is_done=False)
    yield _Part("MasterNet training", snapshot.master_score is not None)
    first, *later = snapshot.rounds
    yield _trials(snapshot, first)
    for of_budget in snapshot.each_budget:
        yield from _candidates(of_budget, first)
        for each in later:
            yield _trials(snapshot, each)
            yield from _candidates(of_budget, each)
        has_weights = of_budget.reader.winner_weights.exists()
        yield _of_budget(of_budget, "final training", is_done=has_weights)
        yield _of_budget(of_budget, "export", is_done=of_budget.result is not None)
    if rivals := expand_rivals(snapshot.settings.rivals):
        compared = [len(each.rivals) for each in snapshot.each_budget if each.refusal is None]
        yield _Part(RIVALS, min(compared, default=0) == len(rivals))


def _trials(snapshot: Snapshot, of_round: RoundSnapshot) -> _Part:
    planned, ended = snapshot.planned // len(snapshot.rounds), len(of_round.results)
    name = phase_name("trials", round_number=of_round.number)
    return _Part(name, of_round.selected or ended >= planned, ended, planned)


def _candidates(of_budget: Snapshot, of_round: RoundSnapshot) -> Iterator[_Part]:
    """Screening and selection, and the training of the selected structures."""
    reader, number = of_budget.reader, of_round.number
    candidates, trained = reader.candidates(number), reader.trained(number)
    if count := of_budget.settings.screen:
        done = reader.screening(number).num_ended
        yield _of_budget(
            of_budget, "screening", number, is_done=bool(candidates), done=done, total=count
        )
    yield _of_budget(of_budget, "selection", number, is_done=bool(candidates))
    yield _of_budget(
        of_budget, "candidate training", number, is_done=reader.is_decided(number),
        done=len(trained) if candidates else None, total=len(candidates) or None,
    )  # fmt: skip


def _of_budget(
    of_budget: Snapshot,
    phase: str,
    number: int = 1,
    *,
    is_done: bool,
    done: float | None = None,
    total: float | None = None,
) -> _Part:
    """A phase of a budget in a round. number: The round, from 1."""
    name = phase_name(phase, round_number=number, budget=of_budget.reader.budget)
    is_refused = of_budget.refusal is not None and not is_done
    return _Part(name, None if is_refused else is_done, done, total)


def current_phase(phases: Sequence[PhaseStatus]) -> PhaseStatus | None:
    """Give the phase that runs."""
    return next((each for each in phases if each.state == "running"), None)
