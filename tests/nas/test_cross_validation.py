"""Searches that score trials and candidates in folds of the training images."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from rounds_lab import (
    SETTINGS,
    ClosedFormLaboratory,
    ClosedFormLatency,
    files,
    run_with_kills,
    settings,
)

from counted_images import CountedImages
from genets.core.errors import DataError, FullDiskError, GenetsError, SettingsError
from genets.data import ImageData, load_data
from genets.data.folds import FOLDS
from genets.data.split import Fold
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.laboratory import Laboratory
from genets.nas.new_study import choose_folds
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.trials import weights as trial_weights
from genets.nas.trials.folds import FoldsRunner
from genets.nas.trials.run import make_trial_job, restore_weights
from genets.nas.workers.files import take_outputs, write_inputs
from genets.nas.workers.local import run_inline
from genets.networks import build, load_weights, save_weights
from genets.networks.weights import read_weights
from genets.report.study.facts import study_record
from genets.report.study.page import study_page
from genets.report.study.tables import search_tables
from genets.structure import Structure
from genets.training import Score, evaluate
from genets.training.score import join_scores

MASTER = Structure.parse(SETTINGS["master"])
TRAINING = {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 32}


@pytest.fixture(scope="module", autouse=True)
def any_master() -> Iterator[None]:
    """A MasterNet after a short training counts as one that learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genets.nas.master.training._check_learned", lambda *_: None)
        yield


def asked(**changes: Any) -> SearchSettings:
    values: dict[str, Any] = {
        "folds": 2, "rounds": 1, "trials_per_super_block": 2, "from_scratch": False,
        "master_training": TRAINING,
        "trial_training": TRAINING | {"epochs": 1, "feature_steps": 1},
    }  # fmt: skip
    return settings(**values | changes)


def search(folder: Path, chosen: SearchSettings, lab: Laboratory | None = None) -> SearchResult:
    return run_search(chosen, folder, workers=1, lab=lab or ClosedFormLatency(chosen))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(tmp_path_factory.mktemp("study") / "study", asked())


def scores(folder: Path) -> list[Any]:
    """The scores of everything that was trained, without the times."""
    with Study.open(folder) as study:
        trials = [replace(each, seconds=0.0) for each in study.results()]
        trained = [replace(each, seconds=0.0) for each in study.trained()]
        return [study.master_score(), *trials, *trained]


def weights(result: SearchResult) -> dict[str, torch.Tensor]:
    return read_weights(result.results / "weights.safetensors")[0]


def assert_same(result: SearchResult, other: SearchResult) -> None:
    assert scores(result.folder) == scores(other.folder)
    one, two = weights(result), weights(other)
    assert all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())


def folds_of(seed: int = 0, count: int = 2) -> list[ImageData]:
    return [load_data("digits", 8, seed=seed, fold=Fold(n, count)) for n in range(count)]


def test_the_score_of_the_master_net_is_that_on_the_images_of_all_folds(
    found: SearchResult,
) -> None:
    own = []
    for number, data in enumerate(folds_of(), start=1):
        net = build(MASTER, 10)
        load_weights(net, found.folder / "folds" / str(number) / "master.safetensors")
        own.append(evaluate(net, data.validation))
    stored = StudyReader(found.folder).master_score()
    assert stored == join_scores(own)
    assert stored is not None
    assert stored.images == sum(len(data.validation) for data in folds_of())
    assert own[0] != own[1]


def test_a_trial_has_the_joint_score_of_its_trainings_in_the_folds(found: SearchResult) -> None:
    with Study.open(found.folder) as study:
        context = SearchContext(study, 10, workers=1)
        result = study.results()[0]
        jobs = make_trial_job(context).each_fold()
        parts = [job.runner().run((result.trial,))[0] for job in jobs]
    assert {part.top1 for part in parts} != {result.top1}
    images = [data.validation for data in folds_of()]
    right = sum((part.top1 or 0) * len(own) for part, own in zip(parts, images, strict=True))
    assert result.top1 == pytest.approx(right / sum(map(len, images)))


