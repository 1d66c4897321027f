"""The campaign on a GPU: time boxes, and figures that are stored whatever ends a stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import conditions  # noqa: E402
import gpu_campaign  # noqa: E402
import gpu_latency  # noqa: E402
import gpu_training  # noqa: E402
from genets.core.errors import TargetError  # noqa: E402
from genets.latency import Target  # noqa: E402
from genets.nas.study.records import Trial, TrialResult  # noqa: E402
from genets.nas.trials.plan import GROUP_SIZE  # noqa: E402
from genets.structure import DesignSpace  # noqa: E402
from gpu_campaign import MAX_SECONDS, STAGES, Stage, run_stage  # noqa: E402
from gpu_session import STORE_S, TINY_MASTER, Session  # noqa: E402


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (conditions, gpu_campaign, gpu_latency):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path / "gpu"


@pytest.fixture
def run(results: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a function as a stage; return how it ended, and what it stored."""

    def run_as_stage(stage: Callable[[Session], None], box_s: float = 60.0) -> Any:
        monkeypatch.setitem(STAGES, "table", Stage(stage, box_s))
        end = run_stage("table", "cpu", tiny=True, box_s=box_s)
        return end, json.loads((results / "table.json").read_text())

    return run_as_stage


def test_all_boxes_together_take_at_most_450_seconds() -> None:
    assert sum(stage.box_s for stage in STAGES.values()) <= MAX_SECONDS == 450


def test_a_stage_that_ends_is_complete(run) -> None:
    end, stored = run(lambda session: session.store(first=1))
    assert (end["status"], end["error"]) == ("done", [])
    assert (stored["complete"], stored["first"]) == (True, 1)


def test_a_stage_that_is_out_of_time_says_so_and_stores_what_it_has(run) -> None:
    def measure(session: Session) -> None:
        session.store(first=1)
        session.figures["second"] = 2
        try:
            time.sleep(60)
        except Exception as error:  # as `explain_failures` does
            raise AssertionError from error

    end, stored = run(measure, STORE_S + 1)
    assert end["status"] == "out of time"
    assert end["seconds"] < 30
    assert (stored["complete"], stored["out_of_time"]) == (False, True)
    assert (stored["first"], stored["second"]) == (1, 2)


def test_a_stage_that_hangs_is_killed_with_the_processes_that_it_started(run, tmp_path) -> None:
    def hang(session: Session) -> None:
        child = subprocess.Popen(["sleep", "60"])
        session.store(child=child.pid)
        while True:
            try:
                time.sleep(60)
            except BaseException:  # noqa: BLE001 - a library that catches everything
                continue

    end, stored = run(hang, STORE_S + 1)
    assert end["status"] == "killed at the end of its box"
    assert not stored["complete"]
    state = Path(f"/proc/{stored['child']}/stat")
    deadline = time.monotonic() + 20
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the process still runs"
        time.sleep(0.01)


def test_a_stage_that_fails_keeps_its_figures_and_its_error(run) -> None:
    def fail(session: Session) -> None:
        session.store(first=1)
        session.figures["second"] = 2
        raise ValueError("the card has disappeared")

    end, stored = run(fail)
    assert end["status"] == "failed with exit status 1"
    assert end["error"][-1] == "ValueError: the card has disappeared"
    assert (stored["complete"], stored["failed"]) == (False, True)
    assert (stored["first"], stored["second"]) == (1, 2)


def test_a_stage_with_a_failed_part_runs_to_its_end_and_fails(run) -> None:
    def measure(session: Session) -> None:
        session.failures.append("net on cuda: no memory")
        session.store(last=1)

    end, stored = run(measure)
    assert (end["status"], end["error"]) == (
        "failed with exit status 1", ["net on cuda: no memory"]
    )  # fmt: skip
    assert (stored["complete"], stored["failed"], stored["last"]) == (False, True, 1)
    assert stored["failures"] == ["net on cuda: no memory"]


