"""Searches and selections on a device that something else uses, in closed form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import ClosedFormLaboratory, search, settings

from genets.core.errors import BusyDeviceError, InfeasibleBudgetError, SettingsError
from genets.core.progress import Progress
from genets.latency import LatencyTable, Measurement, TableSettings, Target
from genets.latency.timing.calm import OnWait
from genets.nas.latencies.calm import WAITING, leaves_threads_open
from genets.nas.reselect import select_top
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import StudyReader, load_settings
from genets.structure import Structure


class BusyLaboratory(ClosedFormLaboratory):
    """Others leave after some measurements or waits.

    limits: of the waits. tables: how many tables were built.
    """

    def __init__(self, asked: SearchSettings, *, measurements: int = 0, waits: int = 0) -> None:
        super().__init__(asked)
        self.asked, self.measurements, self.waits = asked, measurements, waits
        self.limits: list[float] = []
        self.tables: list[Target] = []

    def prepare_table(self, path: Path, expected: TableSettings, **more: Any) -> LatencyTable:
        if not path.exists():
            self.tables.append(expected.target)
            self.asked = self.asked.model_copy(update={"target": expected.target})
        return super().prepare_table(path, expected, **more)

    def measure(
        self, structures: Sequence[Structure], *arguments: Any, relative: bool = False
    ) -> dict[Structure, Measurement]:
        self.measurements -= 1
        busy = self.measurements >= 0
        measured = super().measure(structures, *arguments)
        return {
            structure: replace(m, disturbed=busy, other_cpus=1.9)
            for structure, m in measured.items()
        }

    def wait_for_calm(self, target: Target, limit_s: float, on_wait: OnWait) -> bool:
        self.limits.append(limit_s)
        on_wait(1.0, 1.9)
        self.waits -= 1
        return self.waits < 0

    def count_idle_threads(self, target: Target) -> int:
        return 1


TWO_THREADS = {"target": {"batch_size": 8, "threads": 2}}
MS_BUDGET = "0.0031ms"


def ms_settings(**changes: Any) -> SearchSettings:
    return settings(budget=MS_BUDGET, **changes)


def test_a_budget_in_ms_waits_for_the_table_and_after_a_disturbed_latency(
    tmp_path: Path,
) -> None:
    asked = ms_settings()
    lab, events = BusyLaboratory(asked, measurements=1), list[Progress]()
    result = search(asked, tmp_path / "a", lab, wait_minutes=3, on_event=events.append)
    calm = search(asked, tmp_path / "b", ClosedFormLaboratory(asked))
    assert result.selected == calm.selected
    assert not result.selected.disturbed
    assert len(lab.limits) == 2
    assert lab.limits[0] == 180 >= lab.limits[1] > 170
    waits = [event for event in events if event.phase == WAITING]
    assert waits[0].done == 0
    assert {event.detail for event in waits} == {"other processes use 1.9 CPUs", "calm"}


def test_measuring_is_shown_and_logged_in_each_phase_that_measures(tmp_path: Path) -> None:
    """The first measurement of the MasterNet, and the first of the budget check, are repeated."""

    class BusyTwice(BusyLaboratory):
        calls = 0

        def measure(self, *arguments: Any, **more: Any) -> dict[Structure, Measurement]:
            self.calls += 1
            self.measurements = self.calls in (1, 3)
            return super().measure(*arguments, **more)

    asked, events = ms_settings(), list[Progress]()
    lab = BusyTwice(asked)
    with pytest.raises(InfeasibleBudgetError):
        search(settings(budget="0.0001ms"), tmp_path, lab, on_event=events.append)
    details = {phase: [event.detail for event in events if event.phase == phase]
               for phase in ("latency table", "budget check")}  # fmt: skip
    for phase, networks in (("latency table", "1 network"), ("budget check", "3 networks")):
        words = f"measuring {networks}"
        again = f"{words} again, measurement 2"
        expected = [words, f"{words}, 50%", again, f"{again}, 50%"]
        assert [text for text in details[phase] if text.startswith("measuring")] == expected
    check = [event for event in events if event.phase == "budget check"]
    assert {(event.done, event.total) for event in check} == {(0, 1)}, "the check did not end"
    assert check[0].detail == "the fastest structures at 8 pixels"
    log = (tmp_path / "study.log").read_text()
    measured = re.findall(r"measured (.*) in .* s, (measurement \d; .*)\n", log)
    undecided = "without a decision on the budget"
    assert measured == [
        (networks, f"measurement {number}; {undecided}: {left}")
        for networks, count in (("1 network", 1), ("3 networks", 3))
        for number, left in ((1, count), (2, 0))
    ]
    assert "budget check: stopped by InfeasibleBudgetError after " in log
    assert StudyReader(tmp_path).seconds()["budget check"] > 0


def test_a_device_that_stays_busy_costs_nothing_but_the_wait(tmp_path: Path) -> None:
    asked = ms_settings()
    with pytest.raises(BusyDeviceError, match=rf"on the budget {MS_BUDGET} within 5 minutes"):
        search(asked, tmp_path, lab := BusyLaboratory(asked, waits=9))
    assert lab.tables == []
    calm = search(asked, tmp_path, BusyLaboratory(asked))
    assert calm.selected.high_ms <= calm.selected.budget_ms


def test_a_search_that_was_stopped_by_others_continues(tmp_path: Path) -> None:
    """The trials are kept; the table is not built again."""
    asked = ms_settings()
    lab = BusyLaboratory(asked, measurements=0)
    trials = lab.run_trials

    def busy_from_here(*arguments: Any) -> Any:
        lab.measurements, lab.waits = 99, 99
        return trials(*arguments)

    lab.run_trials = busy_from_here  # type: ignore[method-assign]
    with pytest.raises(BusyDeviceError):
        search(asked, tmp_path / "a", lab, wait_minutes=0)
    again = BusyLaboratory(asked)
    result = search(asked, tmp_path / "a", again)
    assert (again.tables, len(again.trial_jobs)) == ([], 1)
    expected = search(asked, tmp_path / "b", BusyLaboratory(asked))
    assert result.selected.structure == expected.selected.structure


def test_one_thread_and_a_multiple_of_the_master_net_need_no_calm_device(tmp_path: Path) -> None:
    asked = settings()
    lab = BusyLaboratory(asked, measurements=99, waits=99)
    result = search(asked, tmp_path, lab)
    assert lab.limits == []
    assert result.selected.disturbed
    assert result.to_json()["selected"]["disturbed"]
    calm = search(asked, tmp_path / "calm", ClosedFormLaboratory(asked))
    assert 1.1 * result.selected.high_ms <= result.selected.budget_ms
    assert result.selected.measured_ms <= calm.selected.measured_ms


def test_several_threads_on_a_busy_device_get_no_table(tmp_path: Path) -> None:
    asked = settings(**TWO_THREADS)
    lab = BusyLaboratory(asked, waits=1)
    with pytest.raises(BusyDeviceError, match="--threads 1"):
        search(asked, tmp_path, lab)
    assert (lab.tables, lab.limits) == ([], [300])


def test_threads_that_were_left_open_become_fewer(tmp_path: Path) -> None:
    asked = settings(**TWO_THREADS)
    lab = BusyLaboratory(asked, measurements=999, waits=999)
    with pytest.warns(UserWarning, match="latencies are for 1 CPU thread in place of 2"):
        result = run_search(asked, tmp_path, workers=1, lab=lab, open_threads=True, wait_minutes=2)
    assert lab.limits == [120]
    assert [target.threads for target in lab.tables] == [1]
    assert load_settings(tmp_path).target.threads == 1
    assert result.selected.disturbed
    # The same command continues with the threads of the study.
    stored = load_settings(tmp_path)
    again = run_search(stored, tmp_path, workers=1, lab=ClosedFormLaboratory(stored))
    assert again.selected.structure == result.selected.structure


@pytest.mark.parametrize("budget", ["0.9x", MS_BUDGET])
def test_threads_that_were_left_open_stay_on_a_calm_device(tmp_path: Path, budget: str) -> None:
    asked = settings(budget=budget, **TWO_THREADS)
    lab = BusyLaboratory(asked)
    run_search(asked, tmp_path, workers=1, lab=lab, open_threads=True)
    assert [target.threads for target in lab.tables] == [2]


@pytest.mark.parametrize(
    ("target", "is_open"),
    [({}, True), ({"target": {"threads": None}}, True), ({"target": {"threads": 2}}, False),
     ({"target": Target()}, True), ({"target": Target(threads=1)}, False)],
)  # fmt: skip
def test_open_threads(target: dict[str, Any], is_open: bool) -> None:
    assert leaves_threads_open(target) == is_open


def test_select_measures_again_what_was_disturbed(tmp_path: Path) -> None:
    asked = settings()
    search(asked, tmp_path, BusyLaboratory(asked, measurements=999, waits=999))
    lab = BusyLaboratory(asked, measurements=999, waits=999)
    with pytest.raises(BusyDeviceError, match="on the budget"):
        select_top(tmp_path, MS_BUDGET, 1, lab=lab, wait_minutes=0)
    (relative,) = select_top(tmp_path, "0.9x", 1, lab=lab, wait_minutes=0)
    assert relative.disturbed
    (calm,) = select_top(tmp_path, MS_BUDGET, 1, lab=BusyLaboratory(asked))
    assert not calm.disturbed


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf")])
def test_a_wrong_wait_is_refused_before_a_study_is_made(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(SettingsError, match=f"must be 0 or more and finite, not {minutes}"):
        search(settings(), tmp_path / "a", wait_minutes=minutes)
    assert not (tmp_path / "a").exists()
