"""Searches from trained weights: MasterNet, trials and candidates inherit weights."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from rounds_lab import SETTINGS, ClosedFormLatency, in_closed_form, settings
from safetensors.torch import save_file
from torch import nn

from command_line import invoke
from genets.core.errors import DivergedError, GenetsError, SettingsError, TrainingError
from genets.core.files import write_atomic
from genets.data import load_data
from genets.nas.candidates import training
from genets.nas.candidates.assembly import nearest_trials, needed_trials
from genets.nas.candidates.runner import CandidateJob, CandidateRunner
from genets.nas.candidates.training import make_candidate_job, train_candidates
from genets.nas.context import SearchContext
from genets.nas.result import SearchResult
from genets.nas.search import run_search
from genets.nas.settings.final_training import epochs_of_winner
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.nas.study.records import Trial, TrialResult
from genets.nas.study.study import Study
from genets.nas.trials.run import run_trials
from genets.nas.trials.weights import TrialWeights
from genets.nas.workers.files import take_outputs, write_inputs
from genets.nas.workers.job import Workers
from genets.nas.workers.local import LocalWorkers
from genets.networks import build, save_weights
from genets.networks.weights import read_weights
from genets.structure import Structure, SuperBlock, zoo
from genets.training import Metric, Recipe, evaluate, train

MASTER = Structure.parse(SETTINGS["master"])
SHORT = {"epochs": 1, "warmup_epochs": 0.5, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the MasterNet after eight epochs on digits, for ten classes."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    data = load_data("digits", MASTER.resolution)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(MASTER, 10)
    train(net, data.train, Recipe(epochs=8, learning_rate=0.8), seed=0)
    save_weights(net, path, data.weights_metadata())
    return path


def asked(weights: Path, **changes: Any) -> SearchSettings:
    values: dict[str, Any] = {
        "weights": str(weights), "master_training": SHORT, "trial_training": {"feature_steps": 1},
        "trials_per_super_block": 3, "rounds": 1, "from_scratch": False,
    }  # fmt: skip
    return settings(**values | changes)


def search(folder: Path, chosen: SearchSettings, workers: int = 1) -> SearchResult:
    return run_search(chosen, folder, workers=workers, lab=ClosedFormLatency(chosen))


@pytest.fixture(scope="module")
def found(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(tmp_path_factory.mktemp("study") / "study", asked(pretrained))


def scores(result: SearchResult) -> list[Any]:
    with Study.open(result.folder) as study:
        trials = [replace(each, seconds=0.0) for each in study.results()]
        return [*trials, *(replace(each, seconds=0.0) for each in study.trained())]


def test_the_settings_of_a_study_are_read_again(pretrained: Path) -> None:
    chosen = asked(pretrained)
    assert SearchSettings.from_toml(chosen.to_toml()) == chosen


@pytest.mark.filterwarnings("ignore:.* was trained with:UserWarning")
def test_a_search_starts_from_published_weights(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the cache of the hub, by timm's own code; the MasterNet stands for a GENet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    entry = replace(zoo.entry("genet_light"), structure=MASTER)
    monkeypatch.setitem(zoo._entries, "genet_light", entry)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        published = build(MASTER, 1000)
    known, _ = read_weights(pretrained)
    known = {name: value for name, value in known.items() if not name.startswith("head")}
    published.load_state_dict(known, strict=False)
    repository = tmp_path / "hub" / "models--timm--gernet_s.idstcv_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(published.state_dict(), snapshot / "model.safetensors")

    still = {**SHORT, "learning_rate": 1e-9, "weight_decay": 0.0, "linear_start": True}
    chosen = settings(
        pretrained=True, master_training=still, trial_training={"feature_steps": 1},
        trials_per_super_block=3, rounds=1, from_scratch=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="are for 1000 classes: the classifier .* is new"):
        result = search(tmp_path / "study", chosen)
    trained, _ = read_weights(result.folder / "master.safetensors")
    expected = published.state_dict()
    for name in ("stem.conv.weight", "stages.1.0.conv2_kxk.conv.weight"):
        torch.testing.assert_close(trained[name], expected[name])
    assert len(trained["head.fc.bias"]) == 10
    assert result.winner.top1 > 0
    (tmp_path / "hub").rename(tmp_path / "lost")
    again = search(tmp_path / "study", chosen)
    assert again.selected == result.selected, "a study needs the published weights once"


def test_two_sources_of_weights_are_refused(pretrained: Path) -> None:
    with pytest.raises(SettingsError, match="pretrained or weights, not both"):
        asked(pretrained, pretrained=True)


def test_the_weights_of_every_trial_are_kept(found: SearchResult) -> None:
    with Study.open(found.folder) as study:
        kept = TrialWeights(study.folder / layout.TRIAL_WEIGHTS, 10**9)
        for result in study.results():
            block = kept.load(result.trial)
            assert block.super_block == result.trial.super_block
            assert all(tensor.isfinite().all() for tensor in block.tensors.values())


def test_a_trial_starts_from_the_master_net(
    pretrained: Path, tmp_path: Path, found: SearchResult
) -> None:
    """Without a step, a control trial would have the MasterNet's score: its rate is almost 0."""
    still = SHORT | {"learning_rate": 1e-9}
    result = search(tmp_path / "study", asked(pretrained, master_training=still))
    with Study.open(result.folder) as study:
        score = study.master_score()
        controls = [each for each in study.results() if each.trial.is_control(MASTER)]
        assert score is not None
        assert [each.top1 for each in controls] == pytest.approx([score.top1] * len(controls),
                                                                 abs=0.05)  # fmt: skip
        assert score.top1 > 0.15  # better than guessing


