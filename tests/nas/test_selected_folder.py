"""`genets select --out` and `--train`: a selected structure with the command that trains it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rounds_lab import ClosedFormLaboratory, in_closed_form, search, settings
from test_stored_study import STORED, StoredLaboratory

import genets
from command_line import fails, invoke
from genets.core.output_folder import MARKER
from genets.latency import Budget
from genets.nas.candidates import training
from genets.nas.context import SearchContext
from genets.nas.study.reader import StudyReader
from genets.structure import Structure
from json_keys import check_keys


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stored study in closed form, whose networks train for one epoch."""
    in_closed_form(monkeypatch, StoredLaboratory())
    folder = Path(shutil.copytree(STORED, tmp_path / "my study"))
    settings = folder / "study.toml"
    settings.write_text(settings.read_text().replace("epochs = 12", "epochs = 1"))
    return folder


def select(study: Path, *words: object) -> dict[str, object]:
    result = invoke("select", study, "--budget", "0.7x", *words, "--json")
    assert result.exit_code == 0, result.output
    printed: dict[str, object] = json.loads(result.stdout)
    return printed


def test_structure_measurement_and_command_are_written(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "faster net"
    printed = select(study, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == [
        MARKER, "recipe.toml", "selected.json", "structure.toml", "train.sh"
    ]  # fmt: skip
    assert str(Structure.load(out / "structure.toml")) == printed["structure"]
    stored = json.loads((out / "selected.json").read_text())
    assert stored["measured_ms"] == printed["measured_ms"]
    assert (stored["metric"], stored["target"]["batch_size"]) == ("cross_entropy", 8)
    recipe = tomllib.loads((out / "recipe.toml").read_text())
    assert (recipe["epochs"], recipe["learning_rate"], recipe["mixup"]) == (1, 1.2, 0.0)
    script = shlex.split((out / "train.sh").read_text().removeprefix("#!/bin/sh\n"))
    words = shlex.split(str(printed["train"]))
    assert script == [sys.executable, "-m", *words, "$@"], "genets may not be on PATH"
    assert words[words.index("--device") + 1] == "auto"
    assert select(study, "--out", out) == printed


def test_the_command_trains_the_structure_as_train_does(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    printed = select(study, "--out", out, "--train")
    check_keys("select --out", printed)
    assert set(printed["files"]) == {"structure", "measurement", "recipe", "command"}
    network = genets.load(out / "training" / "results")
    assert network.num_features == 16
    script = ["sh", str(out / "train.sh"), "--json"]
    again = subprocess.run(script, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == printed["trained"], "the same run is continued"


def test_each_alternative_has_a_folder(study: Path, tmp_path: Path) -> None:
    result = invoke("select", study, "--budget", "0.7x", "--top", 2, "--out", tmp_path / "two")
    assert result.exit_code == 0, result.output
    structures = [Structure.load(tmp_path / "two" / n / "structure.toml") for n in "12"]
    assert structures[0] != structures[1]
    assert result.stdout.count("this command trains the network: genets train") == 2


def test_the_time_of_measuring_is_shown_first(study: Path) -> None:
    result = invoke("select", study, "--budget", "0.7x")
    lines = result.stderr.splitlines()
    assert lines[0] == "Measuring usually takes at most 5 attempts of up to 10 s each."
    assert "predicted cross-entropy" in result.stdout
    new = invoke("select", study, "--budget", "0.7x", "--batch-size", 4)
    assert "First the latency table of cpu-torch-fp32-b4-t1 is measured, which takes" in new.stderr


def test_faults(study: Path, tmp_path: Path) -> None:
    words = ("select", study, "--budget", "0.7x")
    fails(invoke(*words, "--train"), "--train needs --out")
    fails(invoke(*words, "--train", "--out", tmp_path / "b", "--top", 2), "leave --top out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("dear")
    fails(invoke(*words, "--out", tmp_path / "full"), "is not empty and holds no selection")
    fails(invoke(*words, "--out", study / "study.toml"), "is not empty and holds no selection")
    select(study, "--out", tmp_path / "c")
    other = invoke("select", study, "--budget", "0.5x", "--out", tmp_path / "c")
    assert other.exit_code == 2
    assert "holds another structure than the selected" in other.stderr


@pytest.mark.parametrize("batch_size", [8, 4])
def test_it_starts_from_a_winner_that_is_too_slow_for_its_own_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Also on another target, where that winner has not been measured."""
    budgets = ("0.9x", "0.55x")
    asked = settings(rounds=1, from_scratch=False, budget=None, budgets=budgets)
    in_closed_form(monkeypatch, ClosedFormLaboratory(asked))
    monkeypatch.setattr(training, "restore_weights", lambda *args, **words: None)
    result = search(asked, tmp_path / "study")
    starts = []

    def start(context: SearchContext, structure: Structure, data: object) -> object:
        starts.append((context, training.make_candidate_job(context).larger))
        return context.build_network(structure, "final")

    monkeypatch.setattr(training, "start_candidate", start)
    words = ("--budget", "0.7x", "--batch-size", batch_size, "--wait", 2)
    done = invoke("select", result.folder, *words, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    ((context, larger),) = starts
    with context.phase("candidate training"):
        pass
    assert StudyReader(result.folder).seconds() == result.seconds, "the times of the search"
    assert (context.budget, context.target.batch_size) == (Budget.parse("0.7x"), batch_size)
    winner = result.budgets["0.9x"].selected
    assert winner.measured_ms > 0.7 * winner.master_ms
    assert larger is not None
    assert larger[0] == winner.structure


def test_a_search_that_differs_in_its_budget_alone_names_the_selection(study: Path) -> None:
    other = invoke("search", "--out", study, "--budget", "0.5x")
    command = f"genets select {shlex.quote(str(study))} --budget 0.5x"
    fails(other, "budget: 0.9x in the study, 0.5x asked", command)
    several = invoke("search", "--out", study, "--budget", "0.5x", "--seed", 3)
    fails(several, "was begun with other settings", "seed: 0 in the study, 3 asked")


def test_a_continued_search_says_what_is_complete(study: Path) -> None:
    shutil.rmtree(study / "results")
    result = invoke("search", "--out", study, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == (
        f"Continuing {study}: latency table complete, MasterNet trained, 20 trials complete, "
        "4 candidates trained, winner trained."
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--budget=-1ms",), "budget must be above 0"),
        (("--budget", "0,5ms"), "budget"),
        (("--budget", ""), "budget must be a number"),
        (("--budget", "0.7x", "--wait", "inf"), "--wait must be finite"),
    ],
)
def test_arguments_are_read_before_measuring_is_announced(
    study: Path, words: tuple[str, ...], part: str
) -> None:
    result = invoke("select", study, *words)
    fails(result, part)
    assert "Measuring" not in result.stderr


def test_a_folder_in_the_way_costs_no_table_and_no_half_of_the_folders(
    study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    words = ("select", study, "--budget", "0.7x", "--top", 2, "--out", out)
    first = invoke(*words)
    assert first.exit_code == 0
    structure = json.loads((out / "1" / "selected.json").read_text())["structure"]
    assert structure in first.stdout
    shutil.rmtree(out / "2")
    (out / "1").rename(out / "2")
    result = invoke(*words)
    assert result.exit_code == 2
    assert "holds another structure than the selected" in result.stderr
    assert structure in result.stdout
    assert not (out / "1").exists()
    result = invoke(*words, "--json")
    assert result.exit_code == 2
    record = json.loads(result.stdout)
    assert structure in [each["structure"] for each in record["alternatives"]]


def test_a_training_that_fails_costs_no_record(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = select(study, "--out", out)
    (out / "training").mkdir()
    (out / "training" / "thesis.tex").write_text("dear")
    words = ("--budget", "0.7x", "--out", out, "--train", "--json")
    result = invoke("select", study, *words)
    assert result.exit_code == 2
    assert "is neither empty nor a run" in result.stderr
    assert json.loads(result.stdout)["structure"] == printed["structure"]


def test_a_file_in_the_way_is_named_before_measuring(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (("--top", 2), ("--json",)):
        result = invoke("select", study, "--budget", "0.7x", "--out", tmp_path / "file/a", *words)
        fails(result, "cannot write", "Not a directory")
        assert "Measuring" not in result.stderr


def test_a_stopped_selection_marks_its_folder_and_can_be_given_again(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out", os.replace

    def stop(source: Path, target: Path) -> None:
        if Path(target).name == "structure.toml":
            raise KeyboardInterrupt
        replace(source, target)

    words = ("select", study, "--budget", "0.7x", "--out", out)
    monkeypatch.setattr(os, "replace", stop)
    assert invoke(*words).exit_code == 130
    monkeypatch.setattr(os, "replace", replace)
    assert [path.name for path in out.iterdir()] == [MARKER]
    assert invoke(*words).exit_code == 0