def test_figures_of_an_earlier_campaign_do_not_stay(run, results) -> None:
    results.mkdir()
    (results / "table.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        run(lambda session: os._exit(3))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "auto"])
def test_a_wrong_device_ends_in_one_sentence(device, results, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_campaign.py", "--device", device])
    with pytest.raises(SystemExit, match="2"):
        gpu_campaign.main()
    expected = f"--device must be cpu, cuda or cuda:NUMBER, not {device!r}"
    assert capsys.readouterr().err.rstrip().endswith(expected)
    assert not results.exists()


def test_unused_seconds_are_added_to_the_next_box(results, capsys, monkeypatch) -> None:
    boxes: list[float] = []
    seconds = iter((10.0, 60.0, 5.0))

    def run_stage(name: str, device: str, tiny: bool, box_s: float) -> dict[str, Any]:
        boxes.append(box_s)
        return {"status": "done", "seconds": next(seconds), "error": []}

    monkeypatch.setattr(gpu_campaign, "run_stage", run_stage)
    stages = ("engines", "table", "table7")
    words = [word for name in stages for word in ("--stage", name)]
    monkeypatch.setattr(sys, "argv", ["gpu_campaign.py", "--device", "cpu", *words])
    gpu_campaign.main()
    own = [STAGES[name].box_s for name in stages]
    assert boxes == [own[0], own[0] - 10 + own[1], own[0] - 10 + own[1] - 60 + own[2]]
    assert json.loads((results / "campaign.json").read_text())["stages"].keys() == {*stages}


def test_the_tests_of_a_gpu_run_before_the_engines(results, monkeypatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(gpu_latency, "run_gpu_tests", lambda session: order.append("tests"))
    monkeypatch.setattr(gpu_latency, "runnable_targets", lambda session: order.append("") or [])
    gpu_latency.engines(Session("engines", "cpu", True, time.monotonic() + 60))
    assert order == ["tests", ""]


def test_tests_get_a_positive_time_limit_at_the_end_of_a_box(results, monkeypatch) -> None:
    limits: list[float] = []

    def expire(words: list[str], *, timeout: float, **_: Any) -> None:
        limits.append(timeout)
        output = b"tests/a.py::test_a PASSED [ 5%]\ntests/a.py::test_b[x y] FAILED [9%]\ntests/a.p"
        raise subprocess.TimeoutExpired(words, timeout, output)

    monkeypatch.setattr(gpu_latency.subprocess, "run", expire)
    session = Session("engines", "cpu", True, time.monotonic() - 5)
    assert session.seconds_left == 0
    gpu_latency.run_gpu_tests(session)
    assert limits == [1.0]
    assert session.figures["tests"] == {
        "complete": False,
        "exit_status": None,
        "results": {"passed": 1, "failed": 1},
        "failed": ["tests/a.py::test_b[x y]"],
        "last_line": "tests/a.p",
    }
    assert session.failures == ["the GPU tests did not end in 1 s"]


PASSED, SKIPPED = "tests/a.py::test_a PASSED [50%]", "tests/a.py::test_b SKIPPED (no GPU) [99%]"


@pytest.mark.parametrize(
    ("device", "exit_status", "lines", "failures"),
    [
        ("cuda", 0, [PASSED, SKIPPED, "= 1 passed, 1 skipped ="], []),
        ("cpu", 0, [SKIPPED, "= 1 skipped ="], []),
        ("cuda", 0, [SKIPPED, "= 1 skipped ="], ["no GPU test ran: '= 1 skipped ='"]),
        (
            "cpu",
            5,
            ["= no tests ran ="],
            ["the GPU tests ended with exit status 5: '= no tests ran ='"],
        ),
        (
            "cuda",
            1,
            [PASSED, "tests/a.py::test_c FAILED [99%]", "= 1 failed, 1 passed ="],
            ["the GPU tests ended with exit status 1: '= 1 failed, 1 passed ='"],
        ),
        ("cuda", 4, [], ["the GPU tests ended with exit status 4: ''"]),
    ],
)
def test_the_engines_are_stored_and_the_stage_fails_without_passed_tests(
    results, monkeypatch, device, exit_status, lines, failures
) -> None:
    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(words, exit_status, "\n".join(lines).encode())

    session = Session("engines", device, True, time.monotonic() + 60)
    monkeypatch.setattr(gpu_latency.subprocess, "run", run)
    monkeypatch.setattr(session, "store", lambda **figures: session.figures.update(figures))
    monkeypatch.setattr(gpu_latency, "runnable_targets", lambda session: [Target()])
    monkeypatch.setattr(gpu_latency, "largest_error", lambda *_: 1e-3)
    gpu_latency.engines(session)
    assert session.failures == failures
    assert [row["largest_error"] for row in session.figures["errors"]] == [1e-3]


def test_engines_and_networks_that_fail_are_failures_of_their_stage(results, monkeypatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TargetError("no memory")

    session = Session("engines", "cpu", True, time.monotonic() + 60)
    monkeypatch.setattr(gpu_latency, "run_gpu_tests", lambda session: None)
    monkeypatch.setattr(gpu_latency, "runnable_targets", lambda session: [Target()])
    monkeypatch.setattr(gpu_latency, "largest_error", refuse)
    gpu_latency.engines(session)
    assert session.failures == [f"tiny on {Target().name}: no memory"]
    session.failures.clear()
    monkeypatch.setattr(gpu_latency, "measure", refuse)
    gpu_latency.compiled(session)
    assert session.failures == [f"{TINY_MASTER}: no memory"]


def test_a_failed_trial_is_a_failure_of_its_stage() -> None:
    trial = Trial(0, TINY_MASTER.super_blocks[0], 0)
    session = Session("trials", "cpu", True, time.monotonic() + 60)
    results = [TrialResult(trial, "done", 0.5, 1.0), TrialResult(trial, "failed", reason="NaN")]
    gpu_training.note_failed_trials(session, results)
    assert session.failures == [f"the trial {trial.super_block} failed: NaN"]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_process_gets_at_least_four_groups(processes: int) -> None:
    space = DesignSpace().around(TINY_MASTER)
    groups = gpu_training.plan_groups(space, gpu_training.GROUPS_PER_PROCESS * processes)
    assert len(groups) >= 4 * processes
    assert {len(group) for group in groups} == {GROUP_SIZE}


def test_the_speed_of_processes_leaves_their_start_out() -> None:
    """Two processes start in 10 s; then each one takes 2 s for a group of 4 trials."""
    ends = [10.0 + 2 * number for number in range(1, 5) for _ in range(2 * GROUP_SIZE)]
    assert gpu_training.steady_speed(ends, 2) == pytest.approx(2 * GROUP_SIZE / 2)


def test_forked_stages_can_use_cuda() -> None:
    """PyTorch refuses CUDA in a process whose parent has asked for the GPUs."""
    program = (
        f"import sys; sys.path.append({str(BENCHMARKS)!r}); import gpu_campaign, torch; "
        "print(gpu_campaign.run_forked(lambda: print(torch.cuda._is_in_bad_fork()), 60))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "(0, ['False'])", run.stderr
