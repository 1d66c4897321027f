"""A study that an earlier version finished is still continued, selected from and reported.

`tests/data/stored_study` was written by `make_stored_study`. It is never made again when the code
changes: that later code reads it is the point of these tests.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rounds_lab import ClosedFormLaboratory, files, in_closed_form, search, settings

import genets
from command_line import invoke
from genets.nas.laboratory import Laboratory
from genets.networks.weights import read_weights
from genets.structure import Structure
from json_keys import check_keys

STORED = Path(__file__).parents[1] / "data" / "stored_study"


class StoredLaboratory(ClosedFormLaboratory):
    """Like `ClosedFormLaboratory`, but networks are scored for real on the test split."""

    test = Laboratory.test


class TrainingLaboratory(StoredLaboratory):
    """Trains and exports MasterNet and winner for real."""

    train = Laboratory.train
    export = Laboratory.export


class IdleLaboratory(StoredLaboratory):
    """Fails where a network is trained."""

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        pytest.fail("trained")

    train = run_trials = train_candidates = _fail


def make_stored_study(folder: Path) -> None:
    """Write a finished study of two rounds to a new folder. Only MasterNet and winner are trained.

    It was called once, in the folder `tests`, with the code that is older than the study's format
    version: `PYTHONPATH=.:nas python -c "import test_stored_study as t;
    t.make_stored_study(t.STORED)"`. The ONNX file is left out for its size.
    """
    asked = settings(final_training={"epochs": 12, "warmup_epochs": 0.5})
    search(asked, folder, TrainingLaboratory(asked))
    for name in ("study.lock", "results/network.onnx"):
        (folder / name).unlink()
    result = folder / "results" / "result.json"
    result.write_text(result.read_text().replace(str(folder), "stored_study"))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stored study, with a device and trials in closed form."""
    in_closed_form(monkeypatch, StoredLaboratory())
    return Path(shutil.copytree(STORED, tmp_path / "study"))


@pytest.fixture
def nothing_is_trained(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a network is trained; after `study`, which has another laboratory."""
    in_closed_form(monkeypatch, IdleLaboratory())


def stored_result() -> dict[str, Any]:
    return json.loads((STORED / "results" / "result.json").read_text())


def printed(*words: object) -> dict[str, Any]:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def as_stored(record: Any) -> Any:
    """`record` with numbers that may differ in their last digits."""
    match record:
        case dict():
            return {key: as_stored(value) for key, value in record.items()}
        case list():
            return [as_stored(value) for value in record]
        case float():
            return pytest.approx(record, rel=1e-6)
    return record


def with_keys_of(stored: Any, record: Any) -> Any:
    """`record` without the keys that the stored record is too old to have."""
    match stored, record:
        case dict(), dict():
            return {key: with_keys_of(stored[key], record[key]) for key in stored}
        case list(), list():
            assert len(stored) == len(record)
            return [*map(with_keys_of, stored, record)]
    return record


def test_the_stored_study_names_no_machine_and_is_closed() -> None:
    names = files(STORED)
    assert {"study.toml", "trials.sqlite", "rounds/2/trials.sqlite", "winner.safetensors"} <= names
    assert not [name for name in names if name.endswith(("-wal", "-shm", "-journal"))]
    for name in names:
        content = (STORED / name).read_bytes()
        assert b"/tmp" not in content, name
        assert b"/home" not in content, name
    assert sum((STORED / name).stat().st_size for name in names) < 300_000


def check_seconds(now: dict[str, float]) -> None:
    """The export was repeated; all other phases have their old time under their present names."""
    stored = json.loads((STORED / "seconds.json").read_text())
    names = {"verification": "selection", "confirmation": "candidate training"}
    for round_name in ("", ", round 2"):
        for old, new in names.items():
            assert now[new + round_name] == stored[old + round_name]
    assert now["export"] > stored["hand-over"]
    assert not [name for name in now if name.startswith((*names, "hand-over"))]


@pytest.mark.usefixtures("nothing_is_trained")
def test_it_is_continued_without_training(study: Path) -> None:
    record, stored = printed("search", "--out", study, "--workers", 1), stored_result()
    check_keys("search", record)
    for name in ("selected", "confirmed", "rounds"):
        assert with_keys_of(stored[name], record[name]) == as_stored(stored[name]), name
    assert (record["trials_done"], record["trials_failed"]) == (20, 0)
    check_seconds(record["seconds"])
    for name in ("master", "winner"):
        assert record[name]["top1"] == pytest.approx(stored[name]["top1"], abs=0.002)
        assert record[name]["cross_entropy"] == pytest.approx(
            stored[name]["cross_entropy"], rel=1e-3
        )
    assert stored["winner"]["top1"] > 0.2, "an untrained network would have any weights' score"


@pytest.mark.usefixtures("nothing_is_trained")
def test_another_budget_is_selected_from_it(study: Path) -> None:
    selected = printed("select", study, "--budget", "0.7x")
    check_keys("select", selected)
    check_keys("select --top", printed("select", study, "--budget", "0.7x", "--top", 2))
    assert selected["high_ms"] <= selected["budget_ms"] < stored_result()["selected"]["budget_ms"]
    assert selected["structure"] == "Conv3x8s2 XX3x8s2 DW3x8r3*2 Conv1x16 @8"


@pytest.mark.usefixtures("nothing_is_trained", "plain")
def test_its_page_is_written(study: Path) -> None:
    check_keys("report", printed("report", study))
    html = (study / "report.html").read_text()
    assert stored_result()["selected"]["structure"] in html
    assert "20 done of 20; 2 of 2 rounds" in html


@pytest.mark.parametrize(
    ("name", "before", "after", "message"),
    [
        (
            "study.toml",
            " DW3x16r3 ",
            " XX3x16 XX3x16 ",
            "does not have the stages of the MasterNet",
        ),
        ("results/result.json", '"winner": {', '"winner": 3, "other": {', "is damaged"),
        ("results/result.json", '"winner"', '"other"', "is damaged .it has no 'winner'"),
    ],
)
def test_files_that_do_not_belong_together_are_named(
    study: Path, name: str, before: str, after: str, message: str
) -> None:
    text = (study / name).read_text()
    assert before in text
    (study / name).write_text(text.replace(before, after))
    result = invoke("report", study)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)


def test_an_unfinished_copy_selects_the_same(study: Path) -> None:
    for name in ("selected.json", "winner.safetensors", "results/result.json"):
        (study / name).unlink()
    for name in ("candidates.json", "confirmed.json", "trials.sqlite"):
        (study / "rounds" / "2" / name).unlink()
    record = printed("search", "--out", study, "--workers", 1)
    # The accuracy model has changed since the study was made.
    predictions = ("predicted_accuracy", "predicted_accuracy_std")
    stored = stored_result()["selected"]
    selected = with_keys_of(stored, record["selected"])
    assert all(selected.pop(name) != stored.pop(name) for name in predictions)
    assert selected == as_stored(stored)
    assert (study / "winner.safetensors").exists()


@pytest.mark.usefixtures("nothing_is_trained")
def test_its_results_are_a_trained_network(study: Path) -> None:
    network = genets.load(study / "results")
    weights, _ = read_weights(study / "winner.safetensors")
    for name, tensor in network.state_dict().items():
        assert tensor.equal(weights[name]), name
    structure = Structure.load(study / "results" / "structure.toml")
    assert str(structure) == stored_result()["selected"]["structure"]
