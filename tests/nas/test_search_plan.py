"""The plan of a search, compared with what a search does."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rounds_lab import (
    MASTER,
    SETTINGS,
    ClosedFormLaboratory,
    ClosedFormLatency,
    search,
    settings,
)

import genets
from command_line import fails, invoke
from genets.core.errors import GenetsError, StudyError
from genets.data import Batch, ImageData, load_data
from genets.data.split import Fold
from genets.latency import Measurement, Target
from genets.nas.candidates.export import OnnxCheck
from genets.nas.context import SearchContext
from genets.nas.phase_names import PHASES
from genets.nas.plan import search_plan
from genets.nas.plan.begun_study import BegunStudy, without_ended
from genets.nas.plan.estimate import RESTART_S, START_S, USUAL_ATTEMPTS, Estimate, PlannedPhase
from genets.nas.plan.probe import ProbeTimes, TimedSplit, TrainingTime
from genets.nas.plan.search_plan import SearchPlan, make_plan
from genets.nas.search import run_search
from genets.nas.selection.proposals import max_networks
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.trials.run import make_trial_job, plan_round
from genets.nas.workers.local import LocalWorkers, run_inline
from genets.networks import build, save_weights
from genets.report.study.plan import plan_sentence
from genets.structure import Structure
from genets.training import Recipe
from json_keys import check_keys

STORED = Path(__file__).parents[1] / "data" / "stored_study"
ONE_ROUND = {"rounds": 1}
SHORT = {"epochs": 3, "warmup_epochs": 0.5}
# With one budget and one round, a search does all that is planned.
COMPLETE: dict[str, dict[str, Any]] = {
    "one round": ONE_ROUND,
    "folds": ONE_ROUND | {"folds": 2},
    "the best prediction wins": ONE_ROUND | {"confirm": 1},
    "short candidates": ONE_ROUND | {"final_training": SHORT},
}
PARTIAL: dict[str, dict[str, Any]] = {
    "two rounds": {},
    "two budgets": ONE_ROUND | {"budget": None, "budgets": ("0.9x", "0.7x")},
}


class Counting(ClosedFormLaboratory):
    """Counts the networks that a search trains, by phase, and keeps the folds of its trials."""

    def __init__(self, asked: SearchSettings) -> None:
        super().__init__(asked)
        self.counts: Counter[str] = Counter()
        self.epochs: dict[str, int] = {}

    def train(self, net: Any, data: Any, recipe: Recipe, *, teacher: Any, **options: Any) -> None:
        phase = "MasterNet training" if teacher is None else "final training"
        self.counts[phase] += 1
        self.epochs[phase] = recipe.epochs
        super().train(net, data, recipe, **options)

    def run_trials(
        self, job: Any, groups: Sequence[tuple[Trial, ...]], workers: int
    ) -> Iterator[TrialResult]:
        self.counts["trials"] += sum(map(len, groups))
        self.epochs["trials"] = job.recipe.epochs
        yield from super().run_trials(job, groups, workers)

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: int
    ) -> Iterator[TrainedCandidate]:
        self.counts["candidate training"] += len(groups)
        self.epochs["candidate training"] = job.recipe.epochs
        for trained in super().train_candidates(job, groups, workers):
            if job.folds > 1:  # the weights of folds are not kept
                job.weights_path(trained.structure).unlink()
            yield trained


class Planning(ClosedFormLatency):
    """Trains for real; exports a file of 1,000 bytes. disturbances: of every measurement."""

    disturbances: tuple[str, ...] = ()

    def export(self, net: Any, structure: Structure, data: ImageData, folder: Path) -> OnnxCheck:
        (folder / "network.onnx").write_bytes(bytes(1000))
        return OnnxCheck(0.0)

    def _measurement(self, structure: Structure, target: Target) -> Measurement:
        measured = super()._measurement(structure, target)
        return replace(measured, disturbances=self.disturbances)


def plan(asked: SearchSettings, folder: Path, **options: Any) -> SearchPlan:
    usual: dict[str, Any] = {"workers": 2, "lab": Planning(asked), "limit_s": 0.1}
    return make_plan(asked, folder, **usual | options)


def totals(planned: Sequence[PlannedPhase]) -> Counter[str]:
    """The number of trained networks by phase, of all rounds and budgets."""
    counts: Counter[str] = Counter()
    for each in planned:
        counts[each.phase.partition(",")[0]] += each.count
    return +counts


@pytest.mark.parametrize("case", [*COMPLETE, *PARTIAL])
def test_the_planned_trainings_are_those_of_a_search(case: str, tmp_path: Path) -> None:
    asked = settings(**(COMPLETE | PARTIAL)[case])
    lab = Counting(asked)
    result = search(asked, tmp_path / "study", lab)
    planned = plan(asked, tmp_path / "planned").phases
    counts, epochs = totals(planned), {each.phase: each.epochs for each in planned}
    names = {name for name in result.seconds if not name.startswith("budget check")}
    if case in COMPLETE:
        assert counts == lab.counts
        assert [each.phase for each in planned] == [
            each for each in result.seconds if each in names
        ]
        assert lab.epochs.items() <= epochs.items()
    else:  # a structure that is trained already is not trained again
        assert names <= set(epochs)
        assert counts.keys() == lab.counts.keys()
        assert all(lab.counts[name] <= counts[name] for name in counts)
        assert counts["trials"] == lab.counts["trials"]
    trials = next(each for each in planned if each.phase == "trials")
    assert trials.folds == lab.trial_jobs[0].folds == asked.num_folds


def second(**changes: Any) -> TrainingTime:
    """Each step takes a second, and nothing else takes time."""
    return replace(TrainingTime(1.0, 0.0, 0.0, 9), **changes)


def estimated(
    asked: SearchSettings, folder: Path, times: TrainingTime
) -> tuple[dict[str, PlannedPhase], ImageData]:
    """The phases with made-up times, by name, and the images."""
    data, lab = load_data("digits", asked.resolution), ClosedFormLatency(asked)
    measured = lab._measurement(asked.structure, asked.target)
    with Study.create_or_resume(folder, asked) as study:
        context = SearchContext(study, 10, lab=lab, workers=2)
        groups = dict.fromkeys(range(2), (2, times))
        probe = ProbeTimes(measured, 1.0, times, times, times, groups, 0.0, 30.0)
        return {each.phase: each for each in Estimate(context, data, probe).phases()}, data


@pytest.mark.parametrize(("depth_change", "width_range"), [(1, (0.5, 2.0)), (0, (1.0, 1.0))])
def test_the_table_of_a_slow_engine_is_planned_for_both_engines(
    tmp_path: Path, depth_change: int, width_range: tuple[float, float]
) -> None:
    space = {"blocks": ["XX3"], "depth_change": depth_change, "width_range": width_range}
    asked = settings(**ONE_ROUND, target=Target("cpu", "torch-compile"), space=space)
    lab, data = ClosedFormLatency(asked), load_data("digits", asked.resolution)
    slow = replace(lab._measurement(asked.structure, asked.target), seconds={"compile": 3.0})
    fast = replace(slow, target=Target("cpu", "torch"), seconds={"load": 0.0})
    times = ProbeTimes(slow, 1.0, second(), second(), second(), {}, 0.0, 30.0, source=fast)
    with Study.create_or_resume(tmp_path, asked) as study:
        context = SearchContext(study, 10, lab=lab, workers=2)
        phase = Estimate(context, data, times)._table()
        networks = min(32, context.space.size)
    assert (networks == 32) == bool(depth_change)
    assert phase.work.endswith(f"pieces on torch, and {networks} networks on torch-compile")
    assert phase.basis.startswith("preparing 0 s, as ")
    assert f"MasterNets, and {3 * networks} s on torch-compile; timing " in phase.basis
    assert phase.seconds > 3 * networks


def test_seconds_are_steps_times_the_time_of_a_step(tmp_path: Path) -> None:
    asked = settings(**ONE_ROUND, final_training=SHORT, confirm=3)
    phases, data = estimated(asked, tmp_path, second())
    per_epoch = len(data.train) // 64
    assert phases["MasterNet training"].seconds == 36 * per_epoch
    # Five trials of each of two super-blocks: a group of four and one of one, where the probe had
    # groups of two. Two processes share them.
    assert phases["trials"].seconds == START_S + 2 * (4 + 1) / 2 * 6 * per_epoch / 2
    assert phases["candidate training"].seconds == pytest.approx(RESTART_S + 2 * 0.9 * per_epoch)
    assert phases["final training"].seconds == pytest.approx(3 * 0.9 * per_epoch)
    seconds = asked.measure_seconds  # longer than the time of the probe
    assert phases["selection"].seconds == USUAL_ATTEMPTS * max_networks(3) * seconds
    assert phases["export"].seconds == 0


@pytest.mark.parametrize("folds", [1, 2])
def test_short_trainings_take_steps_and_scores(tmp_path: Path, folds: int) -> None:
    """Each of six has 50 steps: of the MasterNet, and of the first candidate for all candidates."""
    auto = {"learning_rate": "auto", "norm_statistics": "auto", "optimizer": "adamw", "epochs": 20}
    given = auto | {"learning_rate": 0.1, "norm_statistics": "batch"}

    def found(training: dict[str, Any]) -> dict[str, float]:
        asked = settings(
            **ONE_ROUND, folds=folds, master_training=training, confirm_epochs=20,
            final_training=training, budget="1x",
        )  # fmt: skip
        times = second(scoring_s=0.01)
        phases, _ = estimated(asked, tmp_path / str(training["learning_rate"]), times)
        return {name: phase.seconds for name, phase in phases.items()}

    short, fixed = found(auto), found(given)
    scored = len(load_data("digits", 8, fold=Fold(0, 2) if folds > 1 else None).validation)
    scores_s = folds * 6 * 0.01 * scored
    added_s = {name: short[name] - fixed[name] for name in short}
    images = 2 if folds > 1 else 1
    assert added_s["MasterNet training"] == pytest.approx(images * 300 + scores_s, rel=0.01)
    teaching_s = 0.01 * 64
    assert added_s["candidate training"] == pytest.approx(
        images * 300 * (1 + teaching_s) + scores_s, rel=0.01
    )


def test_the_teacher_is_called_for_each_image_of_a_step(tmp_path: Path) -> None:
    asked = settings(**ONE_ROUND)
    without, data = estimated(asked, tmp_path / "without", second())
    taught, _ = estimated(asked, tmp_path / "taught", second(scoring_s=0.01))
    per_epoch, scored = len(data.train) // 64, len(data.validation)
    more_s = taught["candidate training"].seconds - without["candidate training"].seconds
    assert more_s == pytest.approx(0.01 * (64 * per_epoch + 0.9 * scored))


def test_folds_train_on_their_own_images(tmp_path: Path) -> None:
    phases, data = estimated(settings(**ONE_ROUND, folds=4), tmp_path, second())
    in_fold = load_data("digits", 8, fold=Fold(0, 4)).train
    whole, part = len(data.train) // 64, len(in_fold) // 64
    assert phases["MasterNet training"].seconds == 36 * (whole + 4 * part)
    assert phases["candidate training"].seconds == pytest.approx(RESTART_S + 4 * 0.9 * part)


def test_inherited_trials_take_whole_epochs_of_feature_steps(tmp_path: Path) -> None:
    asked = settings(**ONE_ROUND, from_scratch=False, trial_training={"feature_steps": 20})
    phases, data = estimated(asked, tmp_path, second())
    per_epoch = len(data.train) // 64
    assert phases["trials"].epochs == -(-20 // per_epoch)
    assert phases["trials"].steps == phases["trials"].epochs * per_epoch


def test_a_linear_start_computes_features_and_scores(tmp_path: Path) -> None:
    times = second(step_s=0.0, scoring_s=1.0)
    recipe = {"linear_start": True}
    plain, data = estimated(settings(**ONE_ROUND), tmp_path / "plain", times)
    linear, _ = estimated(settings(**ONE_ROUND, master_training=recipe), tmp_path / "linear", times)
    assert plain["MasterNet training"].seconds == len(data.validation)
    assert linear["MasterNet training"].seconds == len(data.train) + 4 * len(data.validation)


def test_rivals_are_counted(tmp_path: Path) -> None:
    rivals = ("timm:test_resnet=scratch", "timm:test_byobnet=scratch")
    asked = settings(**ONE_ROUND, resolution=32, rivals=rivals)
    phases, _ = estimated(asked, tmp_path, second())
    planned = phases["rivals"]
    assert (planned.count, planned.epochs) == (2, 1)
    alone, _ = estimated(asked.model_copy(update={"rivals": rivals[:1]}), tmp_path / "a", second())
    other, _ = estimated(asked.model_copy(update={"rivals": rivals[1:]}), tmp_path / "b", second())
    assert planned.seconds == pytest.approx(alone["rivals"].seconds + other["rivals"].seconds)


def test_the_short_trainings_of_a_rival_are_counted_in_each_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(**ONE_ROUND, resolution=32, rivals=("timm:test_resnet=scratch",),
                     final_training={"learning_rate": "auto", "epochs": 1})  # fmt: skip
    seconds = []
    for count in (1, 2, 5):

        def folds(data: ImageData, recipe: Any, count: int = count) -> list[Fold | None]:
            return [None] * count

        monkeypatch.setattr("genets.nas.plan.estimate.folds_to_decide", folds)
        phases, _ = estimated(asked, tmp_path / str(count), second())
        seconds.append(phases["rivals"].seconds)
    one, two, five = seconds
    assert two > one
    assert five - one == pytest.approx(4 * (two - one))


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    threads = torch.get_num_threads()
    plan(settings(from_scratch=False, rounds=1), tmp_path / "runs" / "study")
    assert list(tmp_path.iterdir()) == [scratch]
    assert not list(scratch.iterdir())
    assert torch.get_num_threads() == threads


def test_the_disk_space_is_that_of_the_files(tmp_path: Path) -> None:
    trials = {"trials_per_super_block": 4, "trial_training": {"feature_steps": 1}}
    asked = settings(**ONE_ROUND, from_scratch=False, **trials)
    planned = plan(asked, tmp_path / "planned").disk_bytes
    with Study.create_or_resume(tmp_path / "study", asked) as study:
        context = SearchContext(study, 10, workers=1)
        save_weights(build(asked.structure, 10), study.master_weights, {})
        job = make_trial_job(context)
        for _ in run_inline(job, [(trial,) for trial in plan_round(context)], 1):
            pass
        kept = [path.stat().st_size for path in context.trial_weights.folder.iterdir()]
        master = study.master_weights.stat().st_size
    assert planned["trials"] == pytest.approx(sum(kept), rel=0.3)
    assert planned["MasterNet"] == pytest.approx(master, rel=0.2)
    assert planned["winner"] == planned["MasterNet"] + 1000
    assert planned["candidates"] == 2 * planned["MasterNet"]
    assert planned["checkpoints"] in (8 * planned["MasterNet"], 16 * planned["MasterNet"])
    limited = settings(**ONE_ROUND, from_scratch=False, trial_weights_mb=0)
    assert plan(limited, tmp_path / "planned").disk_bytes["trials"] == 0


def test_a_disturbed_probe_and_a_full_disk_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Planning()
    lab.disturbances = ("other processes used 1.5 CPUs",)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    planned = plan(settings(**ONE_ROUND), tmp_path / "study", lab=lab)
    assert planned.free_bytes == 1000
    busy, full = planned.warnings
    assert busy.startswith("other processes used 1.5 CPUs during the probe")
    assert full.startswith(f"the disk of {tmp_path} has too little free space for the study")


def wrong_weights(folder: Path) -> Path:
    path = folder / "other.safetensors"
    save_weights(build(Structure.parse("Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @8"), 10), path, {})
    return path


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {"workers": 0}),
        ({}, {"wait_minutes": -1.0}),
        ({"space": {"blocks": ["XX3"], "width_range": [1, 1], "depth_change": 0},
          "master": "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @8"}, {}),
        ({"data": "nowhere/"}, {}),
        ({"data": "broken"}, {}),
        ({"weights": "none.safetensors"}, {}),
        ({"weights": "other"}, {}),
        ({"rivals": ["timm:no_such_network"]}, {}),
    ],
)  # fmt: skip
def test_a_plan_refuses_what_a_search_refuses(
    changes: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    if changes.get("weights") == "other":
        changes = {"weights": str(wrong_weights(tmp_path))}
    if changes.get("data") == "broken":
        for name in ("a/1.png", "a/2.png", "b/1.png"):  # a class of one image cannot be cut
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
        changes = {"data": str(tmp_path / "images")}
    asked, folder = settings(**ONE_ROUND | changes), tmp_path / "study"
    with pytest.raises(GenetsError) as refused:
        make_plan(asked, folder, **options)
    with pytest.raises(GenetsError) as real:
        run_search(asked, folder, **options)
    assert (type(refused.value), str(refused.value)) == (type(real.value), str(real.value))
    assert not folder.exists()


def test_a_folder_with_other_files_is_refused_as_by_a_search(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GenetsError, match="neither empty nor a study") as refused:
        plan(settings(), tmp_path)
    with pytest.raises(GenetsError) as real:
        run_search(settings(), tmp_path)
    assert str(refused.value) == str(real.value)


class Stopping(Counting):
    """Ends the search before one of its trials or candidates."""

    def __init__(self, asked: SearchSettings, trials: int, candidates: int) -> None:
        super().__init__(asked)
        self.limits = {"trials": trials, "candidates": candidates}

    def run_trials(self, *words: Any) -> Iterator[TrialResult]:
        yield from islice(super().run_trials(*words), self.limits["trials"])
        raise KeyboardInterrupt

    def train_candidates(self, *words: Any) -> Iterator[TrainedCandidate]:
        yield from islice(super().train_candidates(*words), self.limits["candidates"])
        raise KeyboardInterrupt


def test_a_study_that_has_begun_is_planned_to_its_end(tmp_path: Path) -> None:
    """After 7 of 10 trials, a plan has 3 trials, and the later phases of a plan of all."""
    asked = settings(**ONE_ROUND)
    with pytest.raises(KeyboardInterrupt):
        search(asked, tmp_path / "study", Stopping(asked, 7, 0))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")}
    left, complete = plan(asked, tmp_path / "study"), plan(asked, tmp_path / "new")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")}
    assert [each.phase for each in left.phases] == [
        each.phase for each in complete.phases if each.phase not in PHASES[:3]
    ]
    (trials,) = (each for each in left.phases if each.phase == "trials")
    assert (trials.count, trials.work) == (3, "10 trials, 7 of them done")
    assert totals(left.phases[1:]) == totals(complete.phases) - Counter(
        {"MasterNet training": 1, "trials": 10}
    )
    assert (left.continued, complete.continued) == (True, False)
    assert plan_sentence(left).startswith("The rest of the search takes about ")
    with pytest.raises(StudyError, match="seed: 0 in the study, 1 asked"):
        plan(settings(**ONE_ROUND, seed=1), tmp_path / "study")


def test_the_files_of_a_study_are_counted_while_some_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, stat = settings(**ONE_ROUND), os.stat
    Study.create_or_resume(tmp_path, asked).close()
    begun = BegunStudy(tmp_path, asked)
    before = begun.disk_bytes()
    assert before == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    vanishing = [tmp_path / "first.part", tmp_path / "second.part"]
    for path in vanishing:
        path.write_bytes(b"0123456789")

    def remove_after_look(path: Any, **words: Any) -> os.stat_result:
        result = stat(path, **words)
        if path in vanishing:
            for each in vanishing:
                each.unlink()
        return result

    monkeypatch.setattr(os, "stat", remove_after_look)
    assert begun.disk_bytes() == before + 10, "the second one is gone"


def test_a_part_of_a_phase_takes_a_part_of_its_time() -> None:
    phase = PlannedPhase(phase="trials", work="10 trials", seconds=100.0, basis="", count=10)
    left = without_ended(7.0, 10.0, phase)
    assert (left.seconds, left.count) == (pytest.approx(30.0), 3)
    assert without_ended(None, None, phase) == without_ended(0.0, 10.0, phase) == phase


def test_a_finished_study_has_no_plan() -> None:
    fails(invoke("search", "--out", STORED, "--plan"), "has finished", "genets report")


class Numbers:
    """A split of ten images, whose passes are recorded."""

    def __init__(self) -> None:
        self.passes: list[tuple[int, int | None]] = []

    def __len__(self) -> int:
        return 10

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        self.passes.append((batch_size, epoch))
        for start in range(0, 10 - 10 % batch_size, batch_size):
            labels = torch.arange(start, start + batch_size)
            yield torch.zeros(len(labels), 3, 1, 1), labels


def test_a_timed_pass_goes_through_epochs_until_it_has_two_steps_and_its_time() -> None:
    own: Any = Numbers()
    split = TimedSplit(own, "cpu", 0.0, largest_batch=6)
    assert [len(labels) for _, labels in split.batches(8, epoch=3)] == [6, 6]
    assert own.passes == [(6, 3), (6, 4)]
    assert (split.images, len(split.steps_s)) == (12, 2)
    assert [len(labels) for _, labels in split.batches(2)] == [2, 2]  # an evaluation has one pass
    assert own.passes[2:] == [(2, None)]
    assert (split.images, len(split.steps_s)) == (4, 2)


ARGUMENTS = (
    "search", "--data", "digits", "--budget", "0.9x", "--master", MASTER, "--blocks", "XX3,DW3r3",
    "--threads", 1, "--batch-size", 8, "--plan",
)  # fmt: skip


@pytest.fixture
def quick_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(make_plan, lab=Planning(), limit_s=0.1)
    monkeypatch.setattr(search_plan, "make_plan", quick)


@pytest.mark.usefixtures("quick_plans")
def test_the_command_prints_json(tmp_path: Path) -> None:
    out = tmp_path / "study"
    result = invoke(*ARGUMENTS, "--out", out, "--folds", 2, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    check_keys("search --plan", record)
    assert record["seconds"] == pytest.approx(sum(each["seconds"] for each in record["phases"]))
    assert record["settings"]["folds"] == 2
    assert not out.exists()


@pytest.mark.usefixtures("quick_plans")
def test_the_command_prints_tables_and_the_doubt(tmp_path: Path) -> None:
    result = invoke(*ARGUMENTS, "--preset", "quick", "--out", tmp_path / "study")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for words in ("MasterNet training", "6 trials", "up to 32 structures", "up to 2 candidates",
                  "36 epochs, batch 64", "The search takes about", "a factor of 1.5"):  # fmt: skip
        assert words in text


def test_masternets_to_compare_are_refused(tmp_path: Path) -> None:
    words = [word for word in ARGUMENTS if word not in ("--master", MASTER)]
    compared = ("--compare-masters", "master_small,genet_light")
    fails(invoke(*words, *compared, "--out", tmp_path), "--plan needs one MasterNet")


@dataclass(frozen=True)
class Cluster:
    """Machines with four workers on two GPUs, or on CPUs."""

    gpus: int

    def __str__(self) -> str:
        return "the cluster"

    def check(self, device: str) -> None:
        pass

    def workers(self, *_: object) -> LocalWorkers:
        return LocalWorkers(4, self.gpus)


def test_a_plan_for_a_cluster_divides_the_work_by_its_workers(tmp_path: Path) -> None:
    asked = settings(rounds=1)
    planned = make_plan(
        asked, tmp_path / "study", workers_on=Cluster(1), lab=Planning(), limit_s=0.1
    )
    assert (planned.workers, planned.workers_on, planned.gpus) == (4, "the cluster", 0)
    assert planned.gpu_hours == 0
    sentence = plan_sentence(planned)
    assert "on the cluster, estimated from a probe of" in sentence
    assert "GPU-hours" not in sentence
    assert "The estimate assumes that the machines of the cluster are as fast as this" in sentence


def test_gpu_hours_count_all_gpus_for_trials_and_candidates_and_one_for_the_rest() -> None:
    phases = [("latency table", 3600.0), ("trials", 7200.0), ("candidate training, 0.5x", 1800.0),
              ("final training", 3600.0)]  # fmt: skip
    planned = SearchPlan(
        folder=Path("study"), settings=settings(), reasons=(), images={"train": 1}, workers=8,
        phases=tuple(
            PlannedPhase(phase=name, work="", seconds=seconds, basis="") for name, seconds in phases
        ),
        disk_bytes={"other": 1}, free_bytes=1, warnings=(), probe_seconds=1.0,
        workers_on="the cluster", gpus=8, made_at=0.0,
    )  # fmt: skip
    assert planned.gpu_hours == 1 + 8 * 2 + 8 * 0.5 + 1
    assert replace(planned, processes=4).gpu_hours == 1 + 8 * 2 + 8 * 0.5 + 4
    assert planned.finish_at == 3600 * 4.5
    assert "It uses about 22 GPU-hours, on 8 GPUs." in plan_sentence(planned)


@pytest.mark.usefixtures("quick_plans")
def test_the_function_takes_the_arguments_of_a_search(tmp_path: Path) -> None:
    asked = SETTINGS | {"rounds": 1}
    planned = genets.plan_search(**asked, out=tmp_path / "study", workers=1)
    assert isinstance(planned, genets.SearchPlan)
    assert planned.settings == settings(rounds=1, folds=1)
    of_search = inspect.signature(genets.search).parameters.keys()
    assert of_search == inspect.signature(genets.plan_search).parameters.keys()