def test_the_winner_is_trained_on_the_usual_training_split(found: SearchResult) -> None:
    """No weights of a fold are kept for it, also where candidates are trained as long as it."""
    kept = [name for name in files(found.folder) if name.startswith("confirmed/")]
    assert len(kept) == sum(each.structure == MASTER for each in found.confirmed)
    assert found.seconds["final training"] > 0
    assert {each.status for each in found.confirmed} == {"done"}


def test_each_fold_has_the_weights_of_its_own_trials(found: SearchResult) -> None:
    first, second = (
        {path.name: path for path in (found.folder / "folds" / number / "trials").iterdir()}
        for number in ("1", "2")
    )
    assert first.keys() == second.keys()
    with Study.open(found.folder) as study:
        assert len(first) == len(study.results())
    assert all(first[name].read_bytes() != second[name].read_bytes() for name in first)


def test_workers_give_the_same_scores(found: SearchResult) -> None:
    """A worker gets its job as bytes; a process of its own is started for a trial alone."""
    with Study.open(found.folder) as study:
        context = SearchContext(study, 10, workers=2)
        trial = next(each for each in study.results() if each.trial.index == 1)
        trained = next(each for each in study.trained() if each.structure != MASTER)
        (again,) = run_inline(make_trial_job(context), [(trial.trial,)], 2)
        job = pickle.loads(pickle.dumps(make_candidate_job(context)))
        (other,) = job.runner().run([trained.structure])
    assert again.trial == trial.trial
    assert again.cross_entropy == trial.cross_entropy
    assert other.cross_entropy == trained.cross_entropy


def test_jobs_run_without_the_study_folder(tmp_path: Path, found: SearchResult) -> None:
    """As on another machine, to which files travel as bytes."""
    folder, scratch = tmp_path / "study", tmp_path / "scratch"
    shutil.copytree(found.folder, folder)
    with Study.open(folder) as study:
        context = SearchContext(study, 10, workers=1)
        trials = [each for each in study.results() if each.trial.index == 1]
        (trained,) = [each for each in study.trained() if each.structure != MASTER][:1]
        trial_job, candidate_job = make_trial_job(context), make_candidate_job(context)
    inputs = write_inputs(scratch, trial_job.inputs([]))
    # A candidate may inherit from one of the trials, so it has a folder of its own.
    of_candidate = tmp_path / "candidate"
    write_inputs(of_candidate, candidate_job.inputs([trained.structure]))
    shutil.rmtree(folder)
    again = trial_job.elsewhere(scratch).runner().run([each.trial for each in trials])
    assert [replace(each, seconds=0.0) for each in again] == [
        replace(each, seconds=0.0) for each in trials
    ]
    (other,) = candidate_job.elsewhere(of_candidate).runner().run([trained.structure])
    assert other.score == trained.score
    # The weights of the trials come back under their place in the study.
    assert folder.exists() is False
    kept = trial_job.kept
    for path, content in take_outputs(scratch, inputs).items():
        stored = found.folder / path.relative_to(folder)
        trial_job.store(path, content)
        assert path.read_bytes() == content
        one, two = read_weights(path)[0], read_weights(stored)[0]
        assert all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())
    assert [kept.in_fold(Fold(n, 2)).has(each.trial) for n in range(2) for each in trials] == (
        [True] * 2 * len(trials)
    )


def test_a_worker_with_other_images_is_refused(tmp_path: Path, found: SearchResult) -> None:
    with Study.open(found.folder) as study:
        job = make_trial_job(SearchContext(study, 10, workers=1))
    assert job.images is not None
    other = replace(job, images=replace(job.images, test=3, files="other"))
    with pytest.raises(DataError, match=r"digits are not those of the study \(test: 3 in the st"):
        other.runner()


def test_lost_weights_of_trials_cost_no_result(tmp_path: Path, found: SearchResult) -> None:
    result = search(tmp_path / "study", asked(trial_weights_mb=0))
    assert_same(result, found)