def test_candidates_are_trained_without_the_study_folder(
    tmp_path: Path, found: SearchResult
) -> None:
    """As on another machine: the weights of the trials travel there, and the candidate's back."""
    folder, scratch = tmp_path / "study", tmp_path / "scratch"
    shutil.copytree(found.folder, folder)
    with Study.open(folder) as study:
        job = make_candidate_job(SearchContext(study, 10, workers=1))
        trained = next(each for each in study.trained() if each.structure != MASTER)
    inputs = write_inputs(scratch, job.inputs([trained.structure]))
    shutil.rmtree(folder)
    (other,) = job.elsewhere(scratch).runner().run([trained.structure])
    assert other.score == trained.score
    ((path, content),) = take_outputs(scratch, inputs).items()
    assert path == job.weights_path(trained.structure)
    path.parent.mkdir(parents=True)
    job.store(path, content)
    stored = read_weights(found.folder / path.relative_to(folder))[0]
    assert all(torch.equal(stored[name], own) for name, own in read_weights(path)[0].items())


def test_lost_trial_weights_cost_no_result(
    pretrained: Path, tmp_path: Path, found: SearchResult
) -> None:
    """With a limit of 0 no weights stay; the trials that candidates need are run again."""
    result = search(tmp_path / "study", asked(pretrained, trial_weights_mb=0))
    assert result.selected.structure == found.selected.structure
    assert scores(result) == scores(found)


def test_dropped_trial_weights_are_said(tmp_path: Path, found: SearchResult) -> None:
    """A trial is missing, and is run when the weights of two others are gone."""
    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder)
    with sqlite3.connect(folder / layout.TRIALS) as database:
        database.execute("delete from trials where rowid = (select max(rowid) from trials)")
    for name in (layout.CANDIDATES, layout.SELECTED):
        (folder / f"{name}.json").unlink()
    with Study.open(folder) as study:
        kept = TrialWeights(folder / layout.TRIAL_WEIGHTS, 10**9)
        for result in study.results()[:2]:
            kept.path(result.trial).unlink()
        context = SearchContext(study, 10, workers=1)
        run_trials(context)
        count = len(study.results())
        (fault,) = study.faults()
        assert fault.sentence.startswith(f"2 of {count} trials left no weights on the disk")
        run_trials(context)
        assert len(study.results()) == count
        assert study.faults() == [fault], "nothing is said twice"


def test_damaged_trial_weights_cost_no_result(
    pretrained: Path, tmp_path: Path, found: SearchResult
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder)
    for name in (layout.CONFIRMED, layout.SELECTED):
        (folder / f"{name}.json").unlink()
    for path in (folder / layout.TRIAL_WEIGHTS).glob("*"):
        path.write_bytes(path.read_bytes()[:100])
    result = search(folder, asked(pretrained))
    assert scores(result) == scores(found)


