"""Searches for an int8 target: networks are compared after their quantisation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rounds_lab import (
    SETTINGS,
    ClosedFormLaboratory,
    ClosedFormLatency,
    loss,
    score,
    search,
    settings,
)
from test_confirmation import CANDIDATES, STRUCTURES, begun, context_of
from test_confirmation import settings as confirmation_settings

from genets.core.errors import TargetError
from genets.data import Augmentation, ImageData, Split, load_data, with_augmentation
from genets.latency import Target
from genets.latency.evaluation import calibration_images, measure_accuracy
from genets.nas.candidates.quantised import calibration_of
from genets.nas.candidates.training import (
    CandidateRunner,
    best_trained,
    make_candidate_job,
    train_candidates,
)
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import TrainedCandidate
from genets.nas.trials.folds import FoldsRunner
from genets.networks import build, load_weights
from genets.report.study.page import study_page
from genets.report.study.tables import search_tables
from genets.structure import Structure
from genets.training import Score
from genets.training.score import Metric, join_scores

pytest.importorskip("onnxruntime")

INT8 = {"engine": "onnxruntime", "precision": "int8", "threads": 1, "batch_size": 64}
TARGET = Target(device="cpu", **INT8)  # type: ignore[arg-type]
MASTER = Structure.parse(SETTINGS["master"])
TRAINING = {"epochs": 6, "warmup_epochs": 0.5, "batch_size": 32}


def asked(**changes: Any) -> SearchSettings:
    return settings(**{"target": INT8, "rounds": 1, **changes})


def quantised_loss(structure: Structure) -> float:
    """Quantisation costs accuracy, and turns the order around."""
    return 3 - loss(structure)


class Int8Laboratory(ClosedFormLaboratory):
    """Quantisation costs accuracy in closed form.

    unscored: structures whose quantisation fails.
    """

    def __init__(self, chosen: SearchSettings, unscored: Sequence[Structure] = ()) -> None:
        super().__init__(chosen)
        self.unscored = unscored

    def score_quantised(self, net: Any, data: ImageData, split: Split, target: Target) -> Score:
        assert target.precision == "int8"
        return score(quantised_loss(MASTER) + 0.01)

    def train_candidates(self, job: Any, *words: Any) -> Iterator[TrainedCandidate]:
        assert job.int8_target == TARGET
        for trained in super().train_candidates(job, *words):
            if trained.structure in self.unscored:
                epochs = trained.epochs
                yield TrainedCandidate(trained.structure, "failed", epochs, reason="no int8")
            else:
                yield replace(trained, quantised=score(quantised_loss(trained.structure)))


def screen(result: SearchResult) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(*search_tables(result))
    return capture.get()


def page(folder: Path) -> str:
    return study_page(Snapshot.read(folder), "today")


# In closed form


def test_the_best_score_in_int8_wins(tmp_path: Path, plain: None) -> None:
    chosen = asked(confirm=6)
    result = search(chosen, tmp_path, Int8Laboratory(chosen))
    candidates = [each.structure for each in result.confirmed]
    assert result.selected.structure == min(candidates, key=quantised_loss)
    assert result.selected.structure != min(candidates, key=loss)
    stored = json.loads((tmp_path / "confirmed.json").read_text())
    for each, record in zip(result.confirmed, stored, strict=True):
        assert each.cross_entropy == pytest.approx(loss(each.structure) - 0.1)
        assert record["cross_entropy"] == each.cross_entropy
        assert record["quantised"]["cross_entropy"] == quantised_loss(each.structure)
    record = json.loads((tmp_path / "results/result.json").read_text())
    for name in ("master", "winner"):
        assert record[name]["quantised"]["top1"] < record[name]["top1"]
    assert SearchResult.from_record(record, tmp_path).winner == result.winner
    printed = screen(result)
    assert "cross-entropy in int8 decides" in printed
    assert printed.count("(in int8: top-1 ") >= 2 + len(candidates)
    html = page(tmp_path)
    assert "<th scope=col>test top-1 in int8</th>" in html
    assert "<th scope=col>validation cross-entropy in int8</th>" in html
    assert "they decide" in html
    command = "--engine onnxruntime --precision int8 --data digits --out deploy"
    assert command in html


def test_another_target_has_no_scores_in_int8(tmp_path: Path, plain: None) -> None:
    result = search(settings(rounds=1), tmp_path)
    assert result.winner.quantised is None
    assert "int8" not in screen(result)
    assert "int8" not in page(tmp_path)
    assert "quantised" not in json.loads((tmp_path / "results/result.json").read_text())["winner"]


def test_the_accuracy_model_uses_the_scores_before_quantisation(tmp_path: Path) -> None:
    chosen = asked(confirm=4)
    search(chosen, tmp_path, Int8Laboratory(chosen))
    model = Snapshot.read(tmp_path).model
    path = tmp_path / "confirmed.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "quantised": None} for row in rows]))
    without = Snapshot.read(tmp_path).model
    assert model is not None
    assert without is not None
    for row in rows:
        structure = Structure.parse(row["structure"])
        assert model.predict(structure).mean == without.predict(structure).mean


def test_scores_in_int8_decide_on_the_next_round(tmp_path: Path, plain: None) -> None:
    chosen = asked(rounds=2)
    result = search(chosen, tmp_path, Int8Laboratory(chosen))
    first, second = result.rounds
    assert second.master == min((t.structure for t in first.confirmed), key=quantised_loss)
    every = {t.structure for each in result.rounds for t in each.confirmed}
    assert result.selected.structure == min(every, key=quantised_loss)
    assert second.score.quantised == score(quantised_loss(second.master))
    assert "<th scope=col>best, validation top-1</th><th scope=col>cross-entropy</th>" in page(
        tmp_path
    )


def test_a_master_net_that_is_better_in_int8_stays(tmp_path: Path) -> None:
    """It meets the budget, and the candidates are better before quantisation alone."""

    class Robust(Int8Laboratory):
        def score_quantised(self, *_: Any) -> Score:
            return score(0.1)

    chosen = asked(rounds=2, budget="2x")
    result = search(chosen, tmp_path, Robust(chosen))
    assert len(result.rounds) == 1
    (warning,) = [each for each in result.warnings if "meets the budget itself" in each]
    assert "cross-entropy in int8 0.1 after" in warning


def test_a_study_of_an_older_genets_gets_the_score_of_its_master_net(tmp_path: Path) -> None:
    chosen = asked()
    search(chosen, tmp_path, Int8Laboratory(chosen))
    path = tmp_path / "master.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k != "quantised"}))
    search(chosen, tmp_path, Int8Laboratory(chosen))
    assert json.loads(path.read_text()) == record


def test_several_budgets_show_scores_in_int8(tmp_path: Path, plain: None) -> None:
    chosen = asked(budget=None, budgets=("0.9x", "0.7x"))
    result = search(chosen, tmp_path, Int8Laboratory(chosen))
    for each in result.budgets.values():
        candidates = [trained.structure for trained in each.confirmed]
        assert each.selected.structure == min(candidates, key=quantised_loss)
    assert "cross-entropy in int8" in screen(result)
    assert "<th scope=col>test cross-entropy in int8</th>" in page(tmp_path)


def test_a_failed_quantisation_is_a_failed_candidate(tmp_path: Path, plain: None) -> None:
    chosen = asked(confirm=4)
    best = search(chosen, tmp_path / "first", Int8Laboratory(chosen)).selected.structure
    result = search(chosen, tmp_path / "study", Int8Laboratory(chosen, [best]))
    (failed,) = [each for each in result.confirmed if each.status == "failed"]
    assert (failed.structure, failed.reason) == (best, "no int8")
    assert result.selected.structure != best
    assert "failed: no int8" in page(tmp_path / "study")


# Records


def trained(number: int, entropy: float, in_int8: float | None) -> TrainedCandidate:
    quantised = None if in_int8 is None else Score(0.5, in_int8, 100, 0.5, 90.0)
    return TrainedCandidate(STRUCTURES[number], "done", 1, 0.5, entropy, quantised=quantised)


def test_scores_before_quantisation_decide_where_one_score_is_missing() -> None:
    both = [trained(0, 0.4, 0.9), trained(1, 0.5, 0.6)]
    assert best_trained(both, Metric.CROSS_ENTROPY) == both[1]
    assert best_trained([*both, trained(2, 0.7, None)], Metric.CROSS_ENTROPY) == both[0]


def test_records_come_back_as_they_were() -> None:
    one = trained(0, 0.4, 1 / 3)
    assert TrainedCandidate.from_json(json.loads(json.dumps(one.to_json()))) == one
    old = {name: value for name, value in one.to_json().items() if name != "quantised"}
    assert TrainedCandidate.from_json(old) == replace(one, quantised=None)
    assert Score.from_json(json.loads(json.dumps(one.score.to_json()))) == one.score
    for wrong in ({"top1": 2.0, "cross_entropy": 1.0}, {"top1": 0.5}, 3, "good"):
        with pytest.raises((ValueError, TypeError, KeyError)):
            TrainedCandidate.from_json({**old, "quantised": wrong})


class FixedRunner:
    """Gives every candidate one score."""

    def __init__(self, own: Score) -> None:
        self.own = own

    def run(self, group: Sequence[Structure], /) -> list[TrainedCandidate]:
        return [TrainedCandidate.of(structure, 1, self.own) for structure in group]


def test_folds_join_the_scores_in_int8_too() -> None:
    one = Score(0.5, 1.0, 4, by_class=((2, 2), (2, 0)), quantised=Score(0.25, 2.0, 4))
    two = Score(1.0, 0.5, 2, by_class=((2, 2), (0, 0)), quantised=Score(0.5, 1.0, 2))
    runners = [FixedRunner(each) for each in (one, two)]
    (joint,) = FoldsRunner(runners).run(STRUCTURES[:1])
    assert joint.top1 == pytest.approx(4 / 6)
    assert joint.quantised == join_scores([Score(0.25, 2.0, 4), Score(0.5, 1.0, 2)])
    assert joint.quantised is not None
    assert joint.quantised.top1 == pytest.approx(2 / 6)
    runners.append(FixedRunner(replace(one, quantised=None)))
    (joint,) = FoldsRunner(runners).run(STRUCTURES[:1])
    assert joint.quantised is None


# With a real engine


def engine_score(net: torch.nn.Module, data: ImageData, split: Split) -> tuple[float, float]:
    """The score of `genets eval` with the calibration images of `genets export`."""
    images = calibration_images(data.train)
    accuracy = measure_accuracy(net, TARGET, data.resolution, split, calibration=images)
    return accuracy.top1, accuracy.cross_entropy


def test_a_candidate_has_the_score_that_its_export_has(tmp_path: Path) -> None:
    with begun(tmp_path / "study", confirmation_settings(target=INT8)) as study:
        (own,) = train_candidates(context_of(study), CANDIDATES[:1])
        path = make_candidate_job(context_of(study)).weights_path(own.structure)
    net, data = build(own.structure, 10), load_data("digits", own.structure.resolution)
    load_weights(net, path)
    assert own.quantised is not None
    stored = own.quantised.top1, own.quantised.cross_entropy
    assert stored == engine_score(net, data, data.validation)
    assert stored != (own.top1, own.cross_entropy)
    assert own.quantised.images == len(data.validation)


def test_a_candidate_that_the_engine_cannot_quantise_fails(tmp_path: Path) -> None:
    with begun(tmp_path / "study", confirmation_settings()) as study:
        job = make_candidate_job(context_of(study))
        assert job.int8_target is None
        job = replace(job, int8_target=Target(device="cpu", engine="torch", precision="int8"))
        job.folder.mkdir()
        (failed,) = CandidateRunner(job).run(STRUCTURES[:1])
    assert failed.status == "failed"
    assert "precision int8 is not available on device 'cpu' in engine torch" in failed.reason
    assert failed.quantised is None


def test_a_master_net_that_cannot_be_quantised_is_a_failed_candidate(tmp_path: Path) -> None:
    class Refusing(ClosedFormLatency):
        def score_quantised(self, *_: Any) -> Score:
            raise TargetError("the engine has no such operator")

    chosen = asked(
        budget="2x", confirm=2, from_scratch=False, trials_per_super_block=2,
        master_training=TRAINING, trial_training=TRAINING | {"epochs": 1, "feature_steps": 1},
    )  # fmt: skip
    result = run_search(chosen, tmp_path, workers=1, lab=Refusing(chosen))
    (failed,) = [each for each in result.confirmed if each.status == "failed"]
    assert failed.structure == MASTER
    assert failed.reason == "the quantisation of the MasterNet failed; study.log has the reason"
    assert "in int8: the engine has no such operator" in (tmp_path / "study.log").read_text()
    assert result.selected.structure != MASTER
    assert any("the winner has no score in int8" in each for each in result.warnings)


def test_the_augmentation_of_a_training_changes_no_value_range(tmp_path: Path) -> None:
    """`genets export` does not know it."""
    for number in range(20):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    data = load_data(tmp_path, 8)
    erased = with_augmentation(data, Augmentation(erase=1.0, flip=0.0))
    expected = calibration_images(data.train)
    assert not torch.equal(calibration_images(erased.train), expected)
    assert torch.equal(calibration_of(erased), expected)