class FailingTrials(ClosedFormLatency):
    """Trials around the MasterNet of all training images fail."""

    def run_trials(self, job: Any, groups: Any, workers: Any) -> Iterator[TrialResult]:
        if job.fold is None and job.folds == 1:
            for trial in [trial for group in groups for trial in group]:
                yield TrialResult(trial, "failed", reason="memory ran out")
        else:
            yield from super().run_trials(job, groups, workers)


def test_a_trial_that_fails_around_the_whole_master_net_is_named(
    tmp_path: Path, found: SearchResult
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder, ignore=shutil.ignore_patterns("*.onnx"))
    shutil.rmtree(folder / "trials", ignore_errors=True)
    with Study.open(folder) as study:
        context = SearchContext(study, 10, lab=FailingTrials(asked()), workers=1)
        trial = study.results()[0].trial
        with pytest.raises(GenetsError) as caught:
            restore_weights(context, [trial], in_folds=False)
        restore_weights(context, [trial], in_folds=True)  # their weights are stored
    assert str(caught.value).startswith(
        f"trial {trial.super_block} of {MASTER.stage_name(trial.index)}, whose weights a candidate "
        "needs, failed around the MasterNet of all training images: memory ran out; all results"
    )


def test_weights_of_trials_that_a_full_disk_refuses_are_one_sentence(
    tmp_path: Path, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: Any) -> None:
        raise FullDiskError("no space left on device")

    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder, ignore=shutil.ignore_patterns("*.onnx", "*.safetensors"))
    shutil.copyfile(found.folder / layout.MASTER_WEIGHTS, folder / layout.MASTER_WEIGHTS)
    monkeypatch.setattr(trial_weights, "save_weights", refuse)
    with Study.open(folder) as study:
        context = SearchContext(study, 10, lab=ClosedFormLatency(asked()), workers=1)
        with pytest.raises(GenetsError, match=r"has [\d,]+ MB free; all results are kept, so make"):
            restore_weights(context, [study.results()[0].trial], in_folds=False)


def test_a_killed_search_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: SearchResult
) -> None:
    result, kills = run_with_kills(
        monkeypatch, ("record", "save_json"), 7, lambda: search(tmp_path / "study", asked())
    )
    assert kills > 2
    assert_same(result, found)


def test_several_budgets_and_fresh_weights(tmp_path: Path) -> None:
    chosen = asked(budget=None, budgets=("0.9x", "0.7x"), from_scratch=True)
    result = search(tmp_path / "study", chosen)
    assert result.budgets.keys() == {"0.9x", "0.7x"}
    assert not (tmp_path / "study" / "folds" / "1" / "trials").exists()
    assert not list((tmp_path / "study" / "confirmed").iterdir())
    for own in result.budgets.values():
        assert own.seconds
        best = max(own.confirmed, key=lambda each: each.value(chosen.metric))
        assert own.selected.structure == best.structure


class CountingLaboratory(ClosedFormLaboratory):
    """Counts trainings and the images of each; stops before one of them.

    trained: the number of training images of each training.
    """

    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__(asked(from_scratch=True))
        self.trained: list[int] = []
        self.stop_before = stop_before

    def train(self, net: Any, data: ImageData, *words: Any, **options: Any) -> None:
        if len(self.trained) == self.stop_before:
            raise KeyboardInterrupt
        self.trained.append(len(data.train))
        super().train(net, data, *words, **options)


def test_an_interrupted_phase_trains_only_the_missing_master_nets(tmp_path: Path) -> None:
    chosen, first, second = asked(from_scratch=True), CountingLaboratory(2), CountingLaboratory()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study", chosen, first)
    usual = len(load_data("digits", 8).train)
    sizes = [len(data.train) for data in folds_of()]
    assert first.trained == [usual, sizes[0]]
    search(tmp_path / "study", chosen, second)
    assert second.trained[0] == sizes[1]
    score = StudyReader(tmp_path / "study").master_score()
    assert score is not None
    assert score.images == 200  # the laboratory scores on 100 images


