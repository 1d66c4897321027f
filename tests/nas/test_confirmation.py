"""Confirmation: candidates are trained, scored on validation images, and recorded one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import TINY

from genets.core.errors import GenetsError, StudyError, TrainingError
from genets.data import DigitsSplit, load_data
from genets.nas.candidates.training import (
    CandidateRunner,
    best_trained,
    make_candidate_job,
    train_candidates,
)
from genets.nas.context import SearchContext
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.training import TrainingSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study.records import Candidate, TrainedCandidate
from genets.nas.study.study import Study
from genets.networks import build, save_weights
from genets.networks.weights import read_weights
from genets.structure import Structure
from genets.training import Score, evaluate
from genets.training.epoch_checkpoints import EpochCheckpoints
from genets.training.loop import Training
from genets.training.score import Metric

MASTER = str(TINY)
STRUCTURES = tuple(
    Structure.parse(f"Conv3x8s2 {blocks} Conv1x16 @8")
    for blocks in ("XX3x8s2 XX3x8", "DW3x8s2r3 XX3x8", "XX3x8s2 DW3x8r3")
)


def settings(**changes: Any) -> SearchSettings:
    values: dict[str, Any] = {
        "data": "digits",
        "from_scratch": True,
        "budget": "1x",
        "master": MASTER,
        "target": {"threads": 1, "batch_size": 8},
        "confirm_epochs": 1,
        "final_training": {"epochs": 3},
    }
    return SearchSettings(**values | changes)


def promised(structure: Structure) -> Candidate:
    return Candidate(structure, 1.0, 0.9, 0.9, 0.89, 0.91, 2.0, False, -0.5, 0.01, 0.03)


CANDIDATES = [promised(structure) for structure in STRUCTURES]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with begun(tmp_path / "study", settings()) as study:
        yield study


def begun(folder: Path, chosen: SearchSettings) -> Study:
    study = Study.create_or_resume(folder, chosen)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build(chosen.structure, 10), study.master_weights, {})
    return study


def context_of(study: Study, workers: int = 1) -> SearchContext:
    return SearchContext(study, 10, workers=workers)


def plain(confirmed: list[TrainedCandidate]) -> list[TrainedCandidate]:
    return [replace(one, seconds=0.0) for one in confirmed]


def test_candidates_are_scored_on_validation_images_alone(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: set[str] = set()
    batches = DigitsSplit.batches

    def watched(self: DigitsSplit, *args: Any, **options: Any) -> Any:
        reads.add(self.purpose)
        return batches(self, *args, **options)

    monkeypatch.setattr(DigitsSplit, "batches", watched)
    confirmed = train_candidates(context_of(study), CANDIDATES)
    assert reads == {"train", "validation"}
    assert [one.structure for one in confirmed] == list(STRUCTURES)
    assert all(one.status == "done" and one.epochs == 1 and one.seconds > 0 for one in confirmed)
    data, net = load_data("digits", 8, seed=0), build(STRUCTURES[1], 10)
    tensors, _ = read_weights(make_candidate_job(context_of(study)).weights_path(STRUCTURES[1]))
    net.load_state_dict(tensors)
    score = evaluate(net, data.validation)
    assert score.cross_entropy == pytest.approx(confirmed[1].cross_entropy, rel=1e-5)


def test_a_kill_costs_the_unfinished_candidate_alone(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Structure] = []
    work = CandidateRunner._run

    def killed_at_the_second(self: CandidateRunner, structure: Structure) -> TrainedCandidate:
        trained.append(structure)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return work(self, structure)

    monkeypatch.setattr(CandidateRunner, "_run", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train_candidates(context_of(study), CANDIDATES)
    first = study.trained()
    assert [one.structure for one in first] == [STRUCTURES[0]]
    resumed = train_candidates(context_of(study), CANDIDATES)
    assert trained == [STRUCTURES[0], STRUCTURES[1], STRUCTURES[1], STRUCTURES[2]]
    assert resumed[0] == first[0]
    assert train_candidates(context_of(study), CANDIDATES) == resumed
    assert len(trained) == 4


def test_a_candidate_that_is_interrupted_continues_after_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EpochCheckpoints.__init__.__kwdefaults__, "seconds", 0.0)
    asked, work, begun_after = settings(confirm_epochs=3), Training.epochs, []

    def stopped(self: Training) -> Iterator[list[float]]:
        begun_after.append(self.epoch)
        for losses in work(self):
            yield losses
            if len(begun_after) == 1 and self.epoch == 2:
                raise KeyboardInterrupt

    with begun(tmp_path / "whole", asked) as study:
        whole = train_candidates(context_of(study), CANDIDATES[:1])
    monkeypatch.setattr(Training, "epochs", stopped)
    with begun(tmp_path / "study", asked) as study:
        with pytest.raises(KeyboardInterrupt):
            train_candidates(context_of(study), CANDIDATES[:1])
        job = make_candidate_job(context_of(study))
        assert [job.progress(each) for each in STRUCTURES[:2]] == [2, 0]
        assert job.elsewhere(tmp_path).progress(STRUCTURES[0]) == 0
        assert plain(train_candidates(context_of(study), CANDIDATES[:1])) == plain(whole)
        assert [path.suffix for path in study.confirmed_folder.iterdir()] == [".safetensors"]
    assert begun_after == [0, 2]


def test_another_run_gives_the_same(study: Study, tmp_path: Path) -> None:
    with begun(tmp_path / "other", settings()) as other:
        there = train_candidates(context_of(other), CANDIDATES[:2])
    assert plain(train_candidates(context_of(study), CANDIDATES[:2])) == plain(there)


def fails_for(structures: tuple[Structure, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def trained_score(self: CandidateRunner, structure: Structure) -> Any:
        if structure in structures:
            raise TrainingError("the loss became nan in epoch 1, step 1")
        return Score(0.5, 1.5, 100), 0.0

    monkeypatch.setattr(CandidateRunner, "_trained_score", trained_score)


def test_failed_candidates_are_left_out_and_tried_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_for(STRUCTURES[:1], monkeypatch)
    confirmed = train_candidates(context_of(study), CANDIDATES)
    assert (confirmed[0].status, confirmed[0].cross_entropy) == ("failed", None)
    assert "the loss became nan" in confirmed[0].reason
    assert best_trained(confirmed, Metric.CROSS_ENTROPY).structure == STRUCTURES[1]
    fails_for((), monkeypatch)
    assert train_candidates(context_of(study), CANDIDATES)[0].status == "done"


def test_all_failed_is_one_sentence(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_for(STRUCTURES, monkeypatch)
    with pytest.raises(GenetsError, match=r"all 3 candidates failed .*the loss became nan"):
        train_candidates(context_of(study), CANDIDATES)


def test_the_best_by_the_response_and_of_equals_the_better_predicted() -> None:
    scores = ((0.9, 0.5), (0.8, 0.4), (0.9, 0.4))
    confirmed = [
        TrainedCandidate(structure, "done", 1, top1, entropy)
        for structure, (top1, entropy) in zip(STRUCTURES, scores, strict=True)
    ]
    assert best_trained(confirmed, Metric.TOP1).structure == STRUCTURES[0]
    assert best_trained(confirmed, Metric.CROSS_ENTROPY).structure == STRUCTURES[1]


def test_no_longer_than_the_winner_and_warmed_up_in_time(tmp_path: Path) -> None:
    short = settings(final_training={"epochs": 3, "warmup_epochs": 2}, confirm_epochs=9)
    with begun(tmp_path / "long", short) as study:
        assert make_candidate_job(context_of(study)).recipe == short.final_training.recipe()
    paper = settings(confirm_epochs=1)
    with begun(tmp_path / "short", paper) as study:
        assert make_candidate_job(context_of(study)).recipe.warmup_epochs == 0.5


def test_a_warm_up_that_does_not_fit_takes_half_of_the_training(tmp_path: Path) -> None:
    """Longer trainings have the warm-up that was asked for."""
    for epochs, asked, expected in (
        (1, 1.0, 0.5), (1, 5.0, 0.5), (3, 5.0, 1.5), (3, 3.0, 1.5), (2, 1.0, 1.0), (3, 2.9, 2.9),
        (480, 5.0, 5.0), (1, 0.0, 0.0),
    ):  # fmt: skip
        training = TrainingSettings(epochs=epochs, warmup_epochs=asked)
        assert training.recipe().warmup_epochs == expected, (epochs, asked)
        assert training.warmup_epochs == expected, "the study stores what was used"
    once = settings(final_training={"epochs": 1}, confirm_epochs=1)
    with begun(tmp_path / "once", once) as study:
        assert make_candidate_job(context_of(study)).recipe == once.final_training.recipe()


def test_records_come_back_as_they_were(study: Study) -> None:
    one = TrainedCandidate(STRUCTURES[0], "done", 3, 0.1 + 0.2, 1 / 3, 2.5)
    assert TrainedCandidate.from_json(json.loads(json.dumps(one.to_json()))) == one
    study.save_json("confirmed", [one.to_json()])
    assert Snapshot.read(study.folder).confirmed == (one,)
    study.save_json("confirmed", [{"structure": str(STRUCTURES[0])}])
    with pytest.raises(StudyError, match=r"confirmed\.json is damaged"):
        study.trained()


def test_a_study_from_before_confirmation_has_none(study: Study) -> None:
    study.close()
    path = study.folder / "study.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("confirm")]
    path.write_text("\n".join(lines))
    with Study.open(study.folder) as old:
        assert old.settings.confirm == 1