@pytest.mark.parametrize("left", [0, 100], ids=["empty", "half a file"])
def test_damaged_candidate_weights_cost_no_result(
    pretrained: Path, tmp_path: Path, found: SearchResult, left: int
) -> None:
    """The winner continues from its weights as a candidate, which are made again."""
    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder)
    for path in (folder / layout.CONFIRMED).glob("*"):
        path.write_bytes(path.read_bytes()[:left])
    (folder / layout.WINNER_WEIGHTS).unlink()
    result = search(folder, asked(pretrained))
    assert scores(result) == scores(found)
    before, after = (
        read_weights(each / layout.WINNER_WEIGHTS)[0] for each in (found.folder, folder)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (folder / layout.LOG).read_text().count("is trained again") == 1


class TrialsHere(ClosedFormLatency):
    """Runs trials in this process, because a worker process takes seconds to start."""

    def run_trials(self, job: Any, groups: Any, workers: Workers) -> Iterator[TrialResult]:
        return super().run_trials(job, groups, LocalWorkers(1))


def test_a_selection_stores_the_trials_that_it_runs_again(
    pretrained: Path, tmp_path: Path, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_closed_form(monkeypatch, TrialsHere(asked(pretrained)))
    folder = tmp_path / "study"
    shutil.copytree(found.folder, folder)
    for path in (folder / layout.TRIAL_WEIGHTS).glob("*"):
        path.unlink()
    runs, log = [], folder / layout.LOG
    for number in range(2):
        before = log.read_text().count("are run again")
        invoke("select", folder, "--budget", "0.9x", "--out", tmp_path / str(number), "--json")
        runs.append(log.read_text().count("are run again") - before)
    assert runs == [1, 0]
    one, two = (read_weights(tmp_path / n / "start.safetensors")[0] for n in "01")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_study_continues_without_its_starting_weights(
    pretrained: Path, tmp_path: Path, found: SearchResult
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(pretrained.read_bytes())
    chosen = asked(copy)
    result = search(tmp_path / "study", chosen)
    copy.unlink()
    again = search(tmp_path / "study", chosen)
    assert again.selected == result.selected


def test_a_results_folder_as_master_net_gives_structure_and_weights(
    found: SearchResult, tmp_path: Path
) -> None:
    results = found.folder / layout.RESULTS
    chosen = settings(master=str(results), from_scratch=False)
    assert chosen.structure == found.selected.structure
    assert chosen.weights == str(results / "weights.safetensors")
    # Given once more for the same study, it is the same setting.
    assert SearchSettings(**{**chosen.to_dict(), "master": str(results)}) == chosen


def test_a_results_folder_without_a_structure_is_refused_as_master_net(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=10)
    save_weights(net, tmp_path / "weights.safetensors", {"network": "timm:test_resnet"})
    with pytest.raises(SettingsError, match="holds timm:test_resnet, and a search changes struct"):
        settings(master=str(tmp_path))


def test_a_missing_results_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no results folder '.*/gone'"):
        settings(master=str(tmp_path / "gone"))


def test_weights_of_another_network_are_refused(pretrained: Path, tmp_path: Path) -> None:
    other = asked(pretrained, master="Conv3x8s2 XX3x24s2 DW3x16r3 Conv1x16 @8")
    with pytest.raises(GenetsError, match=r"not of this network: it lacks stages\.1\.0"):
        search(tmp_path / "study", other)
    assert not (tmp_path / "study").exists()


def test_missing_weights_are_refused_before_a_study_begins(tmp_path: Path) -> None:
    with pytest.raises(GenetsError, match=r"none\.safetensors"):
        search(tmp_path / "study", asked(tmp_path / "none.safetensors"))
    assert not (tmp_path / "study").exists()


def test_weights_with_nan_are_refused_before_a_study_begins(tmp_path: Path) -> None:
    net = build(MASTER, 10)
    with torch.no_grad():
        net.final_conv.bn.weight[3] = float("nan")
    save_weights(net, tmp_path / "nan.safetensors", {"num_classes": "10"})
    with pytest.raises(GenetsError, match=r"are damaged: final_conv\.bn\.weight holds NaN"):
        search(tmp_path / "study", asked(tmp_path / "nan.safetensors"))
    assert not (tmp_path / "study").exists()


def test_a_folder_as_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenetsError, match="are a folder, where a file is expected"):
        search(tmp_path / "study", asked(tmp_path))


def test_every_network_states_its_normalisation(found: SearchResult) -> None:
    """A later training takes the MasterNet as its teacher, and converts the images for it."""
    data = load_data("digits", MASTER.resolution)
    for name in ("master.safetensors", "results/weights.safetensors"):
        _, texts = read_weights(found.folder / name)
        assert (json.loads(texts["mean"]), json.loads(texts["std"])) == ([*data.mean], [*data.std])


def test_a_selected_structure_starts_from_inherited_weights(
    pretrained: Path, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_closed_form(monkeypatch, ClosedFormLatency(asked(pretrained)))
    out = tmp_path / "selected"
    words = ("--budget", "0.9x", "--out", out, "--train", "--json")
    printed = json.loads(invoke("select", found.folder, *words).stdout)
    tensors, texts = read_weights(out / "start.safetensors")
    own, facts = read_weights(found.folder / "master.safetensors")
    assert (texts["mean"], texts["class_names"]) == (facts["mean"], facts["class_names"])
    assert Structure.parse(printed["structure"]).stem == MASTER.stem
    assert torch.equal(tensors["stem.conv.weight"], own["stem.conv.weight"])
    again = invoke(*shlex.split(printed["train"])[1:], "--json")
    assert json.loads(again.stdout) == printed["trained"], "the same run is continued"


def test_a_new_classifier_is_said(tmp_path: Path) -> None:
    path = tmp_path / "three.safetensors"
    save_weights(build(MASTER, 3), path, {"num_classes": "3"})
    with (
        suppress(GenetsError),  # one epoch from random weights is not enough to learn
        pytest.warns(UserWarning, match=r"are for 3 classes: the classifier \(head\.fc\) is new"),
    ):
        search(tmp_path / "study", asked(path))


def test_a_master_net_within_the_budget_is_a_candidate_as_it_is(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rate of almost 0, the other candidates hardly learn, so the MasterNet wins.

    Its weights are written once, and never half of them.
    """
    written: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        written.append(path)
        write_atomic(path, content)

    monkeypatch.setattr(training, "write_atomic", write)
    still = SHORT | {"learning_rate": 1e-9}
    result = search(
        tmp_path / "study", asked(pretrained, budget="2x", master_training=still,
                                  final_training=still | {"norm_statistics": "frozen"}, confirm=2)
    )  # fmt: skip
    with Study.open(result.folder) as study:
        score = study.master_score()
        assert score is not None
        own = [each for each in study.trained() if each.structure == MASTER]
        assert [each.top1 for each in own] == [score.top1]
        assert result.selected.structure == MASTER
        exported, _ = read_weights(study.winner_weights)
        kept, _ = read_weights(study.master_weights)
        assert all(torch.equal(exported[name], kept[name]) for name in kept)
        assert any("the trained MasterNet itself" in each for each in result.warnings)
        context = SearchContext(study, 10, workers=1)
        train_candidates(context, study.candidates())
        assert written == [make_candidate_job(context).weights_path(MASTER)]


class HarmfulTraining(ClosedFormLatency):
    """The training of a winner sets its classifier to 0."""

    def train(self, net: nn.Module, *words: Any, teacher: nn.Module | None, **options: Any) -> None:
        super().train(net, *words, teacher=teacher, **options)
        assert options["metric"] is self.asked.metric
        if teacher is not None:
            for value in net.get_submodule("head.fc").parameters():
                nn.init.zeros_(value)


class FailingTraining(ClosedFormLatency):
    """The training of a winner fails after it has changed the network."""

    def train(self, net: nn.Module, *words: Any, teacher: nn.Module | None, **options: Any) -> None:
        super().train(net, *words, teacher=teacher, **options)
        if teacher is not None:
            raise DivergedError("the loss became nan")


class LosingTraining(ClosedFormLatency):
    """A process of the training of a winner is lost."""

    def train(self, *words: Any, teacher: nn.Module | None, **options: Any) -> None:
        if teacher is not None:
            raise TrainingError("another process of the training has ended")
        super().train(*words, teacher=teacher, **options)


def longer(weights: Path) -> SearchSettings:
    """The winner is trained for longer than the candidates."""
    return asked(weights, final_training=SHORT | {"epochs": 3}, confirm_epochs=1)


@pytest.fixture(scope="module")
def lost(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has lost a process of the training of its winner."""
    folder, chosen = tmp_path_factory.mktemp("lost") / "study", longer(pretrained)
    with pytest.raises(TrainingError, match="another process of the training has ended"):
        run_search(chosen, folder, workers=1, lab=LosingTraining(chosen))
    return folder


def test_a_lost_process_does_not_decide_the_winner(
    pretrained: Path, lost: Path, tmp_path: Path
) -> None:
    assert not (lost / layout.WINNER_WEIGHTS).exists()
    result = search(shutil.copytree(lost, tmp_path / "study"), longer(pretrained))
    assert result.files["weights"].exists()


@pytest.mark.parametrize("lab", [HarmfulTraining, FailingTraining, ClosedFormLatency])
def test_a_winner_is_never_worse_than_as_a_candidate(
    pretrained: Path, lost: Path, tmp_path: Path, lab: type[ClosedFormLatency]
) -> None:
    chosen, folder = longer(pretrained), shutil.copytree(lost, tmp_path / "study")
    result = run_search(chosen, folder, workers=1, lab=lab(chosen))
    winner = result.selected.structure
    with Study.open(result.folder) as study:
        job = make_candidate_job(SearchContext(study, 10, workers=1))
        own, kept = (
            read_weights(path)[0] for path in (study.winner_weights, job.weights_path(winner))
        )
        is_kept = all(torch.equal(own[name], kept[name]) for name in kept)
        confirmed = next(each for each in study.trained() if each.structure == winner)
        assert job.metric is chosen.metric
    log = (result.folder / layout.LOG).read_text()
    assert is_kept is ("the winner keeps its weights as a candidate: the final" in log)
    assert is_kept or lab is ClosedFormLatency
    data = load_data("digits", winner.resolution)
    net = build(winner, 10)
    net.load_state_dict(own)
    assert confirmed.cross_entropy is not None
    assert evaluate(net, data.validation).cross_entropy <= confirmed.cross_entropy + 1e-6


@pytest.mark.parametrize("cut", [0, 1000])
def test_half_a_file_of_weights_begins_no_study(pretrained: Path, tmp_path: Path, cut: int) -> None:
    half = tmp_path / "half.safetensors"
    half.write_bytes(pretrained.read_bytes()[:cut])
    with pytest.raises(GenetsError, match="truncated or not a safetensors file"):
        search(tmp_path / "study", asked(half))
    assert not (tmp_path / "study").exists()


def test_a_single_candidate_is_not_compared_with_the_master_net(
    pretrained: Path, tmp_path: Path
) -> None:
    result = search(tmp_path / "study", asked(pretrained, budget="2x", confirm=1))
    assert result.confirmed == ()


@pytest.mark.parametrize("confirm", [1, 2])
def test_a_single_candidate_is_trained_if_the_winner_continues_from_it(
    pretrained: Path, tmp_path: Path, confirm: int
) -> None:
    """The fastest structure alone meets the budget."""
    final = SHORT | {"epochs": 3}
    chosen = asked(
        pretrained, budget="0.498x", confirm=confirm, final_training=final, confirm_epochs=1
    )
    trained = confirm - 1
    result = search(tmp_path / "study", chosen)
    with Study.open(result.folder) as study:
        assert len(study.candidates()) == 1
    assert [each.structure for each in result.confirmed] == trained * [result.selected.structure]
    assert epochs_of_winner(chosen) == 3 + trained


def test_one_candidate_is_the_scaled_master_net(found: SearchResult) -> None:
    with Study.open(found.folder) as study:
        candidates = [candidate.structure for candidate in study.candidates()]
    assert len(candidates) == SETTINGS["confirm"]
    kept = [structure for structure in candidates if all(
        (stage.block, stage.depth) == (own.block, own.depth)
        for stage, own in zip(structure.stages, MASTER.stages, strict=True)
    )]  # fmt: skip
    assert kept


def test_a_candidate_starts_from_a_larger_winner_where_that_is_better(
    pretrained: Path, tmp_path: Path
) -> None:
    """Of the MasterNet and the larger winner, one is pretrained and the other has fresh weights."""
    data = load_data("digits", MASTER.resolution)
    fresh = tmp_path / "fresh.safetensors"
    save_weights(build(MASTER, 10), fresh, {})
    narrow = MASTER.with_stage(0, replace(MASTER.stage(0), width=8))

    def start_score(master: Path, larger: Path | None) -> float:
        runner = CandidateRunner(candidate_job(master, larger and (MASTER, larger)))
        return evaluate(runner.start(narrow, data), data.validation).cross_entropy

    assert start_score(fresh, pretrained) < start_score(fresh, None)
    assert start_score(pretrained, fresh) == start_score(pretrained, None)


def candidate_job(
    master: Path, larger: tuple[Structure, Path] | None, **changes: Any
) -> CandidateJob:
    return CandidateJob(
        master=MASTER, master_weights=master, data="digits", recipe=Recipe(epochs=1), seed=0,
        folder=master.parent, source=MASTER, source_weights=master,
        trial_weights=TrialWeights(master.parent, 0), larger=larger, metric=Metric.TOP1, **changes,
    )  # fmt: skip


def test_a_fold_has_no_larger_winner(tmp_path: Path) -> None:
    job = candidate_job(tmp_path / "master", (MASTER, tmp_path / "larger"), folds=3)
    assert [each.larger for each in job.each_fold()] == [None] * 3


@pytest.mark.parametrize("slowdown", [1.0, 0.5, 2.0])
def test_the_next_larger_winner_is_the_start_of_smaller_candidates(
    pretrained: Path, found: SearchResult, tmp_path: Path, slowdown: float
) -> None:
    """The winners use their budgets, and the largest one is the MasterNet.

    slowdown: of the machine when the winners were measured.
    """
    chosen = asked(pretrained, budget=None, budgets=("1.1x", "0.9x", "0.8x", "0.6x"))
    others = [MASTER.with_stage(0, replace(MASTER.stage(0), width=width)) for width in (8, 24, 32)]
    with Study.create_or_resume(tmp_path / "study", chosen) as study:
        contexts = SearchContext(study, 10, lab=ClosedFormLatency(chosen)).each_budget()
        for context, structure in zip(contexts, (MASTER, *others), strict=True):
            master_ms = context.latency.measured[MASTER].network.ms_per_image
            slow_ms = slowdown * master_ms
            used_ms = 0.97 * context.budget.ms_per_image(slow_ms)
            winner = replace(
                found.selected, structure=structure, measured_ms=used_ms, master_ms=slow_ms
            )
            context.study.save_json(layout.SELECTED, winner.to_json())
            context.study.winner_weights.touch()
        larger = [make_candidate_job(context).larger for context in contexts]
        weights = [context.study.winner_weights for context in contexts]
        assert larger == [None, None, (others[0], weights[1]), (others[1], weights[2])]


# Assembling


def trial(index: int, text: str, repeat: int = 0) -> Trial:
    return Trial(index, SuperBlock(**text_fields(text)), repeat)


def text_fields(text: str) -> dict[str, Any]:
    """The fields of the first super-block of a structure with this notation."""
    stage = Structure.parse(f"Conv3x8s2 {text} XX3x8 Conv1x16 @32").stage(0)
    return {name: getattr(stage, name)
            for name in ("type", "depth", "width", "stride", "kernel", "ratio")}  # fmt: skip


FOUR = Structure.parse("Conv3x16s2 XX3x24 XX3x32s2*2 BL3x96s2r0.25*3 DW3x64s2r3*2 Conv1x128 @32")


def with_block(index: int, text: str) -> Structure:
    return FOUR.with_stage(index, SuperBlock(**text_fields(text)))


def test_an_unchanged_structure_needs_no_trial() -> None:
    assert nearest_trials(FOUR, FOUR, [trial(1, "XX3x32s2*2")]) == {}


def test_the_most_similar_super_block_of_the_type_is_inherited() -> None:
    trials = [trial(2, "DW3x64s2r3*3"), trial(2, "DW3x96s2r3*4"), trial(2, "DW3x96s2r6*3"),
              trial(2, "XX3x96s2*3"), trial(1, "DW3x96s2r3*3")]  # fmt: skip
    structure = with_block(2, "DW3x88s2r3*4")
    assert nearest_trials(structure, FOUR, trials) == {2: trials[1]}


def test_the_own_super_block_is_inherited_where_it_is_as_similar() -> None:
    trials = [trial(2, "BL3x192s2r0.25*3")]
    assert nearest_trials(with_block(2, "BL3x104s2r0.25*3"), FOUR, trials) == {}
    assert nearest_trials(with_block(2, "BL3x184s2r0.25*3"), FOUR, trials) == {2: trials[0]}


def test_a_type_without_a_trial_is_left_to_the_master_net() -> None:
    assert nearest_trials(with_block(2, "XX3x96s2"), FOUR, [trial(2, "DW3x96s2r3")]) == {}


def test_needed_trials_are_named_once() -> None:
    trials = [trial(1, "DW3x32s2r3"), trial(2, "DW3x96s2r3")]
    both = with_block(1, "DW3x40s2r3").with_stage(2, trials[1].super_block)
    assert needed_trials([both, with_block(1, "DW3x32s2r3")], FOUR, trials) == trials