def test_a_lost_master_net_of_a_fold_is_trained_again(tmp_path: Path, found: SearchResult) -> None:
    folder, lab = tmp_path / "study", CountingLaboratory()
    shutil.copytree(found.folder, folder)
    before = StudyReader(folder).master_score()
    (folder / "folds" / "2" / "master.safetensors").write_bytes(b"")
    again = search(folder, asked(), lab)
    assert lab.trained == [len(folds_of()[1].train)]
    assert StudyReader(folder).master_score() == before
    assert again.confirmed == found.confirmed


@pytest.mark.parametrize("value", [-1, 21, 2.5, float("nan"), "many", None])
def test_a_wrong_number_of_folds_is_one_sentence(value: Any) -> None:
    with pytest.raises(GenetsError, match=r"^folds must be ") as caught:
        settings(folds=value, rounds=1)
    assert "\n" not in str(caught.value)


def test_folds_and_rounds_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="rounds must be 1 with 5 folds, not 2"):
        settings(folds=5, rounds=2)
    assert settings(folds=1, rounds=2).num_folds == 1


def test_an_older_study_is_not_cross_validated() -> None:
    text = "\n".join(
        line for line in asked().to_toml().splitlines() if not line.startswith("folds")
    )
    assert SearchSettings.from_toml(text).folds == 1
    assert SearchSettings.from_toml(asked().to_toml()).folds == 2
    assert PRESETS["paper-literal"]["folds"] == 1


@dataclass
class Sizes:
    """The sizes of a data set whose validation split was cut off."""

    train: CountedImages
    validation: CountedImages
    cut_splits: tuple[str, ...] = ("validation",)
    origin: Any = None


def chosen_folds(
    train: int, validation: int, out: Path, cut: Sequence[str] = ("validation",), **changes: Any
) -> tuple[int, str]:
    data: Any = Sizes(CountedImages(train), CountedImages(validation), tuple(cut))
    chosen, reasons = choose_folds(settings(**{"rounds": 1, **changes}), data, out)
    return chosen.folds, "; ".join(reasons)


def test_few_validation_images_are_cross_validated(tmp_path: Path) -> None:
    reason = (
        "folds 5: with 199 validation images, trials and candidates are cross-validated on 999 "
        "training images"
    )
    assert chosen_folds(800, 199, tmp_path) == (FOLDS, reason)
    assert chosen_folds(800, 200, tmp_path) == (1, "")
    assert chosen_folds(800, 40, tmp_path, ())[1].endswith("on 800 training images")
    assert chosen_folds(800, 500, tmp_path, folds=3) == (3, "")
    assert chosen_folds(800, 10, tmp_path, folds=1) == (1, "")
    with pytest.raises(SettingsError, match="folds must be at most 12, the number of training"):
        chosen_folds(10, 2, tmp_path, folds=13)


def test_a_reason_is_given_where_few_validation_images_decide_alone(tmp_path: Path) -> None:
    def reason(*sizes: int, cut: Sequence[str] = ("validation",), **changes: Any) -> str:
        number, reason = chosen_folds(*sizes, tmp_path, cut, **changes)
        assert number == 1
        return reason

    alone = "validation images decide alone, because"
    assert reason(800, 199, rounds=2) == (
        f"folds 1: 199 {alone} a search with several rounds has no folds"
    )
    assert reason(4, 2) == f"folds 1: 2 {alone} 5 folds need at least 10 training images"
    assert reason(20, 40, cut=()) == (
        f"folds 1: 40 {alone} the data set has only 20 training images"
    )


def test_weights_that_have_seen_the_images_are_not_cross_validated(tmp_path: Path) -> None:
    data = load_data("digits", 8)
    few = replace(data, validation=replace(data.validation, labels=data.validation.labels[:9],
                                           sources=data.validation.sources[:9]))  # fmt: skip
    for name, texts, expected in (
        ("own", data.weights_metadata(), 1),
        ("other", replace(data, name="mnist").weights_metadata(), FOLDS),
        ("unknown", {}, FOLDS),
    ):
        path = tmp_path / f"{name}.safetensors"
        save_weights(build(MASTER, 10), path, texts)
        chosen = settings(weights=str(path), rounds=1)
        assert choose_folds(chosen, few, tmp_path)[0].folds == expected
    own = settings(weights=str(tmp_path / "own.safetensors"), rounds=1, folds=5)
    with pytest.raises(SettingsError, match="folds must be 1, not 5, because the starting weights"):
        choose_folds(own, few, tmp_path)


