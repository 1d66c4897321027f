"""SLURM clusters: what a task asks for, and the sentences of what goes wrong, without SLURM."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import MASTER, SearchCommand

import genets
from command_line import fails
from genets.cli.worker_options import show_worker_options
from genets.core.errors import GenetsError, WorkersError
from genets.nas.candidates.runner import CandidateJob
from genets.nas.workers.slurm.arrays import describe_refusal, run_command
from genets.nas.workers.slurm.cluster import parse_minutes
from genets.structure import Structure
from genets.training import Metric, Recipe


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90), ("90:30", 91), ("2:00:00", 120), ("1-12", 2160), ("1-0:30", 1470),
        ("0-1:00:01", 61), (" 5 ", 5), ("1:2:3:4", None), ("1-2-3", None), ("-5", None),
        ("1.5", None), ("infinite", None), ("", None), ("9" * 9, None),
    ],
)  # fmt: skip
def test_times_of_slurm(text: str, minutes: int | None) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("time", "soon", "time of a SLURM task must be a number of minutes, or HOURS:MINUTES:SECO"),
        ("time", 3, "time of a SLURM task must be at least 4 minutes, not 3"),
        ("time", 0, "at least 4 minutes, not 0"),
        ("time", None, "time must be a valid integer or a valid string, not None"),
        ("time", 7.5, "time must be a valid integer or a valid string, not 7.5"),
        ("gpus", 0, "gpus must be greater than or equal to 1, not 0"),
        ("gpus", 0.5, "gpus must be a valid integer, not 0.5"),
        ("cpus", -1, "cpus must be greater than or equal to 1, not -1"),
        ("memory_gb", float("nan"), "memory_gb must be a finite number, not nan"),
        ("partition", "", "partition of a SLURM cluster must be one name, not ''"),
        ("partition", "a,b", "not 'a,b'"),
    ],
)
def test_wrong_values_are_named(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(GenetsError, match=sentence):
        genets.SlurmCluster(**{field: value})


def workers(count: int | None, device: str, **asked: Any) -> Any:
    cluster = genets.SlurmCluster(**asked)
    return cluster.workers(count, device, lambda cores, gpus: 1, Path("runs/a"))


@pytest.mark.parametrize(
    ("count", "device", "asked", "expected"),
    [
        (None, "cpu", {}, (8, 1, 1, 0)),
        (3, "cpu", {"cpus": 2}, (3, 1, 1, 0)),
        (None, "cuda:1", {}, (8, 1, 8, 4)),
        (3, "cuda", {"gpus": 2, "cpus": 6}, (4, 2, 4, 6)),
    ],
)
def test_each_gpu_of_a_task_has_a_worker(
    count: int | None, device: str, asked: dict[str, Any], expected: tuple[int, ...]
) -> None:
    made = workers(count, device, **asked)
    readers = min(made.readers, expected[3])  # there are none where shared memory is small
    assert (made.count, made.per_task, made.gpus, readers) == (*expected[:3], made.readers)
    assert made.folder == Path("runs/a").absolute()


def test_what_a_task_asks_for() -> None:
    asked = genets.SlurmCluster(partition="gpu", time="1-0", gpus=2, cpus=3, memory_gb=1.5)
    assert str(asked) == "SLURM, partition gpu"
    parameters = asked.parameters("cuda")
    assert parameters["time"] == 1440
    assert parameters["gpus_per_node"] == 2
    assert parameters["cpus_per_task"] == 6
    assert parameters["mem"] == "1500M"
    assert "gpus_per_node" not in genets.SlurmCluster().parameters("cpu")


def test_a_missing_package_is_named(
    search_command: SearchCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    fails(search_command("--workers-on", "slurm"), "in the clone of genets: pip install '.[slurm]'")


def test_a_machine_without_slurm_is_named(
    search_command: SearchCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    monkeypatch.setenv("PATH", str(tmp_path))
    fails(
        search_command("--workers-on", "slurm"),
        "this machine has no SLURM: the command sbatch is miss",
    )
    assert not (tmp_path / "study").exists()
    with pytest.raises(WorkersError, match=r"SLURM does not answer: .*No such file"):
        run_command("squeue")


def test_options_of_slurm_need_workers_on_slurm(search_command: SearchCommand) -> None:
    fails(search_command("--slurm-memory", 4), "--slurm-memory needs --workers-on slurm")
    fails(
        search_command("--workers-on", "ray", "--slurm-time", 9),
        "--slurm-time needs --workers-on slu",
    )


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("sbatch: error: invalid partition specified: x\n"
         "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
         "Invalid partition name specified"),
        ("allocation failure: Requested node configuration is not available",
         "Requested node configuration is not available"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
         "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"),
        ("", "it gives no reason"),
    ],
)  # fmt: skip
def test_refusals_of_slurm(output: str, sentence: str) -> None:
    assert describe_refusal(output) == sentence


def test_a_job_of_a_later_driver_has_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the driver's GPU, its readers and its working directory are."""
    master = Structure.parse(MASTER)

    def job(folder: Path, **values: Any) -> CandidateJob:
        return CandidateJob(
            master=master, master_weights=folder / "a", data="digits", recipe=Recipe(epochs=2),
            seed=0, folder=folder, source=master, source_weights=folder / "a",
            metric=Metric.TOP1, **values,
        )  # fmt: skip

    first = job(tmp_path, device="cuda:1", readers=4)
    monkeypatch.chdir(tmp_path.parent)
    assert first.key == job(Path(tmp_path.name), device="cuda").key
    assert first.key != replace(first, seed=1).key
    assert first.key != replace(first, source_weights=tmp_path / "b").key


def test_the_command_that_continues_has_the_options_of_the_workers() -> None:
    given = {"slurm": {"partition": "long one", "memory_gb": 4.0}, "ray": {"gpus": 0.5}}
    assert show_worker_options(None, "local", given) == ""
    assert show_worker_options(2, "local", given) == " --workers 2"
    words = " --workers 8 --workers-on slurm --slurm-partition 'long one' --slurm-memory 4.0"
    assert show_worker_options(8, "slurm", given) == words
