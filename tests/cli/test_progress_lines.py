"""Progress where there is no terminal: lines while a phase runs, and at its end."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from genets.cli import progress
from genets.cli.progress import Lines, show_progress
from genets.core.progress import Progress
from genets.networks.onnx_export import quiet


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(clock: Clock, output: io.StringIO) -> Lines:
    return Lines(Console(file=output, width=200, color_system=None))


def test_a_running_phase_shows_its_steps_and_the_time_left(
    lines: Lines, clock: Clock, output: io.StringIO
) -> None:
    lines.show_running()
    lines(Progress("trials", 0, 64))
    clock.now += 30
    lines.show_running()
    clock.now += 30
    lines(Progress("trials", 4, 64, "DW3x24r3"))
    lines.show_running()
    lines(Progress("trials", 64, 64, "XX3x8"))
    lines.show_running()
    assert output.getvalue().splitlines() == [
        "trials: 0 of 64 after 30 s",
        "trials: 4 of 64 after 1 min 00 s, about 15 min 00 s left (DW3x24r3)",
        "trials: 64 of 64 in 60.0 s (XX3x8)",
    ]


def test_steps_of_an_earlier_process_are_named_and_do_not_count_for_the_time_left(
    lines: Lines, clock: Clock, output: io.StringIO
) -> None:
    lines(Progress("trials", 16, 64))
    clock.now += 10
    lines(Progress("trials", 17, 64))
    lines.show_running()
    assert output.getvalue().splitlines() == [
        "trials: 16 of 64 done before",
        "trials: 17 of 64 after 10 s, about 7 min 50 s left",
    ]


def test_a_share_of_few_steps_is_shown(lines: Lines, clock: Clock, output: io.StringIO) -> None:
    lines(Progress("measuring", 0, 3))
    clock.now += 5
    lines(Progress("measuring", 1.5, 3, "cpu, 3 in turn"))
    lines.show_running()
    assert output.getvalue() == "measuring: 1.5 of 3 after 5 s, about 5 s left (cpu, 3 in turn)\n"


def test_a_phase_that_begins_again_and_the_phase_around_it(
    lines: Lines, clock: Clock, output: io.StringIO
) -> None:
    lines(Progress("selection", 0, 5))
    for _ in range(2):
        lines(Progress("waiting", 0, 600))
        clock.now += 30
        lines(Progress("waiting", 30, 600, "other processes use 1.0 CPUs"))
        lines.show_running()
        lines(Progress("waiting", 600, 600, "calm"))
        lines(Progress("waiting", 600, 600, "calm"))
        lines.show_running()
    wait = "waiting: 30 of 600 after 30 s, about 9 min 30 s left (other processes use 1.0 CPUs)"
    assert output.getvalue().splitlines() == [
        wait, "waiting: 600 of 600 in 30.0 s (calm)", "selection: 0 of 5 after 30 s",
        wait, "waiting: 600 of 600 in 30.0 s (calm)", "selection: 0 of 5 after 1 min 00 s",
    ]  # fmt: skip


def test_lines_come_while_nothing_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = threading.Event()
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.001)
    monkeypatch.setattr(Lines, "show_running", lambda self: shown.set())
    before = threading.active_count()
    with show_progress(plain=True) as on_progress:
        on_progress(Progress("selection", 0, 5))
        assert shown.wait(60)
    assert threading.active_count() == before
    assert capsys.readouterr().err == ""


def test_lines_are_printed_while_an_engine_is_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(plain=True) as on_progress, quiet():
        on_progress(Progress("latency table", 100, 100))
    assert "latency table: 100 of 100" in capsys.readouterr().err