@pytest.mark.usefixtures("plain")
def test_screen_and_page_name_the_folds(found: SearchResult) -> None:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(*search_tables(found))
    assert "validation scores after 1 epoch, cross-validated in 2 folds" in capture.get()
    assert found.to_json()["folds"] == 2
    assert SearchResult.from_record(found.to_record(), found.folder).folds == 2
    snapshot = Snapshot.read(found.folder)
    assert study_record(snapshot)["folds"] == 2
    page = study_page(snapshot, "today")
    assert "scored on the training images, cross-validated in 2 folds" in page
    assert "5388 training images of digits, cross-validated in 2 folds, 8 pixels" in page


def test_a_study_keeps_its_folds(tmp_path: Path) -> None:
    Study.create_or_resume(tmp_path / "study", asked(folds=3)).close()
    assert chosen_folds(800, 500, tmp_path / "study") == (3, "")


def test_few_photographs_are_cross_validated_and_the_log_says_why(tmp_path: Path) -> None:
    """Also a class with fewer images than folds, which is then missing in some folds."""
    for label, (name, count) in enumerate((("ant", 12), ("bee", 12), ("cow", 4))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (8, 8), (80 * label, 10 * number, 0))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    chosen = asked(data=str(tmp_path / "photos"), folds=0, from_scratch=True)
    told: list[str] = []
    result = run_search(
        chosen, tmp_path / "study", workers=1, lab=ClosedFormLatency(chosen),
        on_reason=told.append,
    )  # fmt: skip
    assert StudyReader(result.folder).settings.folds == FOLDS
    assert told == [
        "folds 5: with 5 validation images, trials and candidates are cross-validated on 23 "
        "training images"
    ]
    assert told[0] in (result.folder / layout.LOG).read_text()
    stored = json.loads((result.folder / "master.json").read_text())
    assert stored["images"] == 23
    assert stored["balanced_images"] == pytest.approx(3**2 / (1 / 10 + 1 / 10 + 1 / 3))
    # The same command again continues the study.
    assert search(result.folder, chosen).selected == result.selected


@dataclass
class FixedRunner:
    """Gives one score to every trial, and fails for some."""

    score: Score
    failing: tuple[Trial, ...] = ()
    asked: int = 0

    def run(self, group: Sequence[Trial], /) -> list[TrialResult]:
        self.asked += len(group)
        return [
            TrialResult(trial, "failed", seconds=1.0, reason="no")
            if trial in self.failing
            else replace(TrialResult.of(trial, self.score), seconds=1.0)
            for trial in group
        ]


def test_a_trial_that_fails_in_one_fold_has_failed() -> None:
    trials = [Trial(0, MASTER.stage(0), repeat) for repeat in range(2)]
    one = Score(0.5, 1.0, 4, by_class=((2, 2), (2, 0)))
    two = Score(1.0, 0.5, 2, by_class=((2, 2), (0, 0)))
    runners = [FixedRunner(one, failing=(trials[0],)), FixedRunner(two)]
    failed, done = FoldsRunner(runners).run(trials)
    assert (failed.status, failed.reason, failed.top1, failed.seconds) == ("failed", "no", None, 1)
    assert (done.trial, done.status, done.seconds) == (trials[1], "done", 2)
    assert done.top1 == pytest.approx(4 / 6)
    assert done.cross_entropy == pytest.approx(5 / 6)
    assert done.balanced_accuracy == pytest.approx(0.5)  # of classes with 4 and 2 images
    assert [runner.asked for runner in runners] == [2, 1]
    assert Counter(result.status for result in FoldsRunner(runners[1:]).run(trials)) == {"done": 2}
